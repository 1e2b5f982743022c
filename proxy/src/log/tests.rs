use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::record::{Details, Spoken};

fn record(details: Option<Details>) -> Record {
    Record {
        started: Instant::now(),
        details: details.map(Box::new),
        status: StatusCode::OK,
        sent: 12,
        ..Record::begin()
    }
}

fn details(target: &str) -> Details {
    Details {
        method: Method::GET,
        version: Version::HTTP_11,
        target: Some(PathAndQuery::try_from(target).unwrap()),
        host: Some(HeaderValue::from_static("a.test")),
        request_id: Some(HeaderValue::from_static("id-1")),
        client: "192.0.2.1".parse().unwrap(),
        user_agent: Some(HeaderValue::from_static("probe/1")),
        port: 8443,
        tls: true,
    }
}

fn spoken(plugin: &str) -> Spoken {
    Spoken {
        plugin: plugin.into(),
        method: None,
        reason: "ok",
        passed: true,
    }
}

fn line(record: &Record) -> String {
    let mut out = Vec::new();
    line::write(&mut out, ("2026-11-22T12:30:00", 7), record);
    String::from_utf8(out).unwrap()
}

fn path_of(target: &str) -> String {
    let value: Value = serde_json::from_str(&line(&record(Some(details(target))))).unwrap();
    value["path"].as_str().unwrap().to_owned()
}

#[test]
fn a_line_says_what_there_is_to_say() {
    let mut record = record(Some(details("/orders?page=2")));
    record.failure = Some("connect");
    record.cause = Some("refused \"twice\"".into());
    record.verdicts.push(spoken("shop/api-key"));
    record.endpoint = Some("[::1]:80".parse().unwrap());
    record.attempts = 2;
    record.upstream_time = Some(Duration::from_micros(1_050));
    record.aborted = true;
    let value: Value = serde_json::from_str(&line(&record)).unwrap();
    for (name, expected) in [
        ("time", Value::from("2026-11-22T12:30:00.007Z")),
        ("request_id", "id-1".into()),
        ("client", "192.0.2.1".into()),
        ("method", "GET".into()),
        ("host", "a.test".into()),
        ("path", "/orders?page=*".into()),
        ("protocol", "HTTP/1.1".into()),
        ("port", 8443.into()),
        ("tls", true.into()),
        ("user_agent", "probe/1".into()),
        ("status", 200.into()),
        ("bytes", 12.into()),
        ("plugin", "shop/api-key".into()),
        ("reason", "ok".into()),
        ("endpoint", "[::1]:80".into()),
        ("attempts", 2.into()),
        ("upstream_ms", 1.05.into()),
        ("failure", "connect".into()),
        ("cause", "refused \"twice\"".into()),
        ("aborted", true.into()),
    ] {
        assert_eq!(value[name], expected, "{name} in {value}");
    }
    assert!(value["duration_ms"].is_f64());
}

#[test]
fn queries_show_plain_names_only() {
    for (target, expected) in [
        ("/a?apikey=s3cret&page=2", "/a?apikey=*&page=*"),
        ("/a?s3cret", "/a?*"),
        ("/a?tok%65n%3ds3cret=", "/a?*=*"),
        ("/a?x=1=2&&y", "/a?x=*&&*"),
        ("/a?", "/a?"),
        ("/a", "/a"),
    ] {
        assert_eq!(path_of(target), expected);
    }
    assert!(!path_of(&format!("/?{}=1", "k".repeat(40))).contains("kk"));
    assert!(path_of(&format!("/?{}", "a=1&".repeat(2000))).len() < 300);
}

proptest! {
    #[test]
    fn every_line_is_json(
        host in proptest::collection::vec(any::<u8>(), 0..40),
        agent in proptest::collection::vec(any::<u8>(), 0..2000),
        cause in ".*", name in ".*",
    ) {
        // Header values as hyper lets them through, and worse.
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
        let mut record = record(Some(Details { host: value(&host), user_agent: value(&agent), ..details("/") }));
        record.cause = Some(cause.as_str().into());
        record.verdicts.push(spoken(&name));
        let line = line(&record);
        let read: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(line.matches('\n').count(), 1);
        if cause.len() <= 1024 {
            prop_assert_eq!(read["cause"].as_str(), Some(cause.as_str()));
        }
        if let Some(host) = value(&host) {
            prop_assert_eq!(read["host"].as_str().unwrap(), String::from_utf8_lossy(host.as_bytes()));
        }
    }
}

/// Takes lines, but only while it is let.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<Vec<u8>>, Mutex<()>)>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.0.1.lock();
        self.0.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_of_all_workers_are_written_before_the_end() {
    let (metrics, gate) = (Metrics::new(2), Gate::default());
    let (logger, writer) = start(gate.clone(), &metrics).unwrap();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let logger = logger.clone();
            std::thread::spawn(move || {
                (0..500).for_each(|_| logger.write(&record(Some(details("/")))))
            })
        })
        .collect();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    writer.close();
    let written = gate.0.0.lock();
    let lines: Vec<_> = std::str::from_utf8(&written).unwrap().lines().collect();
    assert_eq!(lines.len(), 1500);
    assert!(
        lines
            .iter()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
}

#[test]
fn a_log_that_does_not_move_loses_lines_and_counts_them() {
    let (metrics, gate) = (Metrics::new(1), Gate::default());
    let (logger, writer) = start(gate.clone(), &metrics).unwrap();
    let closed = gate.0.1.lock();
    let one = line(&record(Some(details("/")))).len();
    let lines = 3 * LIMIT / one;
    for _ in 0..lines {
        logger.write(&record(Some(details("/"))));
    }
    drop(closed);
    writer.close();
    let written = gate
        .0
        .0
        .lock()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let text = metrics.text().unwrap();
    let lost: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("postern_access_log_drops_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(lost > 0);
    assert_eq!(written + lost, lines);
}
