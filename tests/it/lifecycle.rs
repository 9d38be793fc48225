//! Start, watchdog and end of the real process, as systemd sees them.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside of the service"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Client, Server, Setup, Systemd, Wire, eventually, get, signal};
use crate::requirement::{namespace_command, needs};

/// Short enough for a test, long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(3);

fn limit(setup: Setup, limit: Duration) -> Setup {
    // Without WATCHDOG_PID, as in a container.
    setup.env("WATCHDOG_USEC", limit.as_micros().to_string())
}

#[tokio::test]
async fn ready_comes_when_requests_are_served_and_in_words() {
    let systemd = Systemd::new();
    let setup = systemd.setup();
    let mut server = setup.start();
    systemd.heard("READY=1").await;
    // At the moment of the notification. The status contains the address for a person.
    let status = systemd.status();
    let address = status
        .strip_prefix("Serving on ")
        .unwrap_or_else(|| panic!("{status:?}"));
    let address = address.split(',').next().unwrap_or_default();
    let (live, _, _) = get(&format!("http://{address}/health/live")).await;
    assert_eq!(live, 200);
    server.serving().await;
    assert_eq!(server.authority(), address);
    server
        .client()
        .remember("kept from the first moment on")
        .await;
    // Every status is a sentence for people; the last one reports no problem.
    eventually("all is well", || {
        (systemd.status() == format!("Serving on {address}")).then_some(())
    })
    .await;
    let lines = systemd.lines();
    assert_eq!(
        lines.iter().filter(|(_, line)| line == "READY=1").count(),
        1,
        "{lines:?}"
    );
    assert!(
        systemd.times("WATCHDOG=1").is_empty(),
        "nobody asked for pings"
    );
    server.stop().await;
}

#[tokio::test]
async fn pings_come_at_every_third_of_the_limit() {
    let systemd = Systemd::new();
    let server = limit(systemd.setup(), LIMIT).serve().await;
    let pings = eventually("four pings", || {
        Some(systemd.times("WATCHDOG=1")).filter(|pings| pings.len() >= 4)
    })
    .await;
    let ready = systemd.heard("READY=1").await;
    assert!(pings[0] >= ready, "a ping before READY");
    for pair in pings.windows(2) {
        let gap = pair[1] - pair[0];
        // Sent at most every third of the limit; a late reader makes gaps look shorter, a busy machine makes them
        // longer.
        assert!(
            gap >= LIMIT / 4 && gap < LIMIT * 9 / 10,
            "{gap:?} between two pings"
        );
    }
    let stopped = server.stop().await;
    assert!(!stopped.contains("ERROR"), "{stopped}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let systemd = Systemd::new();
    let setup = systemd.setup();
    let mut server = setup.serve().await;
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "remember", "arguments": { "items": [{ "content": "in the last moment" }] } } })
    .to_string();
    let mut wire = Wire::connect(&server).await;
    let head = head(
        &server,
        &format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len()),
    );
    wire.write(&head).await;
    // The service processes the request from here on.
    wire.read_until("100 Continue").await;
    let mut idle = Wire::connect(&server).await;
    idle.write(
        &head
            .replace("POST /mcp", "GET /health/live")
            .replace("Expect: 100-continue\r\n", ""),
    )
    .await;

    server.signal("TERM");
    systemd.heard("STOPPING=1").await;
    eventually("new connections are refused", || {
        std::net::TcpStream::connect(server.authority()).err()
    })
    .await;
    let (half, rest) = body.split_at(body.len() / 2);
    wire.write(half).await;
    wire.write(rest).await;
    let answer = wire.read_to_end().await;
    assert!(
        answer.contains("200 OK") && answer.contains("\"id\":7"),
        "{answer}"
    );
    assert!(answer.contains("\"isError\":false"), "{answer}");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
    assert!(
        systemd.status().starts_with("Stopping (SIGTERM)"),
        "{}",
        systemd.status()
    );
    assert!(!server.log().contains("ERROR"), "{}", server.log());

    let again = setup.serve().await;
    let found = again
        .client()
        .call("recall", json!({ "query": "last moment" }))
        .await;
    assert_eq!(found["hits"][0]["content"], "in the last moment");
    again.stop().await;
}

#[tokio::test]
async fn a_write_that_waits_for_the_disk_is_answered_before_the_end() {
    use sqlx::{ConnectOptions, Connection};
    let systemd = Systemd::new();
    let setup = systemd.setup();
    let mut server = setup.serve().await;
    server.client().remember("something").await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(setup.database());
    let mut other = options.connect().await.expect("the database");
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .expect("the lock");
    let client = server.client();
    let request = tokio::spawn(async move {
        client
            .try_call("remember", note("while another writes"))
            .await
    });
    let mut second = Wire::connect(&server).await;
    // Accepted in order: once this one is answered, the earlier one is in progress.
    second
        .write("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    second.read_until("live").await;
    server.signal("TERM");
    systemd.heard("STOPPING=1").await;
    sqlx::raw_sql("COMMIT")
        .execute(&mut other)
        .await
        .expect("the end of the lock");
    other.close().await.expect("closed");
    let answer = request.await.expect("no panic").expect("an answer");
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn open_connections_do_not_hold_up_the_end() {
    let setup = Setup::new();
    let mut server = setup.serve().await;
    // Idle after an answer; connected and silent; half a head; a stream for server messages, as old clients open it.
    let mut idle = Wire::connect(&server).await;
    idle.write("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    idle.read_until("live").await;
    let mut half = Wire::connect(&server).await;
    half.write("POST /mcp HTTP/1.1\r\nHost: loc").await;
    let _silent = Wire::connect(&server).await;
    let mut stream = Wire::connect(&server).await;
    let accept = "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write(accept).await;
    let answer = stream.read_until("\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 405"),
        "no stream is offered, and none stays open: {answer}"
    );

    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
    // Far less than the 20 s for requests in progress.
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}: {}",
        asked.elapsed(),
        server.log()
    );
    assert!(
        !server.log().contains("the drain budget is used up"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_after_the_budget() {
    let setup = Setup::new().env("MEMORY_DRAIN_TIMEOUT", "1");
    let mut server = setup.serve().await;
    let mut wire = Wire::connect(&server).await;
    wire.write(&head(
        &server,
        "Expect: 100-continue\r\nContent-Length: 100\r\n",
    ))
    .await;
    wire.read_until("100 Continue").await;
    server.signal("TERM");
    // A success, because systemd requested the stop.
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
    assert!(
        server.log().contains("the drain budget is used up"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let systemd = Systemd::new();
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let setup = systemd.setup().env("MEMORY_DRAIN_TIMEOUT", "300");
        let mut server = setup.serve().await;
        let mut wire = Wire::connect(&server).await;
        wire.write(&head(
            &server,
            "Expect: 100-continue\r\nContent-Length: 100\r\n",
        ))
        .await;
        wire.read_until("100 Continue").await;
        server.signal("TERM");
        server.logged("asked to stop").await;
        server.signal(name);
        assert_eq!(server.ended().await.code(), Some(code), "{}", server.log());
        assert!(
            server.log().contains("second signal, ending at once"),
            "{}",
            server.log()
        );
    }
}

#[tokio::test]
async fn sighup_changes_nothing() {
    let setup = Setup::new();
    let mut server = setup.serve().await;
    server.signal("HUP");
    server
        .logged("SIGHUP ignored: restart the service to apply changed settings")
        .await;
    server.client().remember("still here").await;
    server.stop().await;
}

#[tokio::test]
async fn as_process_1_it_hears_signals_and_ends_in_order() {
    needs!(Namespaces);
    let options = ["--fork", "--pid", "--mount-proc", "--kill-child=KILL"];
    let unshare = namespace_command(&options).expect("namespaces can be made");
    let systemd = Systemd::new();
    let setup = systemd.setup();
    let mut server = Server::start(setup.wrapped(&unshare, &["serve"]));
    server.serving().await;
    let children = format!("/proc/{0}/task/{0}/children", server.pid());
    let pid: u32 = std::fs::read_to_string(children)
        .expect("children")
        .trim()
        .parse()
        .expect("one child");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let inside = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .and_then(|line| line.split('\t').next_back());
    assert_eq!(inside, Some("1"), "{status}");
    server.client().remember("as process 1").await;
    let mut half = Wire::connect(&server).await;
    half.write("POST /mcp HTTP/1.1\r\nHost: loc").await;
    let asked = Instant::now();
    signal(pid, "TERM");
    systemd.heard("STOPPING=1").await;
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}: {}",
        asked.elapsed(),
        server.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    const WRITERS: usize = 8;
    const BATCH: usize = 3;
    let setup = Setup::new();
    let mut kept: Vec<(String, String)> = Vec::new();
    // The second round uses a database that was already killed under load.
    for round in 0..2 {
        let server = setup.serve().await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, acknowledged) = (server.client(), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    let mut kept = Vec::new();
                    for number in 0.. {
                        let texts: Vec<String> = (0..BATCH)
                            .map(|item| {
                                format!("round {round} writer {writer} fact {number}-{item}")
                            })
                            .collect();
                        let items: Vec<Value> = texts
                            .iter()
                            .map(|text| json!({ "content": text }))
                            .collect();
                        // The writer ends with the service.
                        let Ok(answer) =
                            client.try_call("remember", json!({ "items": items })).await
                        else {
                            break;
                        };
                        let stored = &answer["result"]["structuredContent"]["memories"];
                        for (index, text) in texts.into_iter().enumerate() {
                            kept.push((
                                stored[index]["id"].as_str().expect("an id").to_owned(),
                                text,
                            ));
                        }
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    kept
                })
            })
            .collect();
        eventually("150 acknowledged batches", || {
            (acknowledged.load(Ordering::Relaxed) >= 150).then_some(())
        })
        .await;
        server.kill().await;
        for writer in writers {
            kept.extend(writer.await.expect("no panic"));
        }
    }
    let server = setup.serve().await;
    let client = server.client();
    check_kept(&client, &kept).await;
    let (_, last) = kept.last().expect("something was kept");
    let found = client
        .call("recall", json!({ "query": last, "limit": 1 }))
        .await;
    assert_eq!(
        found["hits"][0]["content"],
        *last.as_str(),
        "the index is whole as well"
    );
    let stored = client.call("status", json!({})).await["memories"]
        .as_u64()
        .expect("a number");
    assert_eq!(
        stored % BATCH as u64,
        0,
        "batches are whole: {stored} memories"
    );
    server.stop().await;
}

async fn check_kept(client: &Client, kept: &[(String, String)]) {
    for part in kept.chunks(200) {
        let ids: Vec<&str> = part.iter().map(|(id, _)| id.as_str()).collect();
        let found = client
            .call("get", json!({ "ids": ids, "max_chars": 1_000_000 }))
            .await;
        assert_eq!(
            found["memories"].as_array().map(Vec::len),
            Some(part.len()),
            "lost: {}",
            found["missing"]
        );
        for ((id, text), memory) in part
            .iter()
            .zip(found["memories"].as_array().expect("memories"))
        {
            assert_eq!(
                (memory["id"].as_str(), memory["content"].as_str()),
                (Some(id.as_str()), Some(text.as_str()))
            );
        }
    }
}

#[tokio::test]
async fn a_stopped_process_is_silent_and_goes_on_afterwards() {
    let systemd = Systemd::new();
    let mut server = limit(systemd.setup(), LIMIT).serve().await;
    eventually("a ping", || systemd.times("WATCHDOG=1").first().copied()).await;
    server.signal("STOP");
    let pid = server.pid();
    eventually("stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('T'))
            .then_some(())
    })
    .await;
    let stopped = Instant::now();
    // Longer than the limit: systemd would act now. The absence of an event can only be observed by waiting.
    tokio::time::sleep(LIMIT + Duration::from_millis(500)).await;
    let woken = Instant::now();
    server.signal("CONT");
    let next = eventually("a ping afterwards", || {
        systemd
            .times("WATCHDOG=1")
            .into_iter()
            .find(|ping| *ping > stopped + Duration::from_millis(200))
    })
    .await;
    assert!(next >= woken, "a ping while it was stopped");
    // Being suspended does not count as a hang: the process neither ends itself nor remains unhealthy.
    server.client().remember("after the pause").await;
    eventually("another ping", || {
        (systemd.times("WATCHDOG=1").last() > Some(&next)).then_some(())
    })
    .await;
    assert!(server.is_running());
    server.stop().await;
}

/// The request path hangs by a switch that release builds do not have.
#[cfg(debug_assertions)]
mod hang {
    use super::*;

    #[tokio::test]
    async fn a_hung_request_path_is_named_and_ends_the_process() {
        let systemd = Systemd::new();
        let setup = limit(systemd.setup(), LIMIT);
        let switch = setup.path("hang");
        let setup = setup.env("CMM_FAULT_HANG_FILE", &switch);
        let mut server = setup.serve().await;
        eventually("a ping", || systemd.times("WATCHDOG=1").first().copied()).await;
        let live = server.url("/health/live");
        assert_eq!(get(&live).await.0, 200);
        std::fs::write(&switch, "").expect("a file");
        let client = server.client();
        let victim = tokio::spawn(async move { client.try_call("status", json!({})).await });

        let stuck = loop {
            // Only `/mcp` hangs, so this is answered until the process ends.
            let (code, _, text) = get(&live).await;
            if code == 503 {
                break text;
            }
        };
        assert!(stuck.contains("request path STALE"), "{stuck}");
        let ready = loop {
            // Changes with the next check of the watchdog.
            let (code, _, text) = get(&server.url("/health/ready")).await;
            if code == 503 {
                break text;
            }
        };
        assert!(
            ready.contains("\"not_ready\"") && ready.contains("stalled"),
            "{ready}"
        );

        assert_eq!(server.ended().await.code(), Some(70), "{}", server.log());
        let ended = Instant::now();
        let last = *systemd.times("WATCHDOG=1").last().expect("a ping");
        let silence = ended - last;
        assert!(silence >= LIMIT * 8 / 10, "{silence:?} after the last ping");
        let status = systemd.status();
        assert!(
            status.starts_with("Ending itself: the service hangs"),
            "{status}"
        );
        assert!(
            status.contains("request path STALE") && status.contains("listener"),
            "{status}"
        );
        let said: Vec<String> = systemd.lines().into_iter().map(|(_, line)| line).collect();
        assert!(
            said.iter()
                .any(|line| line.contains("watchdog ping withheld")),
            "{said:?}"
        );
        let log = server.log();
        for words in [
            "the service hangs, watchdog ping withheld",
            "ending the process",
            "request path STALE",
        ] {
            assert!(log.contains(words), "{words}: {log}");
        }
        assert!(
            victim.await.expect("no panic").is_err(),
            "the hung request was cut off"
        );
    }

    #[tokio::test]
    async fn a_hang_that_passes_is_survived() {
        let systemd = Systemd::new();
        let setup = limit(systemd.setup(), LIMIT * 2);
        let switch = setup.path("hang");
        let setup = setup.env("CMM_FAULT_HANG_FILE", &switch);
        let mut server = setup.serve().await;
        std::fs::write(&switch, "").expect("a file");
        server
            .logged("the service hangs, watchdog ping withheld")
            .await;
        std::fs::remove_file(&switch).expect("a file");
        server.logged("all essential loops move again").await;
        assert_eq!(get(&server.url("/health/live")).await.0, 200);
        eventually("the status is well again", || {
            (systemd.status() == format!("Serving on {}", server.authority())).then_some(())
        })
        .await;
        server.client().remember("afterwards").await;
        server.stop().await;
    }
}

/// Returns the head of a request to `/mcp`, up to the empty line.
fn head(server: &Server, more: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{more}\r\n",
        server.authority()
    )
}

fn note(content: &str) -> Value {
    json!({ "items": [{ "content": content }] })
}
