//! Real processes with real signals: this test binary starts itself with one test selected, which
//! then acts as the service.

use std::convert::Infallible;
use std::future::pending;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::*;
use crate::lifecycle::{Probe, Readiness, Role, Sentinel, Supervisor, Watchdog, run};
use crate::telemetry::{self, LogOptions, Stream};

const MODE: &str = "LIFECYCLE_TEST_MODE";

/// Not a test by itself: runs the service when a test below starts this binary.
#[test]
fn service() {
    let Ok(mode) = std::env::var(MODE) else {
        return;
    };
    let (supervisor, notifier) = (Supervisor::new(), Notifier::from_env());
    let readiness = Readiness::new();
    let sentinel =
        Sentinel::start(&supervisor, &notifier, &readiness).expect("handlers for signals");
    let service = telemetry::Service {
        name: "example-service",
        targets: &["example_service"],
    };
    let telemetry = telemetry::init(&LogOptions::default(), &service, Stream::Stderr)
        .expect("logging starts once");
    sentinel.before_exit(telemetry.flusher());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One worker, so that one task blocks them all.
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let reason = runtime.block_on(async {
        let watchdog = Watchdog::new(
            &supervisor,
            &notifier,
            &readiness,
            Probe::new(|| async { Ok(()) }),
        );
        watchdog.prove(secs(5)).await.expect("served");
        readiness.headline("Serving");
        if mode == "stubborn" {
            supervisor.spawn(
                "stubborn",
                Role::Essential,
                pending::<Result<(), Infallible>>(),
            );
        }
        if mode == "blocked" {
            let notifier = notifier.clone();
            supervisor.spawn("blocked", Role::Helper, async move {
                // The service first becomes healthy and pings.
                sleep(secs(1)).await;
                notifier.status("Blocking");
                thread::sleep(secs(3600));
                Ok::<(), Infallible>(())
            });
        }
        notifier.ready(&readiness.sentence());
        watchdog.start();
        run(&supervisor, &notifier, &readiness).await
    });
    runtime.shutdown_timeout(secs(1));
    telemetry.flush_within(secs(1));
    std::process::exit(i32::from(reason.exit_code()));
}

/// The process, killed when the test ends.
struct Process(Child);

impl Process {
    fn start(systemd: &Systemd, mode: &str, watchdog: Option<Duration>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test binary"));
        command
            .args([
                "--exact",
                "lifecycle::tests::process::service",
                "--nocapture",
            ])
            .env(MODE, mode)
            .env("NOTIFY_SOCKET", systemd.socket())
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(limit) = watchdog {
            // Without WATCHDOG_PID, as in a container.
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        Self(command.spawn().expect("a process"))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.0.id())])
            .status()
            .expect("a shell");
        assert!(status.success());
    }

    /// Returns the exit code and the log.
    fn wait(mut self) -> (Option<i32>, String) {
        let deadline = std::time::Instant::now() + secs(30);
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                break status;
            }
            assert!(std::time::Instant::now() < deadline, "the process goes on");
            thread::sleep(Duration::from_millis(5));
        };
        let mut log = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            stderr.read_to_string(&mut log).expect("a log");
        }
        (status.code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + secs(30);
    while !is_true() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sigterm_and_sigint_stop_in_order_and_sighup_does_not() {
    for signal in ["TERM", "INT"] {
        let systemd = Systemd::real();
        let process = Process::start(&systemd, "well", None);
        wait_for("ready", || !systemd.times("READY=1").is_empty());
        process.signal("HUP");
        process.signal(signal);
        let (code, log) = process.wait();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(systemd.times("STOPPING=1").len(), 1);
        let status = systemd.status();
        assert!(
            status.starts_with(&format!("Stopping (SIG{signal})")),
            "{status}"
        );
        assert!(log.contains("SIGHUP ignored"), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_the_process() {
    let systemd = Systemd::real();
    let process = Process::start(&systemd, "stubborn", None);
    wait_for("ready", || !systemd.times("READY=1").is_empty());
    process.signal("TERM");
    wait_for("stopping", || !systemd.times("STOPPING=1").is_empty());
    process.signal("TERM");
    let (code, log) = process.wait();
    assert_eq!(code, Some(143), "{log}");
    assert!(
        log.contains("second signal") && log.contains("stubborn"),
        "{log}"
    );
}

#[test]
fn a_blocked_runtime_ends_itself_and_says_why() {
    let limit = secs(2);
    let systemd = Systemd::real();
    let process = Process::start(&systemd, "blocked", Some(limit));
    let (code, log) = process.wait();
    let ended = Instant::now();
    assert_eq!(code, Some(70), "{log}");
    let pings = systemd.pings();
    assert!(!pings.is_empty());
    let silence = ended - pings[pings.len() - 1];
    assert!(silence >= limit * 8 / 10, "{silence:?}");
    let status = systemd.status();
    assert!(status.contains("runtime blocked"), "{status}");
    assert!(status.contains("request path STALE"), "{status}");
    assert!(log.contains("the runtime is blocked for"), "{log}");
    assert!(log.contains("ending the process"), "{log}");
}

#[test]
fn sigterm_is_heard_by_a_blocked_runtime() {
    let systemd = Systemd::real();
    let process = Process::start(&systemd, "blocked", None);
    wait_for("blocking", || systemd.status() == "Blocking");
    process.signal("TERM");
    wait_for("stopping", || !systemd.times("STOPPING=1").is_empty());
    process.signal("INT");
    let (code, log) = process.wait();
    assert_eq!(code, Some(130), "{log}");
}
