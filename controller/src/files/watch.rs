//! When to look at the files again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::scan::Input;

/// How long it must be quiet after a change that is complete: a renamed file, one closed after writing.
const QUIET: Duration = Duration::from_millis(2);
/// How long it must be quiet after a change that may not be complete.
const QUIET_AFTER_WRITE: Duration = Duration::from_millis(50);
/// How long changes that come one after another are gathered at most.
const AT_MOST: Duration = Duration::from_millis(25);
/// The same where a file is being written.
const AT_MOST_WHILE_WRITTEN: Duration = Duration::from_millis(250);
/// Between two looks at all files, should an event have been lost.
const RESCAN: Duration = Duration::from_secs(5);
/// The same where the system watches nothing for us.
const POLL: Duration = Duration::from_millis(500);
/// One rescan out of so many reads all files, whatever their times say.
const THOROUGH_EVERY: u32 = 12;

/// Watches the inputs.
#[derive(Debug)]
pub(super) struct Watch {
    signals: mpsc::UnboundedReceiver<Signal>,
    /// None where the system has no watches to give.
    watcher: Option<RecommendedWatcher>,
    /// Watches the folders around the inputs, which can be replaced themselves.
    _around: Option<RecommendedWatcher>,
    roots: Vec<PathBuf>,
    linked: HashSet<PathBuf>,
    next_rescan: Instant,
    rescans: u32,
}

#[derive(Debug)]
enum Signal {
    /// A file that may be in the middle of being written.
    Begun(PathBuf),
    /// Changes that are complete.
    Done(Vec<PathBuf>),
    /// An input was replaced as a whole.
    Replaced,
    /// Events were lost.
    Lost,
}

impl Watch {
    /// Starts to watch. Where that fails, files are looked at often instead.
    pub(super) fn start(inputs: &[Input]) -> Self {
        let (sender, signals) = mpsc::unbounded_channel();
        let roots: Vec<PathBuf> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Path(path) => Some(path.clone()),
                Input::Stdin => None,
            })
            .collect();
        let around = watch_around(&roots, sender.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if let Some(signal) = Signal::of(event) {
                // Nobody listens any more at the end of the process.
                drop(sender.send(signal));
            }
        });
        let mut watch = Self {
            signals,
            watcher: watcher.map_err(|error| warn(&error)).ok(),
            _around: around,
            roots,
            linked: HashSet::new(),
            next_rescan: Instant::now() + RESCAN,
            rescans: 0,
        };
        watch.add_roots();
        watch
    }

    fn add_roots(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for root in self.roots.iter().filter(|root| root.is_dir()) {
            // A watch of a folder that was replaced is a watch of nothing.
            drop(watcher.unwatch(root));
            if let Err(error) = watcher.watch(root, RecursiveMode::Recursive) {
                warn(&error);
                self.watcher = None;
                return;
            }
        }
    }

    /// Watches also the folders to which links lead.
    pub(super) fn follow(&mut self, linked: HashSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in linked.difference(&self.linked) {
            // The slow rescan makes up for a folder that cannot be watched.
            drop(watcher.watch(folder, RecursiveMode::NonRecursive));
        }
        for folder in self
            .linked
            .difference(&linked)
            .filter(|folder| !self.roots.contains(folder))
        {
            drop(watcher.unwatch(folder));
        }
        self.linked = linked;
    }

    /// Waits until there is something to look at, or until `again` is over; true where all files should be read.
    pub(super) async fn changed(&mut self, again: Option<Duration>) -> bool {
        let rescan = again.map_or(self.next_rescan, |again| {
            self.next_rescan.min(Instant::now() + again)
        });
        let signal = tokio::select! {
            Some(signal) = self.signals.recv() => Some(signal),
            () = sleep_until(rescan) => None,
        };
        let Some(first) = signal else {
            let due = Instant::now() >= self.next_rescan;
            if due {
                self.next_rescan =
                    Instant::now() + if self.watcher.is_some() { RESCAN } else { POLL };
                self.rescans = self.rescans.wrapping_add(1);
            }
            return due && self.rescans.is_multiple_of(THOROUGH_EVERY);
        };
        self.gather(first).await
    }

    /// Takes in what comes together: a change is rarely one event.
    async fn gather(&mut self, first: Signal) -> bool {
        let start = Instant::now();
        let mut written = HashSet::new();
        let mut lost = false;
        let mut next = Some(first);
        while let Some(signal) = next.take() {
            match signal {
                Signal::Begun(path) => {
                    written.insert(path);
                }
                Signal::Done(paths) => paths.iter().for_each(|path| {
                    written.remove(path);
                }),
                Signal::Replaced => self.add_roots(),
                Signal::Lost => lost = true,
            }
            let (quiet, at_most) = if written.is_empty() {
                (QUIET, AT_MOST)
            } else {
                (QUIET_AFTER_WRITE, AT_MOST_WHILE_WRITTEN)
            };
            if start.elapsed() < at_most {
                next = timeout(quiet, self.signals.recv()).await.ok().flatten();
            }
        }
        // What else is there already belongs to the same look.
        while let Ok(signal) = self.signals.try_recv() {
            match signal {
                Signal::Replaced => self.add_roots(),
                Signal::Lost => lost = true,
                Signal::Begun(_) | Signal::Done(_) => {}
            }
        }
        lost
    }
}

impl Signal {
    fn of(event: notify::Result<Event>) -> Option<Self> {
        let Ok(mut event) = event else {
            return Some(Self::Lost);
        };
        if event.need_rescan() {
            return Some(Self::Lost);
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                Some(Self::Done(event.paths))
            }
            // Looking at files is an event, too, and ours to begin with.
            EventKind::Access(_) => None,
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                event.paths.pop().map(Self::Begun)
            }
            _ => Some(Self::Done(event.paths)),
        }
    }
}

/// Watches the folders around the inputs for the inputs themselves: a file, a folder or a link that is replaced.
fn watch_around(
    roots: &[PathBuf],
    sender: mpsc::UnboundedSender<Signal>,
) -> Option<RecommendedWatcher> {
    let absolute = |path: &Path| std::path::absolute(path).ok();
    let inputs: Vec<PathBuf> = roots.iter().filter_map(|root| absolute(root)).collect();
    let watched = inputs.clone();
    let handler = move |event: notify::Result<Event>| {
        let ours = match &event {
            Ok(event) => event.paths.iter().any(|path| inputs.contains(path)),
            Err(_) => true,
        };
        if !ours {
            return;
        }
        let Some(signal) = Signal::of(event) else {
            return;
        };
        let replaced =
            matches!(&signal, Signal::Done(paths) if paths.iter().any(|path| path.is_dir()));
        drop(sender.send(signal));
        if replaced {
            drop(sender.send(Signal::Replaced));
        }
    };
    let mut watcher = notify::recommended_watcher(handler)
        .map_err(|error| warn(&error))
        .ok()?;
    for folder in watched
        .iter()
        .filter_map(|input| input.parent())
        .collect::<HashSet<_>>()
    {
        // The slow rescan makes up for a folder that cannot be watched.
        drop(watcher.watch(folder, RecursiveMode::NonRecursive));
    }
    Some(watcher)
}

fn warn(error: &notify::Error) {
    tracing::warn!(%error, "the system cannot watch the manifests; they are looked at every {} ms instead", POLL.as_millis());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    async fn noticed(watch: &mut Watch) {
        timeout(Duration::from_secs(4), watch.changed(None))
            .await
            .expect("nothing was noticed");
    }

    async fn drain(watch: &mut Watch) {
        while timeout(Duration::from_millis(150), watch.changed(None))
            .await
            .is_ok()
        {}
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("manifests");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("a.yaml");
        let mut watch = Watch::start(&[Input::Path(folder.clone())]);
        fs::write(&file, "1").unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .unwrap()
            .write_all(b"2")
            .unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::write(outer.path().join("new"), "3").unwrap();
        fs::rename(outer.path().join("new"), &file).unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::remove_file(&file).unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::create_dir(folder.join("sub")).unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::write(folder.join("sub/b.yaml"), "1").unwrap();
        noticed(&mut watch).await;
    }

    #[tokio::test]
    async fn a_replaced_folder_is_noticed_and_watched_again() {
        let outer = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(outer.path().join(version)).unwrap();
        }
        let link = outer.path().join("current");
        std::os::unix::fs::symlink("v1", &link).unwrap();
        let mut watch = Watch::start(&[Input::Path(link.clone())]);
        std::os::unix::fs::symlink("v2", outer.path().join("next")).unwrap();
        fs::rename(outer.path().join("next"), &link).unwrap();
        noticed(&mut watch).await;
        drain(&mut watch).await;
        fs::write(outer.path().join("v2/a.yaml"), "1").unwrap();
        noticed(&mut watch).await;
    }
}
