//! Backup and restore on the command line, on both databases and between them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::postgres_server::Database;
use crate::process::{Ran, Setup};
use crate::requirement::needs;
use crate::transfer::{export, fill, filled, ok, on_postgres};

fn aside(setup: &Setup) -> Vec<PathBuf> {
    let folder = setup.database().parent().unwrap().to_owned();
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> = entries
        .filter(|path| path.to_string_lossy().contains(".before-restore-"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_embedded_database_is_saved_while_it_serves_and_comes_back() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let ids = fill(&server).await;
    let saved = setup.run(&["backup", "saved.db"]);
    assert!(
        ok(&saved)
            .stdout
            .contains("10 records, 9 of them memories, verified by a restore"),
        "{}",
        saved.stdout
    );
    let mode = std::fs::metadata(setup.path("saved.db"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    let original = export(&setup, "a.jsonl");
    // An existing file and a restore under a running service are refused.
    let again = setup.run(&["backup", "saved.db"]);
    assert!(
        again.code == Some(64) && again.stderr.contains("already exists"),
        "{}",
        again.stderr
    );
    let running = setup.run(&["restore", "--replace", "saved.db"]);
    assert!(
        running.code == Some(69) && running.stderr.contains("stop the service"),
        "{}",
        running.stderr
    );
    server
        .client()
        .call("forget", json!({ "ids": [ids[0]], "mode": "purge" }))
        .await;
    server.client().remember("after the backup").await;
    server.stop().await;

    let refused = setup.run(&["restore", "saved.db"]);
    assert!(
        refused.code == Some(64) && refused.stderr.contains("--replace"),
        "{}",
        refused.stderr
    );
    let restored = setup.run(&["restore", "--replace", "saved.db"]);
    assert!(
        ok(&restored).stdout.contains("The previous data is in "),
        "{}",
        restored.stdout
    );
    assert_eq!(export(&setup, "b.jsonl"), original);
    let kept = aside(&setup);
    assert_eq!(kept.len(), 1, "{kept:?}");
    // The set-aside file can itself be restored elsewhere.
    let other = Setup::new();
    ok(&other.run(&["restore", kept[0].to_str().unwrap()]));
    assert!(export(&other, "c.jsonl").contains("after the backup"));
    let server = setup.serve().await;
    let found = server
        .client()
        .call("recall", json!({ "query": "better insight" }))
        .await;
    assert_eq!(found["hits"][0]["id"], ids[0].as_str());
    server.stop().await;
    // No temporary files remain.
    let folder = setup.database().parent().unwrap().to_owned();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            !name.contains("scratch") && !name.contains(".part"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn postgres_is_saved_and_restored_by_either_database() {
    needs!(Postgres);
    let (sqlite, _) = filled().await;
    let original = export(&sqlite, "a.jsonl");
    ok(&sqlite.run(&["backup", "saved.db"]));
    let from = sqlite.path("saved.db");
    let database = Database::empty().await;
    let postgres = on_postgres(&database);
    ok(&postgres.run(&["migrate"]));
    ok(&postgres.run(&["restore", from.to_str().unwrap()]));
    assert_eq!(export(&postgres, "b.jsonl"), original);
    let server = postgres.serve().await;
    let saved = postgres.run(&["backup", "saved.jsonl"]);
    assert!(
        ok(&saved)
            .stdout
            .contains("21 records, 9 of them memories, verified"),
        "{}",
        saved.stdout
    );
    server.client().remember("after the backup").await;
    server.stop().await;
    let refused = postgres.run(&["restore", "saved.jsonl"]);
    assert!(
        refused.code == Some(64) && refused.stderr.contains("--replace"),
        "{}",
        refused.stderr
    );
    let restored = postgres.run(&["restore", "--replace", "saved.jsonl"]);
    let aside = ok(&restored)
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("The previous data is in "));
    assert!(
        std::fs::read_to_string(aside.unwrap())
            .unwrap()
            .contains("after the backup")
    );
    assert_eq!(export(&postgres, "c.jsonl"), original);
    let back = Setup::new();
    let saved = postgres.path("saved.jsonl");
    ok(&back.run(&["restore", saved.to_str().unwrap()]));
    assert_eq!(export(&back, "d.jsonl"), original);
}

#[tokio::test]
async fn a_damaged_backup_harms_nothing() {
    let (setup, _) = filled().await;
    let original = export(&setup, "a.jsonl");
    ok(&setup.run(&["backup", "saved.db"]));
    let mut bytes = std::fs::read(setup.path("saved.db")).unwrap();
    let half = bytes.len() / 2;
    bytes[4096..half].fill(0xa5);
    setup.file("broken.db", &bytes);
    setup.file("short.db", &bytes[..4000]);
    setup.file("cut.jsonl", &original[..original.len() / 2]);
    setup.file("text.txt", "dear diary");
    for name in ["broken.db", "short.db", "cut.jsonl", "text.txt", "missing"] {
        let ran = setup.run(&["restore", "--replace", name]);
        assert!(
            ran.code != Some(0) && !ran.stderr.is_empty(),
            "{name}: {}",
            ran.stdout
        );
        assert_eq!(export(&setup, &format!("after-{name}")), original, "{name}");
        assert!(aside(&setup).is_empty(), "{name}");
    }
}

async fn execute(path: &std::path::Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_file_with_a_foreign_trigger_is_not_restored() {
    let (setup, _) = filled().await;
    let original = export(&setup, "a.jsonl");
    ok(&setup.run(&["backup", "saved.db"]));
    let changes = [
        (
            "thief",
            "CREATE TRIGGER thief AFTER INSERT ON memory BEGIN DELETE FROM memory WHERE seq = NEW.seq; END",
        ),
        ("spy", "CREATE VIEW spy AS SELECT content FROM memory"),
        ("loot", "CREATE TABLE loot (content TEXT)"),
    ];
    for (name, change) in changes {
        std::fs::copy(setup.path("saved.db"), setup.path("foreign.db")).unwrap();
        execute(&setup.path("foreign.db"), change).await;
        let refused = setup.run(&["restore", "--replace", "foreign.db"]);
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(&format!("{name:?}")),
            "{name}: {}",
            refused.stderr
        );
        assert_eq!(export(&setup, &format!("after-{name}")), original, "{name}");
        assert!(aside(&setup).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn changes_in_the_log_beside_a_file_are_restored_with_it() {
    let setup = Setup::new();
    let server = setup.serve().await;
    for number in 0..5 {
        server
            .client()
            .remember(&format!("memory {number} of the log"))
            .await;
    }
    let in_use = setup.run(&["restore", "--replace", setup.database().to_str().unwrap()]);
    assert_eq!(in_use.code, Some(69), "{}", in_use.stderr);
    server.kill().await;
    let other = Setup::new();
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", setup.database().display());
        std::fs::copy(from, other.path(&format!("copy.db{suffix}"))).unwrap();
    }
    let log = std::fs::metadata(other.path("copy.db-wal")).unwrap().len();
    assert!(log > 0, "the service left no log, so this shows nothing");
    ok(&other.run(&["restore", "copy.db"]));
    let restored = export(&other, "a.jsonl");
    for number in 0..5 {
        assert!(
            restored.contains(&format!("memory {number} of the log")),
            "{restored}"
        );
    }
    assert_eq!(
        std::fs::metadata(other.path("copy.db-wal")).unwrap().len(),
        log,
        "the original is left alone"
    );
}

#[tokio::test]
async fn tokens_of_a_file_come_back_on_request_only() {
    let names = |setup: &Setup| ok(&setup.run(&["token", "list"])).stdout.clone();
    let stranger = Setup::new();
    for name in ["stranger", "laptop"] {
        ok(&stranger.run(&["token", "create", name]));
    }
    ok(&stranger.run(&["backup", "saved.db"]));
    let file = stranger.path("saved.db");
    let file = file.to_str().unwrap();
    let setup = Setup::new();
    ok(&setup.run(&["token", "create", "laptop"]));
    ok(&setup.run(&["token", "create", "phone"]));
    let mine = names(&setup);
    let restored = setup.run(&["restore", "--replace", file]);
    assert!(
        ok(&restored).stderr.contains("\"stranger\""),
        "{}",
        restored.stderr
    );
    assert_eq!(names(&setup), mine, "the owner's tokens are what they were");
    ok(&setup.run(&["restore", "--replace", "--keep-tokens", file]));
    let all = names(&setup);
    assert!(all.contains("stranger") && all.contains("phone"), "{all}");
    // The widths of the columns depend on the longest name.
    let laptop = |listed: &str| {
        let line = listed
            .lines()
            .find(|line| line.contains("laptop"))
            .expect("the token")
            .to_owned();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        laptop(&all),
        laptop(&mine),
        "the token of the same name was replaced"
    );
}

#[tokio::test]
async fn a_damaged_word_index_is_in_the_way_of_neither_backup_nor_restore() {
    let (setup, _) = filled().await;
    let original = export(&setup, "a.jsonl");
    execute(
        &setup.database(),
        "INSERT INTO memory_term (rowid, terms) VALUES (4711, '1:walrus')",
    )
    .await;
    let saved = setup.run(&["backup", "saved.db"]);
    assert!(
        ok(&saved).stdout.contains("verified by a restore"),
        "{}",
        saved.stdout
    );
    assert!(saved.stderr.contains("word index"), "{}", saved.stderr);
    let other = Setup::new();
    ok(&other.run(&["restore", setup.path("saved.db").to_str().unwrap()]));
    assert_eq!(export(&other, "b.jsonl"), original);
    let healthy = other.run(&["doctor", "--deep"]);
    assert_eq!(healthy.code, Some(0), "{}", healthy.stdout);
}

#[tokio::test]
async fn a_restore_moves_the_old_journal_aside_and_follows_links() {
    let setup = Setup::new();
    ok(&setup.run(&["remember", "a walrus"]));
    ok(&setup.run(&["backup", "saved.db"]));
    // The database is on another disk, reached by a link, and the data directory is not.
    let disk = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = disk.path().join("other.db");
    std::fs::write(&file, "these are holiday pictures ".repeat(400)).unwrap();
    std::fs::write(disk.path().join("other.db-journal"), "of the old one").unwrap();
    symlink(&file, setup.path("link.db")).unwrap();
    let url = format!("sqlite:{}", setup.path("link.db").display());
    let setup = setup.env("MEMORY_DATABASE_URL", url);
    ok(&setup.run(&["restore", "--replace", "saved.db"]));
    assert!(ok(&setup.run(&["list"])).stdout.contains("a walrus"));
    assert!(setup.path("link.db").is_symlink());
    let names: Vec<String> = std::fs::read_dir(disk.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    let is_aside = |name: &String| name.contains(".before-restore-");
    assert!(names.iter().any(is_aside), "{names:?}");
    assert!(!names.contains(&"other.db-journal".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_database_in_use_by_another_name_is_neither_saved_nor_restored() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("in the log only").await;
    let link = setup.path("elsewhere.db");
    std::fs::hard_link(setup.database(), &link).unwrap();
    let url = format!("sqlite:{}", link.display());
    for args in [&["backup", "saved.db"][..], &["export", "saved.jsonl"]] {
        let mut command = setup.command(args);
        command.env("MEMORY_DATABASE_URL", &url);
        let ran = Ran::of(command);
        assert_eq!(ran.code, Some(69), "{args:?}: {}", ran.stdout);
        assert!(
            ran.stderr.contains("under another name"),
            "{args:?}: {}",
            ran.stderr
        );
    }
    let other = Setup::new();
    let ran = other.run(&["restore", link.to_str().unwrap()]);
    assert_eq!(ran.code, Some(69), "{}", ran.stdout);
    ok(&setup.run(&["backup", "saved.db"]));
    server.stop().await;
}

#[test]
fn the_place_of_a_backup_is_checked_first() {
    let setup = Setup::new();
    ok(&setup.run(&["remember", "a walrus"]));
    symlink(setup.path("missing"), setup.path("link.db")).unwrap();
    for (file, reason) in [
        (
            "missing/saved.db",
            "there is no directory missing; create it",
        ),
        ("link.db", "already exists"),
    ] {
        let ran = setup.run(&["backup", file]);
        assert!(
            ran.code == Some(64) && ran.stderr.contains(reason),
            "{file}: {}",
            ran.stderr
        );
    }
    let ran = setup.run(&["export", "missing/all.jsonl"]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("there is no directory"),
        "{}",
        ran.stderr
    );
    assert!(setup.path("link.db").is_symlink());
}

/// After a power failure the file is either complete under its name or absent, but never empty.
#[test]
fn a_saved_file_and_its_directory_are_on_the_disk_in_the_end() {
    needs!(Strace);
    let setup = Setup::new();
    ok(&setup.run(&["remember", "a walrus"]));
    let trace = setup.path("trace");
    let trace = trace.to_str().unwrap();
    let wrapper = [
        "strace",
        "-f",
        "--decode-fds=path",
        "--trace=fsync,rename",
        "-o",
        trace,
    ];
    let data = setup.database().parent().unwrap().to_owned();
    let home = setup.path("");
    let cases: [(&[&str], &str, &std::path::Path); 3] = [
        (&["backup", "saved.db"], "saved.db", &home),
        (&["export", "saved.jsonl"], "saved.jsonl", &home),
        (&["restore", "--replace", "saved.db"], "memory.db", &data),
    ];
    for (args, name, folder) in cases {
        ok(&Ran::of(setup.wrapped(&wrapper, args)));
        let text = std::fs::read_to_string(trace).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let folder = folder.canonicalize().unwrap();
        let renamed = lines
            .iter()
            .rposition(|line| line.contains("rename(") && line.contains(&format!("{name}\") = 0")))
            .unwrap_or_else(|| panic!("{args:?}: no rename in {text}"));
        let synced = |lines: &[&str], is_wanted: &dyn Fn(&str) -> bool| {
            let mut calls = lines.iter().filter(|line| line.contains("fsync("));
            calls.any(|line| is_wanted(line))
        };
        let is_folder = |line: &str| {
            // The line of a call may be interrupted by another thread:
            // `fsync(9</folder> <unfinished ...>`.
            let path = format!("<{}>", folder.display());
            line.contains(&format!("{path})")) || line.contains(&format!("{path} <unfinished"))
        };
        assert!(synced(&lines[renamed..], &is_folder), "{args:?}: {text}");
        let is_file = |line: &str| !is_folder(line);
        assert!(synced(&lines[..renamed], &is_file), "{args:?}: {text}");
    }
}

/// The places are spread over the whole file, the checksum included.
#[tokio::test]
async fn a_changed_byte_of_a_backup_is_detected_or_harmless() {
    const PLACES: usize = 50;
    let (setup, _) = filled().await;
    ok(&setup.run(&["token", "create", "laptop"]));
    let original = export(&setup, "a.jsonl");
    ok(&setup.run(&["backup", "saved.db"]));
    let whole = std::fs::read(setup.path("saved.db")).unwrap();
    let step = whole.len() / PLACES;
    let (mut detected, mut place) = (0, 7);
    while place < whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        let other = Setup::new();
        other.file("flipped.db", &bytes);
        let ran = other.run(&["restore", "flipped.db"]);
        if ran.code == Some(0) {
            assert_eq!(export(&other, "b.jsonl"), original, "byte {place}");
        } else {
            assert!(
                ran.stderr.starts_with("error:"),
                "byte {place}: {}",
                ran.stderr
            );
            assert_ne!(ran.code, Some(101), "byte {place}: {}", ran.stderr);
            detected += 1;
        }
        place += step + place % 13;
    }
    assert!(detected >= 40, "{detected}");
    // A changed character of a text is no damage that SQLite could see.
    let mut bytes = whole.clone();
    let text = b"better insight";
    let place = bytes
        .windows(text.len())
        .position(|part| part == text)
        .unwrap();
    bytes[place] = b'B';
    let other = Setup::new();
    other.file("flipped.db", &bytes);
    let ran = other.run(&["restore", "flipped.db"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("differs from its checksum"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        ok(&other.run(&["list"])).stdout.lines().count(),
        ok(&Setup::new().run(&["list"])).stdout.lines().count()
    );
}

#[tokio::test]
async fn a_changed_byte_of_an_export_is_detected() {
    let (setup, _) = filled().await;
    let original = export(&setup, "a.jsonl");
    let records = original.find('\n').unwrap() + 1;
    for place in (records..original.len()).step_by(original.len() / 50) {
        let mut bytes = original.clone().into_bytes();
        bytes[place] ^= 1;
        let other = Setup::new();
        other.file("flipped.jsonl", &bytes);
        let ran = other.run(&["restore", "flipped.jsonl"]);
        let is_same = ran.code == Some(0) && export(&other, "b.jsonl") == original;
        assert!(
            ran.code != Some(0) || is_same,
            "byte {place}: {}",
            ran.stdout
        );
    }
}

/// Files of earlier versions, and copies of a database, have no checksum.
#[tokio::test]
async fn a_backup_without_a_checksum_is_restored_with_a_remark() {
    let (setup, _) = filled().await;
    let original = export(&setup, "a.jsonl");
    ok(&setup.run(&["backup", "saved.db"]));
    let mut bytes = std::fs::read(setup.path("saved.db")).unwrap();
    bytes.truncate(bytes.len() / 4096 * 4096);
    let other = Setup::new();
    other.file("old.db", &bytes);
    let ran = other.run(&["restore", "old.db"]);
    assert!(
        ok(&ran).stderr.contains("has no checksum"),
        "{}",
        ran.stderr
    );
    assert_eq!(export(&other, "b.jsonl"), original);
    // Damaged pages are found nevertheless.
    let start = bytes.len() / 2 / 4096 * 4096;
    bytes[start..start + 200].fill(0xa5);
    other.file("old.db", &bytes);
    let ran = other.run(&["restore", "--replace", "old.db"]);
    assert_ne!(ran.code, Some(0), "{}", ran.stdout);
}

/// A backup that is put into place by hand works, and can be saved and restored again after changes.
#[tokio::test]
async fn a_backup_that_becomes_the_database_loses_its_checksum() {
    let (setup, _) = filled().await;
    ok(&setup.run(&["backup", "saved.db"]));
    let other = Setup::new();
    let database = other.database();
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    std::fs::copy(setup.path("saved.db"), &database).unwrap();
    let server = other.serve().await;
    server.client().remember("after the copy").await;
    server.stop().await;
    assert_eq!(std::fs::metadata(&database).unwrap().len() % 4096, 0);
    ok(&other.run(&["backup", "again.db"]));
    let third = Setup::new();
    for file in [other.path("again.db"), database] {
        ok(&third.run(&["restore", "--replace", file.to_str().unwrap()]));
        assert!(export(&third, "c.jsonl").contains("after the copy"));
        std::fs::remove_file(third.path("c.jsonl")).unwrap();
    }
}
