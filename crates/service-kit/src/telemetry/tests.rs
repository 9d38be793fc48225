use std::fs::File;
use std::io::{Read as _, Seek as _};

use chrono::TimeZone as _;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const SERVICE: Service = Service {
    name: "example-service",
    targets: &["example_service", "service_kit"],
};

fn fixed() -> DateTime<Utc> {
    Utc.timestamp_micros(1_790_000_000_123_456).unwrap()
}

/// Returns what `work` logs.
fn logged(level: LogLevel, form: Form, has_priority: bool, work: impl FnOnce()) -> String {
    let mut file = tempfile::tempfile().unwrap();
    let output = output::Standard::from_file(file.try_clone().unwrap());
    let target = Target::start(output, SERVICE, form, has_priority).unwrap();
    let queue = target.queue.clone();
    let layer = LogLayer {
        now: fixed,
        targets: vec![target],
    };
    tracing::subscriber::with_default(
        tracing_subscriber::registry()
            .with(level_filter(level, &SERVICE))
            .with(layer),
        work,
    );
    assert!(queue.flush_within(Duration::from_secs(10)));
    read(&mut file)
}

fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[derive(Debug, thiserror::Error)]
#[error("cannot store")]
struct Outer(#[source] std::io::Error);

fn speak() {
    let error = Outer(std::io::Error::other("disk full"));
    let span = tracing::info_span!(
        "request",
        request_id = "r-1",
        tool = tracing::field::Empty,
        tries = 1
    );
    let _guard = span.enter();
    span.record("tool", "remember");
    tracing::info!(
        project = "default",
        duration_ms = 1.5,
        rows = 3_u64,
        hit = true,
        tries = 2,
        "stored\n\u{1b}[31m{}",
        7
    );
    tracing::error!(
        error = &error as &dyn std::error::Error,
        level = "shadow",
        nan = f64::NAN,
        big = u128::MAX,
        "failed"
    );
    tracing::warn!(target: "example_service::store", text = "two words", empty = "", list = ?[1, 2]);
    tracing::debug!("not at this level");
    tracing::info!(target: "sqlx::query", "a library's chatter");
    tracing::warn!(target: "sqlx::query", "a library's warning");
}

#[test]
fn json_lines() {
    let text = logged(LogLevel::Info, Form::Json, false, speak);
    insta::assert_snapshot!(text);
    for line in text.lines() {
        let Value::Object(object) = serde_json::from_str(line).unwrap() else {
            panic!("not an object: {line}")
        };
        assert!(
            object.values().all(|value| !value.is_object()),
            "flat: {line}"
        );
    }
}

#[test]
fn pretty_lines() {
    insta::assert_snapshot!(logged(
        LogLevel::Info,
        Form::Pretty { colour: false },
        false,
        speak
    ));
}

#[test]
fn colours_are_the_only_escapes() {
    let plain = logged(LogLevel::Info, Form::Pretty { colour: false }, false, speak);
    let coloured = logged(LogLevel::Info, Form::Pretty { colour: true }, false, speak);
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    let mut bare = coloured;
    for code in ["0", "2", "31", "32", "33"] {
        bare = bare.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(bare, plain);
}

#[test]
fn priorities_stand_before_the_line() {
    let text = logged(LogLevel::Trace, Form::Json, true, || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    });
    let prefixes: Vec<&str> = text.lines().map(|line| &line[..4]).collect();
    assert_eq!(prefixes, ["<3>{", "<4>{", "<6>{", "<7>{", "<7>{"]);
}

#[test]
fn libraries_never_log_below_warnings() {
    for level in [LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
        let text = logged(level, Form::Json, false, || {
            tracing::info!(target: "rmcp::service", "canary");
            tracing::debug!(target: "hyper", "canary");
            tracing::trace!(target: "sqlx", "canary");
        });
        assert_eq!(text, "");
    }
    assert_eq!(
        logged(
            LogLevel::Error,
            Form::Json,
            false,
            || tracing::warn!(target: "rmcp", "w")
        ),
        ""
    );
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let text = logged(LogLevel::Info, Form::Json, false, || {
        tracing::info!(text = "é".repeat(100_000), "{}", "x".repeat(100_000))
    });
    assert!(text.len() < 20_000);
    assert!(
        serde_json::from_str::<Value>(&text).unwrap()["text"]
            .as_str()
            .unwrap()
            .ends_with("bytes left out)")
    );
}

#[test]
fn a_closed_reader_does_no_harm() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let queue = Queue::start(output::Standard::from_file(file), |_| Vec::new()).unwrap();
    for _ in 0..100 {
        queue.push_line(b"nobody reads this\n".to_vec());
    }
    assert!(queue.flush_within(Duration::from_secs(10)));
}

#[test]
fn a_reader_that_sleeps_does_not_stop_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let telemetry = Telemetry {
        queues: vec![Queue::start(output::Standard::from_file(file), |_| Vec::new()).unwrap()],
    };
    for _ in 0..100 {
        telemetry.queues[0].push_line(vec![b'x'; 16 * 1024]);
    }
    let begin = std::time::Instant::now();
    assert!(!flush_queues(&telemetry.queues, Duration::from_millis(50)));
    drop(telemetry);
    assert!(begin.elapsed() < LAST_WAIT + Duration::from_secs(5));
    drop(reader);
}

#[test]
fn formatted_panics_are_not_shown() {
    assert_eq!(
        panic_reason(&"written in the source"),
        "written in the source"
    );
    assert_eq!(
        panic_reason(&format!("inside of `{}`", "memory text")),
        "(not shown, it may hold data)"
    );
}
