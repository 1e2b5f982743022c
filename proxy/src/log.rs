//! The access log: one JSON line per request, never a secret.
//!
//! A worker writes lines into a buffer of its own; one thread collects the buffers and writes them out. Where that thread
//! cannot keep up, lines are lost and counted; requests do not wait.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parking_lot::Mutex;

use crate::Error;
use crate::metrics::Metrics;
use crate::options::AccessLog;
use crate::record::Record;
use line::Clock;

/// A query without its values, for people.
pub(crate) fn redacted(query: &str) -> String {
    let mut text = Vec::new();
    line::redact(&mut text, query);
    String::from_utf8(text).unwrap_or_default()
}

/// How much of a worker's log may wait to be written.
const LIMIT: usize = 1 << 20;

/// Lines that come within this time are written together.
const GATHER: Duration = Duration::from_millis(5);

/// What a worker writes into.
#[derive(Debug, Default)]
struct Buffer {
    text: Vec<u8>,
    clock: Clock,
    lost: u64,
}

/// What workers and the thread share.
#[derive(Debug)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    closing: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
    metrics: Arc<Metrics>,
}

/// One worker's way into the log. A clone has a buffer of its own: give each worker one.
#[derive(Debug)]
pub(crate) struct Logger(Option<(Arc<Mutex<Buffer>>, Arc<Shared>)>);

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer(Option<(JoinHandle<()>, Arc<Shared>)>);

impl Clone for Logger {
    fn clone(&self) -> Self {
        Self(
            self.0
                .as_ref()
                .map(|(_, shared)| (shared.buffer(), Arc::clone(shared))),
        )
    }
}

impl Shared {
    fn buffer(&self) -> Arc<Mutex<Buffer>> {
        let buffer = Arc::new(Mutex::new(Buffer::default()));
        self.buffers.lock().push(Arc::clone(&buffer));
        buffer
    }
}

/// Opens the log.
///
/// # Errors
/// The file cannot be opened, or the thread not started.
pub(crate) fn open(to: &AccessLog, metrics: &Arc<Metrics>) -> Result<(Logger, Writer), Error> {
    match to {
        AccessLog::Off => Ok((Logger(None), Writer(None))),
        AccessLog::Stdout => start(io::stdout(), metrics),
        AccessLog::File(path) => {
            let open: io::Result<File> = OpenOptions::new().append(true).create(true).open(path);
            let what = || format!("opening the access log {} (--access-log)", path.display());
            start(
                open.map_err(|source| Error::Start {
                    what: what(),
                    source,
                })?,
                metrics,
            )
        }
    }
}

fn start(
    to: impl Write + Send + 'static,
    metrics: &Arc<Metrics>,
) -> Result<(Logger, Writer), Error> {
    let shared = Arc::new(Shared {
        buffers: Mutex::default(),
        closing: AtomicBool::new(false),
        thread: std::sync::OnceLock::new(),
        metrics: Arc::clone(metrics),
    });
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn({
            let shared = Arc::clone(&shared);
            move || run(to, &shared)
        })
        .map_err(|source| Error::Start {
            what: "starting the thread of the access log".to_owned(),
            source,
        })?;
    // Nobody else sets it.
    let _set = shared.thread.set(thread.thread().clone());
    Ok((
        Logger(Some((shared.buffer(), Arc::clone(&shared)))),
        Writer(Some((thread, shared))),
    ))
}

impl Logger {
    /// Writes nothing.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    /// Whether nothing is written at all.
    pub(crate) const fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Writes a request down. Costs nothing where the log is off.
    pub(crate) fn write(&self, record: &Record) {
        let Some((buffer, shared)) = &self.0 else {
            return;
        };
        let mut buffer = buffer.lock();
        let Buffer { text, clock, lost } = &mut *buffer;
        if text.len() >= LIMIT {
            *lost += 1;
            return;
        }
        let first = text.is_empty();
        line::write(text, clock.now(), record);
        drop(buffer);
        // While the buffer is not empty the thread is awake.
        if first && let Some(thread) = shared.thread.get() {
            thread.unpark();
        }
    }
}

impl Writer {
    /// Writes out what is there, and ends.
    pub(crate) fn close(self) {
        let Some((thread, shared)) = self.0 else {
            return;
        };
        shared.closing.store(true, Ordering::Release);
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the thread of the access log has panicked");
        }
    }
}

fn run(mut to: impl Write, shared: &Shared) {
    let mut text = Vec::new();
    let mut failing = false;
    loop {
        let closing = shared.closing.load(Ordering::Acquire);
        let mut lost = 0;
        let mut any = false;
        let buffers: Vec<_> = shared.buffers.lock().clone();
        for buffer in &buffers {
            text.clear();
            {
                let mut buffer = buffer.lock();
                // The worker goes on with the memory of the last round.
                std::mem::swap(&mut text, &mut buffer.text);
                lost += std::mem::take(&mut buffer.lost);
            }
            if text.is_empty() {
                continue;
            }
            any = true;
            match to.write_all(&text).and_then(|()| to.flush()) {
                Ok(()) => failing = false,
                Err(error) => {
                    lost += memchr::memchr_iter(b'\n', &text).count() as u64;
                    if !failing {
                        tracing::error!(%error, "the access log cannot be written; lines are lost");
                    }
                    failing = true;
                }
            }
            // One burst does not hold memory for ever.
            if text.capacity() > LIMIT / 4 {
                text = Vec::new();
            }
        }
        drop(buffers);
        forget_unused(shared);
        if lost > 0 {
            shared.metrics.process().log_dropped(lost);
        }
        if closing {
            return;
        }
        // Somebody unparks as soon as there is a line, so that none waits for long.
        if any {
            std::thread::park_timeout(GATHER);
        } else {
            std::thread::park();
        }
    }
}

/// Buffers of workers that are gone, once they are empty.
fn forget_unused(shared: &Shared) {
    shared
        .buffers
        .lock()
        .retain(|buffer| Arc::strong_count(buffer) > 1 || !buffer.lock().text.is_empty());
}

#[cfg(test)]
mod tests;
