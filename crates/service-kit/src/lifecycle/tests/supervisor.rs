use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::lifecycle::sentinel::{DeadlineMonitor, Exit, SignalSource};
use crate::lifecycle::{Cut, ExitReason, Readiness, Role, Signal, Supervisor, TaskError, run};

impl SignalSource for mpsc::UnboundedReceiver<Signal> {
    async fn next(&mut self) -> Signal {
        match self.recv().await {
            Some(signal) => signal,
            None => pending().await,
        }
    }
}

/// Exit codes and their times.
pub(super) type Exits = Arc<Mutex<Vec<(i32, Instant)>>>;

/// Starts a sentinel whose exits are recorded.
pub(super) fn guard(
    supervisor: &Supervisor,
    notifier: &Notifier,
    readiness: &Readiness,
) -> (mpsc::UnboundedSender<Signal>, Exits) {
    let exits = Exits::default();
    let recorder = Arc::clone(&exits);
    let guard = DeadlineMonitor {
        supervisor: supervisor.clone(),
        notifier: notifier.clone(),
        readiness: readiness.clone(),
        exit: Exit(Arc::new(move |code| {
            lock_mutex(&recorder).push((code, Instant::now()));
        })),
    };
    let (signals, source) = mpsc::unbounded_channel();
    tokio::spawn(guard.run_until_exit(source));
    (signals, exits)
}

async fn run_alone(supervisor: &Supervisor) -> ExitReason {
    let (notifier, readiness) = (Notifier::to(None, None), Readiness::new());
    let ended = run(supervisor, &notifier, &readiness);
    timeout(secs(60), ended).await.expect("the service ends")
}

fn failed(reason: ExitReason) -> (&'static str, String) {
    assert_eq!(reason.exit_code(), 70);
    match reason {
        ExitReason::TaskFailed { task, cause } => (task, cause),
        other => panic!("ended by {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_essential_task_that_ends_ends_the_service() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot accept")]
    struct Failure(#[source] std::io::Error);

    let supervisor = Supervisor::new();
    supervisor.spawn("listener", Role::Essential, async {
        Err(Failure(std::io::Error::other("too many open files")))
    });
    assert_eq!(
        failed(run_alone(&supervisor).await),
        ("listener", "cannot accept: too many open files".to_owned())
    );

    let supervisor = Supervisor::new();
    supervisor.spawn("jobs", Role::Essential, async {
        if secs(1) > secs(0) {
            panic!("index {} out of range", 7);
        }
        Ok::<(), Infallible>(())
    });
    assert_eq!(
        failed(run_alone(&supervisor).await),
        ("jobs", "panicked: index 7 out of range".to_owned())
    );

    let supervisor = Supervisor::new();
    supervisor.spawn("writer", Role::Essential, async {
        Ok::<(), Infallible>(())
    });
    assert_eq!(
        failed(run_alone(&supervisor).await),
        ("writer", "ended too early".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_fails_does_not_end_the_service() {
    let supervisor = Supervisor::new();
    supervisor.spawn("error", Role::Helper, async {
        Err::<(), TaskError>("no".into())
    });
    supervisor.spawn("panic", Role::Helper, async {
        if secs(1) > secs(0) {
            panic!("no");
        }
        Ok::<(), Infallible>(())
    });
    until("both ended", secs(1), || supervisor.running().is_empty()).await;
    assert!(!supervisor.stopping().is_cancelled());
    supervisor.stop(ExitReason::Finished);
    assert_eq!(run_alone(&supervisor).await.exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_helper_is_restarted_with_growing_waits() {
    let supervisor = Supervisor::new();
    let starts: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&starts);
    supervisor.spawn_restarting("backfill", move || {
        lock_mutex(&seen).push(Instant::now());
        let count = lock_mutex(&seen).len();
        async move {
            match count {
                // A panic counts like an error.
                1 => panic!("first"),
                2..=11 => Err::<(), TaskError>("again".into()),
                // A long run resets the wait to the shortest one.
                12 => {
                    sleep(secs(61)).await;
                    Err("late".into())
                }
                13 => Err("once more".into()),
                _ => Ok(()),
            }
        }
    });
    until("done", secs(600), || supervisor.running().is_empty()).await;
    let starts = lock_mutex(&starts).clone();
    let waits: Vec<u128> = starts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis() / 10 * 10)
        .collect();
    assert_eq!(
        waits,
        [
            250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000, 30000, 61250, 500
        ]
    );
    assert!(!supervisor.stopping().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_backoff() {
    let supervisor = Supervisor::new();
    supervisor.spawn_restarting("backfill", || async { Err::<(), TaskError>("no".into()) });
    sleep(secs(100)).await;
    supervisor.stop(ExitReason::Finished);
    let begun = Instant::now();
    run_alone(&supervisor).await;
    assert!(begun.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_drains_and_says_so() {
    let systemd = Systemd::paused();
    let (notifier, readiness) = (systemd.notifier(None), Readiness::new());
    let supervisor = Supervisor::new();
    let finished = Arc::new(AtomicBool::new(false));
    let (soft, done) = (supervisor.stopping().clone(), Arc::clone(&finished));
    supervisor.spawn("listener", Role::Essential, async move {
        soft.cancelled().await;
        sleep(secs(12)).await;
        done.store(true, Ordering::SeqCst);
        Ok::<(), Infallible>(())
    });
    let begun = Instant::now();
    supervisor.stop(ExitReason::Signal(Signal::Terminate));
    let reason = run(&supervisor, &notifier, &readiness).await;
    assert_eq!(reason.exit_code(), 0);
    assert!(finished.load(Ordering::SeqCst));
    assert_eq!(begun.elapsed().as_secs(), 12);
    assert!(!readiness.is_ready());
    assert_eq!(
        systemd.texts(),
        [
            "STOPPING=1",
            "STATUS=Stopping (SIGTERM), finishing work for at most 20 s"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_exceeds_the_drain_budget_is_cut_off() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let supervisor = Supervisor::new();
    supervisor.set_drain_budget(secs(5));
    let dropped = Arc::new(AtomicBool::new(false));
    let witness = Dropped(Arc::clone(&dropped));
    supervisor.spawn("stubborn", Role::Essential, async move {
        let _witness = witness;
        pending::<Result<(), Infallible>>().await
    });
    let request = supervisor.spawn_request("request", pending::<()>());
    let begun = Instant::now();
    supervisor.stop(ExitReason::Signal(Signal::Terminate));
    assert_eq!(run_alone(&supervisor).await.exit_code(), 0);
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(request.await, Err(Cut::Aborted));
    assert_eq!(supervisor.running(), "");
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_when_nobody_waits_for_it() {
    let supervisor = Supervisor::new();
    let (sender, receiver) = oneshot::channel();
    drop(supervisor.spawn_request("remember", async move {
        sleep(secs(3)).await;
        sender.send("stored").expect("the test listens");
    }));
    supervisor.stop(ExitReason::Finished);
    run_alone(&supervisor).await;
    assert_eq!(receiver.await, Ok("stored"));

    let supervisor = Supervisor::new();
    assert_eq!(
        supervisor.spawn_request("sum", async { 1 + 1 }).await,
        Ok(2)
    );
    let panics = supervisor.spawn_request("panic", async {
        if secs(1) > secs(0) {
            panic!("no");
        }
    });
    assert_eq!(panics.await, Err(Cut::Panicked));
    assert!(!supervisor.stopping().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn the_second_signal_ends_at_once() {
    for (second, code) in [(Signal::Terminate, 143), (Signal::Interrupt, 130)] {
        let systemd = Systemd::paused();
        let (notifier, readiness) = (systemd.notifier(None), Readiness::new());
        let supervisor = Supervisor::new();
        supervisor.spawn(
            "stubborn",
            Role::Essential,
            pending::<Result<(), Infallible>>(),
        );
        let (signals, exits) = guard(&supervisor, &notifier, &readiness);
        signals.send(Signal::Terminate).expect("the guard listens");
        assert_eq!(
            supervisor.stop_requested().await,
            ExitReason::Signal(Signal::Terminate)
        );
        sleep(secs(3)).await;
        assert!(lock_mutex(&exits).is_empty(), "the first one drains");
        signals.send(second).expect("the guard listens");
        until("the exit", secs(1), || !lock_mutex(&exits).is_empty()).await;
        assert_eq!(lock_mutex(&exits)[0].0, code);
        // The sentinel alone announced the stop, because run() was never called.
        assert_eq!(systemd.times("STOPPING=1").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_hangs_ends_with_70() {
    let (notifier, readiness) = (Notifier::to(None, None), Readiness::new());
    let supervisor = Supervisor::new();
    let (signals, exits) = guard(&supervisor, &notifier, &readiness);
    signals.send(Signal::Terminate).expect("the guard listens");
    let begun = Instant::now();
    // run() is never called, as if the whole runtime were blocked.
    until("the exit", secs(60), || !lock_mutex(&exits).is_empty()).await;
    let (code, at) = lock_mutex(&exits)[0];
    assert_eq!(code, 70);
    assert_eq!((at - begun).as_secs(), 25, "20 s drain + 2 s + 3 s");
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_counts() {
    let supervisor = Supervisor::new();
    let soft = supervisor.stopping().clone();
    supervisor.spawn("listener", Role::Essential, async move {
        soft.cancelled().await;
        Err::<(), TaskError>("closing failed".into())
    });
    supervisor.stop(ExitReason::Signal(Signal::Interrupt));
    supervisor.stop(ExitReason::Finished);
    assert_eq!(
        run_alone(&supervisor).await,
        ExitReason::Signal(Signal::Interrupt)
    );
}

#[tokio::test(start_paused = true)]
async fn heartbeats_age_and_go_away_with_their_loop() {
    let supervisor = Supervisor::new();
    let jobs = supervisor.heartbeat("jobs", Role::Essential, secs(10));
    let review = supervisor.heartbeat("review", Role::Helper, secs(5));
    sleep(secs(9)).await;
    assert!(supervisor.progress().is_fresh(), "helpers do not count");
    assert_eq!(
        supervisor.progress().to_string(),
        "jobs 9.0 s of 10.0 s, review STALE 9.0 s of 5.0 s"
    );
    sleep(secs(1)).await;
    assert!(!supervisor.progress().is_fresh());
    jobs.beat();
    assert!(supervisor.progress().is_fresh());

    let rounds = Arc::new(AtomicU32::new(0));
    jobs.idle(async {
        for _ in 0..100 {
            sleep(secs(1)).await;
            assert!(supervisor.progress().is_fresh());
            rounds.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    assert_eq!(rounds.load(Ordering::SeqCst), 100);

    drop((jobs, review));
    assert_eq!(supervisor.progress().to_string(), "no heartbeats");
}
