use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::mpsc;

use super::supervisor::{Exits, guard};
use super::*;
use crate::lifecycle::{
    ExitReason, Heartbeat, Probe, ProbeError, Readiness, Role, Signal, Supervisor, Watchdog, run,
};

const SERVED: u8 = 0;
const HANGS: u8 = 1;
const FAILS: u8 = 2;

const LIMIT: Duration = Duration::from_secs(30);

/// A service with one essential loop, whose heartbeat belongs to the test.
struct Service {
    systemd: Systemd,
    supervisor: Supervisor,
    notifier: Notifier,
    readiness: Readiness,
    exits: Exits,
    request_path: Arc<AtomicU8>,
    _signals: mpsc::UnboundedSender<Signal>,
}

impl Service {
    async fn start(limit: Option<Duration>) -> Self {
        let systemd = Systemd::paused();
        let notifier = systemd.notifier(limit);
        let (supervisor, readiness) = (Supervisor::new(), Readiness::new());
        let (signals, exits) = guard(&supervisor, &notifier, &readiness);
        let request_path = Arc::new(AtomicU8::new(SERVED));
        let watchdog = Watchdog::new(&supervisor, &notifier, &readiness, probe(&request_path));
        watchdog.prove(secs(10)).await.expect("served");
        readiness.headline("Serving on 127.0.0.1:8765");
        notifier.ready(&readiness.sentence());
        watchdog.start();
        Self {
            systemd,
            supervisor,
            notifier,
            readiness,
            exits,
            request_path,
            _signals: signals,
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        self.supervisor.heartbeat("jobs", Role::Essential, secs(8))
    }

    async fn beat_for(&self, heartbeat: &Heartbeat, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            heartbeat.beat();
            sleep(secs(1)).await;
        }
    }

    fn exit(&self) -> Option<(i32, Instant)> {
        lock_mutex(&self.exits).first().copied()
    }
}

fn probe(state: &Arc<AtomicU8>) -> Probe {
    let state = Arc::clone(state);
    Probe::new(move || {
        let state = state.load(Ordering::SeqCst);
        async move {
            match state {
                SERVED => Ok(()),
                FAILS => Err("the router answered 500".into()),
                _ => pending().await,
            }
        }
    })
}

fn gaps(pings: &[Instant]) -> impl Iterator<Item = Duration> {
    pings.windows(2).map(|pair| pair[1] - pair[0])
}

#[tokio::test(start_paused = true)]
async fn pings_come_at_most_every_third_of_the_limit() {
    let service = Service::start(Some(LIMIT)).await;
    let jobs = service.heartbeat();
    service.beat_for(&jobs, secs(600)).await;
    let pings = service.systemd.pings();
    assert!(pings.len() >= 40, "{} pings", pings.len());
    for gap in gaps(&pings) {
        assert!(gap >= LIMIT / 3, "too often: {gap:?}");
        assert!(gap < LIMIT / 2, "too seldom: {gap:?}");
    }
    let ready = service.systemd.times("READY=1");
    assert_eq!(ready.len(), 1);
    assert!(ready[0] <= pings[0]);
    assert_eq!(service.systemd.status(), "Serving on 127.0.0.1:8765");
    assert!(service.readiness.is_ready());
    assert_eq!(service.exit(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hung_loop_stops_the_pings_until_it_moves_again() {
    let service = Service::start(Some(LIMIT)).await;
    let jobs = service.heartbeat();
    service.beat_for(&jobs, secs(60)).await;
    until("withheld", secs(20), || !service.readiness.is_ready()).await;
    let before = service.systemd.pings();
    sleep(secs(8)).await;
    assert_eq!(service.systemd.pings().len(), before.len());
    let status = service.systemd.status();
    for part in [
        "Serving on 127.0.0.1:8765, progress stalled, watchdog ping withheld: ",
        "request path 0.0 s of 15.0 s",
        "jobs STALE ",
        "s of 8.0 s",
    ] {
        assert!(status.contains(part), "{part:?} is not in {status:?}");
    }

    service.beat_for(&jobs, secs(60)).await;
    let after = service.systemd.pings();
    assert!(after.len() > before.len() + 3);
    assert!(after[before.len()] - before[before.len() - 1] < LIMIT);
    assert!(gaps(&after).all(|gap| gap >= LIMIT / 3));
    assert!(service.readiness.is_ready());
    assert_eq!(service.systemd.status(), "Serving on 127.0.0.1:8765");
    assert_eq!(service.exit(), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_path_that_does_not_serve_ends_the_process_before_systemd_does() {
    for how in [HANGS, FAILS] {
        let service = Service::start(Some(LIMIT)).await;
        sleep(secs(100)).await;
        service.request_path.store(how, Ordering::SeqCst);
        let begun = Instant::now();
        until("the exit", secs(60), || service.exit().is_some()).await;
        let (code, at) = service.exit().expect("an exit");
        assert_eq!(code, 70);
        let pings = service.systemd.pings();
        let silence = at - pings[pings.len() - 1];
        assert!(silence >= LIMIT * 9 / 10 && silence < LIMIT, "{silence:?}");
        assert!(at - begun < LIMIT * 3 / 2, "{:?}", at - begun);
        let status = service.systemd.status();
        assert!(
            status.starts_with("Ending itself: the service hangs, no watchdog ping for 27."),
            "{status}"
        );
        assert!(status.contains("request path STALE"), "{status}");
        assert!(status.contains("runtime moves"), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_slow_answer_is_forgiven() {
    let service = Service::start(Some(LIMIT)).await;
    sleep(secs(100)).await;
    service.request_path.store(HANGS, Ordering::SeqCst);
    sleep(secs(6)).await;
    service.request_path.store(SERVED, Ordering::SeqCst);
    sleep(secs(100)).await;
    assert!(gaps(&service.systemd.pings()).all(|gap| gap < LIMIT * 2 / 3));
    assert!(
        !service
            .systemd
            .texts()
            .iter()
            .any(|text| text.contains("stalled"))
    );
    assert_eq!(service.exit(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hung_helper_is_no_reason_to_restart() {
    let service = Service::start(Some(LIMIT)).await;
    let _review = service
        .supervisor
        .heartbeat("review", Role::Helper, secs(5));
    sleep(secs(120)).await;
    assert!(service.readiness.is_ready());
    assert!(service.systemd.pings().len() >= 8);
}

#[tokio::test(start_paused = true)]
async fn without_a_watchdog_a_hang_is_shown_but_nothing_ends() {
    let service = Service::start(None).await;
    let jobs = service.heartbeat();
    service.beat_for(&jobs, secs(60)).await;
    assert!(service.readiness.is_ready());
    sleep(secs(600)).await;
    assert!(!service.readiness.is_ready());
    let status = service.systemd.status();
    assert!(status.contains("no watchdog to restart it"), "{status}");
    assert!(service.systemd.pings().is_empty());
    assert_eq!(service.exit(), None);
    service.beat_for(&jobs, secs(20)).await;
    assert!(service.readiness.is_ready());
}

#[tokio::test(start_paused = true)]
async fn pings_go_on_while_draining() {
    let service = Service::start(Some(secs(6))).await;
    let soft = service.supervisor.stopping().clone();
    service
        .supervisor
        .spawn("listener", Role::Essential, async move {
            soft.cancelled().await;
            sleep(secs(18)).await;
            Ok::<(), Infallible>(())
        });
    sleep(secs(10)).await;
    // The router is closed first, which does not count as a hang.
    service.request_path.store(HANGS, Ordering::SeqCst);
    let before = service.systemd.pings().len();
    service
        .supervisor
        .stop(ExitReason::Signal(Signal::Terminate));
    let reason = run(&service.supervisor, &service.notifier, &service.readiness).await;
    assert_eq!(reason.exit_code(), 0);
    assert_eq!(service.supervisor.running(), "");
    assert!(service.systemd.pings().len() >= before + 6);
    assert_eq!(service.systemd.times("STOPPING=1").len(), 1);
    assert!(service.systemd.status().starts_with("Stopping (SIGTERM)"));
    assert_eq!(service.exit(), None);
}

#[tokio::test(start_paused = true)]
async fn the_status_line_follows_the_conditions_but_not_too_often() {
    let service = Service::start(Some(LIMIT)).await;
    let database = service.readiness.condition("database", "connecting");
    let begun = Instant::now();
    for attempt in 0..200 {
        database.unmet(&format!("unreachable: attempt {attempt}"));
        sleep(Duration::from_millis(50)).await;
    }
    sleep(secs(60)).await;
    let statuses: Vec<Line> = service
        .systemd
        .lines()
        .into_iter()
        .filter(|line| line.at >= begun && line.text.starts_with("STATUS="))
        .collect();
    assert!(
        statuses.len() >= 15 && statuses.len() <= 30,
        "{}",
        statuses.len()
    );
    let status = service.systemd.status();
    assert!(
        status.starts_with("Serving on 127.0.0.1:8765, database unreachable: attempt 199 ("),
        "{status}"
    );
    // A lost database does not count as a hang.
    assert!(service.systemd.pings().len() >= 5);
    database.met("connected");
    until("well again", secs(7), || {
        service.systemd.status() == "Serving on 127.0.0.1:8765"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn proving_is_bounded_and_stops_with_the_service() {
    let supervisor = Supervisor::new();
    let state = Arc::new(AtomicU8::new(FAILS));
    let (notifier, readiness) = (Notifier::to(None, None), Readiness::new());
    let watchdog = Watchdog::new(&supervisor, &notifier, &readiness, probe(&state));
    let begun = Instant::now();
    let error = watchdog.prove(secs(5)).await.expect_err("not served");
    assert!(matches!(error, ProbeError::Failed(_)), "{error:?}");
    assert!(begun.elapsed() <= secs(5));
    state.store(HANGS, Ordering::SeqCst);
    let error = watchdog.prove(secs(5)).await.expect_err("not served");
    assert!(matches!(error, ProbeError::Hung(_)), "{error:?}");
    assert!(!readiness.is_ready());

    let late = Arc::clone(&state);
    tokio::spawn(async move {
        sleep(secs(3)).await;
        late.store(SERVED, Ordering::SeqCst);
    });
    state.store(FAILS, Ordering::SeqCst);
    watchdog.prove(secs(5)).await.expect("served in the end");
    assert!(readiness.is_ready());

    supervisor.stop(ExitReason::Finished);
    let error = watchdog.prove(secs(5)).await.expect_err("stopping");
    assert!(matches!(error, ProbeError::Stopping), "{error:?}");
}
