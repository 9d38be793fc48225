//! Behavior of the service and the commands if the storage fails: files that disappear, a full disk, damage.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cognitive_memory_mcp::engine::Notices;
use cognitive_memory_mcp::jobs::{CheckSchedule, check_database};
use cognitive_memory_mcp::lifecycle::{ExitReason, Readiness, Supervisor};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{CheckStore as _, Pace, Store};
use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::contract::{analyzer, note, scope, store_one};
use crate::process::{Ran, Server, Setup, eventually, get};
use crate::requirement::{namespace_command, needs};

async fn ready(server: &Server) -> (u16, String) {
    let (code, _, body) = get(&server.url("/health/ready")).await;
    (code, body)
}

async fn wait_for(server: &Server, wanted: u16) -> String {
    let mut last = String::new();
    for _ in 0..600 {
        let (code, body) = ready(server).await;
        if code == wanted {
            return body;
        }
        last = body;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {wanted}: {last}\n{}", server.log());
}

#[tokio::test]
async fn the_service_ends_when_its_database_is_taken_away() {
    for victim in ["memory.db", "memory.db-wal"] {
        let setup = Setup::new();
        let mut server = setup.serve().await;
        server.client().remember("acknowledged").await;
        let folder = setup.database().parent().expect("a folder").to_owned();
        std::fs::rename(folder.join(victim), folder.join("moved")).expect("moved");
        // The write must not be acknowledged, even if the service has not yet noticed by itself.
        if let Ok(answer) = server
            .client()
            .try_call("remember", json!({ "items": [{ "content": "lost" }] }))
            .await
        {
            assert_eq!(answer["result"]["isError"], true, "{answer}");
        }
        assert_eq!(
            server.ended().await.code(),
            Some(70),
            "{victim}: {}",
            server.log()
        );
        assert!(
            server.log().contains("was moved or deleted"),
            "{}",
            server.log()
        );
        // A restart by systemd does not start with an empty memory, and once the file is back all memories are.
        if victim == "memory.db" {
            let refused = Ran::of(setup.command(&["serve"]));
            assert_eq!(
                refused.code,
                Some(78),
                "{}{}",
                refused.stdout,
                refused.stderr
            );
        }
        std::fs::rename(folder.join("moved"), folder.join(victim)).expect("moved back");
        let server = setup.serve().await;
        let found = server
            .client()
            .call("recall", json!({ "query": "acknowledged" }))
            .await;
        assert_eq!(
            found["hits"].as_array().map(Vec::len),
            Some(1),
            "{victim}: {found}"
        );
        server.stop().await;
    }
}

fn limit_file_size(server: &Server, limit: &str) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &server.pid().to_string(),
            &format!("--fsize={limit}"),
        ])
        .status()
        .expect("prlimit of util-linux");
    assert!(status.success());
}

#[tokio::test]
async fn a_failed_write_makes_the_service_not_ready_until_one_succeeds() {
    let setup = Setup::new();
    // With the signal ignored, a write beyond the limit fails instead of killing the process.
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let mut server = Server::start(setup.wrapped(&wrapper, &["serve"]));
    server.serving().await;
    server.client().remember("before").await;
    assert!(!wait_for(&server, 200).await.contains("last write failed"));
    limit_file_size(&server, "4096:");
    let answer = server
        .client()
        .try_call("remember", json!({ "items": [{ "content": "no room" }] }))
        .await;
    assert_eq!(answer.expect("an answer")["result"]["isError"], true);
    let body = wait_for(&server, 503).await;
    assert!(
        body.contains("the last write failed") && body.contains("memory.db"),
        "{body}"
    );
    // Reads continue to work.
    let found = server
        .client()
        .call("recall", json!({ "query": "before" }))
        .await;
    assert_eq!(found["hits"].as_array().map(Vec::len), Some(1), "{found}");
    limit_file_size(&server, "unlimited:");
    server.client().remember("there is room again").await;
    wait_for(&server, 200).await;
    // Without a write, the service notices by itself.
    limit_file_size(&server, "4096:");
    let _ = server
        .client()
        .try_call(
            "remember",
            json!({ "items": [{ "content": "no room again" }] }),
        )
        .await;
    wait_for(&server, 503).await;
    limit_file_size(&server, "unlimited:");
    wait_for(&server, 200).await;
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_keeps_nobody_from_saving_to_another_one() {
    needs!(Namespaces);
    let unshare = namespace_command(&["--mount"]).expect("namespaces can be made");
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("to be saved").await;
    server.stop().await;
    let folder = setup.database().parent().expect("a folder").to_owned();
    let seed = setup.path("seed");
    std::fs::rename(&folder, &seed).expect("moved");
    std::fs::create_dir(&folder).expect("a folder");
    let script = "mount -t tmpfs -o size=8m none \"$1\" && cp -a \"$2\"/. \"$1\"/ && \
        mkdir full && mount -t tmpfs -o size=100k none full && \"$3\" backup full/saved.db; echo \"no room $?\"; \
        dd if=/dev/zero of=\"$1\"/fill bs=4k 2>/dev/null; \
        \"$3\" backup saved.db; echo \"backup $?\"; \"$3\" export saved.jsonl; echo \"export $?\"; \"$3\" doctor --json";
    let program = env!("CARGO_BIN_EXE_cognitive-memory-mcp");
    let (data, seed) = (
        folder.to_str().expect("UTF-8"),
        seed.to_str().expect("UTF-8"),
    );
    let line = [
        &unshare[1..],
        &["sh", "-c", script, "sh", data, seed, program],
    ]
    .concat();
    let mut command = Command::new("unshare");
    command
        .args(line)
        .env("XDG_DATA_HOME", setup.path("share"))
        .env("HOME", setup.path(""))
        .env("MEMORY_EMBEDDER", "none")
        .current_dir(setup.path(""));
    let ran = Ran::of(command);
    assert!(
        ran.stdout.contains("no room 69") && ran.stderr.contains("the disk with full/saved.db"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        ran.stdout.contains("backup 0") && ran.stdout.contains("export 0"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        !ran.stdout.contains("postgres"),
        "a full disk is no matter of PostgreSQL: {}",
        ran.stdout
    );
    let other = Setup::new();
    let restored = other.run(&["restore", setup.path("saved.db").to_str().expect("UTF-8")]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
}

#[test]
fn a_read_only_disk_at_start_is_worth_another_attempt() {
    needs!(Namespaces);
    let unshare = namespace_command(&["--mount"]).expect("namespaces can be made");
    // Limits the whole disk, and only the file, where SQLite notices first.
    for only_file in [false, true] {
        let setup = Setup::new();
        let folder = setup.database().parent().expect("a folder").to_owned();
        let read_only = if only_file {
            setup.file("share/cognitive-memory-mcp/memory.db", "")
        } else {
            assert_eq!(setup.run(&["migrate"]).code, Some(0));
            folder
        };
        let read_only = read_only.to_str().expect("UTF-8");
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        let wrapper = [&unshare[..], &["sh", "-c", script, read_only]].concat();
        for command in ["serve", "migrate"] {
            let ran = Ran::of(setup.wrapped(&wrapper, &[command]));
            assert_eq!(
                ran.code,
                Some(69),
                "{read_only} {command}: {}{}",
                ran.stdout,
                ran.stderr
            );
            assert!(
                ran.stderr.to_lowercase().contains("read-only"),
                "{read_only} {command}: {}",
                ran.stderr
            );
        }
    }
}

#[tokio::test]
async fn a_lack_of_file_descriptors_at_start_is_worth_another_attempt() {
    let setup = Setup::new();
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    let mut causes = Vec::new();
    for limit in 4..64 {
        let limit = format!("--nofile={limit}");
        let mut server = Server::start(setup.wrapped(&["prlimit", &limit], &["serve"]));
        let serves = eventually("its end, or that it serves", || {
            let ended = !server.is_running();
            (ended || server.log().contains("\"serving\"")).then_some(!ended)
        });
        if serves.await {
            server.stop().await;
            assert!(
                causes
                    .iter()
                    .any(|cause: &String| cause.contains("memory.db")),
                "{causes:?}"
            );
            return;
        }
        let code = server.ended().await.code();
        assert!(
            matches!(code, Some(69 | 70 | 127)),
            "{limit}: {code:?} {}",
            server.log()
        );
        causes.push(server.log());
    }
    panic!("it never serves: {causes:?}");
}

#[test]
fn a_fifo_or_directory_in_place_of_a_file_stops_every_command() {
    for victim in ["memory.db", "memory.db.lock"] {
        for program in ["mkfifo", "mkdir"] {
            let setup = Setup::new();
            assert_eq!(setup.run(&["migrate"]).code, Some(0));
            let file = setup.path(&format!("share/cognitive-memory-mcp/{victim}"));
            std::fs::remove_file(&file).expect("removed");
            assert!(
                Command::new(program)
                    .arg(&file)
                    .status()
                    .expect("coreutils")
                    .success()
            );
            for (args, code) in [("serve", 78), ("list", 78), ("stdio", 69), ("doctor", 1)] {
                let case = format!("{program} {victim}, {args}");
                let ran = setup.run(&[args]);
                assert_eq!(
                    ran.code,
                    Some(code),
                    "{case}: {} {}",
                    ran.stdout,
                    ran.stderr
                );
                let said = format!("{}{}", ran.stdout, ran.stderr);
                assert!(
                    said.contains(&format!("{victim} is no regular file")),
                    "{case}: {said}"
                );
            }
        }
    }
}

#[test]
fn a_link_to_a_volume_that_is_not_mounted_starts_no_empty_memory() {
    for link in [
        "share/cognitive-memory-mcp",
        "share/cognitive-memory-mcp/memory.db",
    ] {
        let setup = Setup::new();
        let link = setup.path(link);
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        std::fs::create_dir(setup.path("volume")).expect("a folder");
        std::os::unix::fs::symlink(setup.path("volume/memory"), &link).expect("a link");
        let ran = setup.run(&["serve"]);
        assert_eq!(ran.code, Some(69), "{}", ran.stderr);
        assert!(ran.stderr.contains("mount its volume"), "{}", ran.stderr);
        assert!(!setup.path("volume/memory").exists());
        for args in ["stdio", "doctor"] {
            let ran = setup.run(&[args]);
            assert!(
                format!("{}{}", ran.stdout, ran.stderr).contains("mount its volume"),
                "{args}: {ran:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_background_check_reports_damage_and_has_it_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let open = async || {
        let store = SqliteStore::open(SqliteOptions::new(&path), analyzer());
        store.prepare().await.unwrap();
        store
    };
    let store: Arc<dyn Store> = Arc::new(open().await);
    store_one(&*store, &scope(), note("a walrus")).await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    let sql = "INSERT INTO memory_term (rowid, terms) VALUES (1, '1:stray')";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let (supervisor, readiness, notices) =
        (Supervisor::new(), Readiness::new(), Notices::default());
    let condition = readiness.condition("data", "not checked yet");
    let schedule = CheckSchedule {
        first: Duration::from_millis(1),
        interval: Duration::from_secs(3600),
        pace: Pace::FULL_SPEED,
    };
    check_database(&supervisor, &store, condition, notices.clone(), schedule);
    let said = eventually("a finding", || notices.current().first().cloned()).await;
    assert!(
        said.contains("word index") && said.contains("restart the service"),
        "{said}"
    );
    let report = readiness.report();
    assert!(
        report.is_ready(),
        "the memories are whole, so the service does its work"
    );
    assert_eq!(report.checks["data"].detail, said);
    supervisor.stop(ExitReason::Finished);
    store.close().await;

    let store = open().await;
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
}
