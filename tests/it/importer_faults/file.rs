//! Files, archives and folders that cannot be read as expected.

use super::*;

#[test]
fn all_parts_of_a_folder_or_zip_archive_are_read() {
    let parts: Vec<(String, String)> = (0..3)
        .map(|part| {
            (
                format!("conversations-00{part}.json"),
                format!("[{}]", chatgpt(&format!("h{part}"), &["q", "a"])),
            )
        })
        .collect();
    let folder = Setup::new();
    for (name, text) in &parts {
        folder.file(&format!("export/{name}"), text);
    }
    folder.file("export/user.json", "{}");
    folder.file("export/shared_conversations.json", "[1]");
    let ran = import(&folder, "chatgpt", text_of(&folder.path("export")), &[]);
    assert!(
        ok(&ran).stdout.starts_with("6 records stored"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    let mut files: Vec<(String, Vec<u8>)> = parts
        .iter()
        .map(|(name, text)| (format!("export/{name}"), text.clone().into_bytes()))
        .collect();
    files.push((
        "__MACOSX/export/._conversations-000.json".to_owned(),
        b"\0\x05".to_vec(),
    ));
    files.push(("export/chat.html".to_owned(), b"<html>".to_vec()));
    let archive = folder.path("export.zip");
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    zip(&archive, &files);
    let ran = import(&folder, "chatgpt", text_of(&archive), &[]);
    assert_eq!(
        ok(&ran).stdout,
        "0 records stored, 6 already there\n",
        "{}",
        ran.stderr
    );
    // Other programs' data may be zipped, too.
    let notes = folder.path("notes.zip");
    zip(
        &notes,
        &[
            ("notes/a.md", b"# A\n- knows [[B]]\n"),
            ("notes/deeper/b.md", b"---\ntitle: B\n---\nsecond"),
        ],
    );
    let setup = Setup::new();
    ok(&import(&setup, "basic-memory", text_of(&notes), &[]));
    let stored = records(&setup);
    assert_eq!(
        (of(&stored, "memory").len(), of(&stored, "relation").len()),
        (2, 1),
        "{stored:?}"
    );
}

#[test]
fn an_archive_that_expands_without_end_is_stopped() {
    let setup = Setup::new();
    let mut bomb = format!("[{},", chatgpt("h1", &["kept"])).into_bytes();
    bomb.resize(100 * 1024 * 1024, b' ');
    let archive = setup.path("bomb.zip");
    zip(&archive, &[("conversations.json", &bomb)]);
    drop(bomb);
    let ran = import(&setup, "chatgpt", text_of(&archive), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("expands to far more than text does"),
        "{}",
        ran.stderr
    );
    let broken = setup.file("broken.zip", b"PK\x03\x04 and nothing else");
    let ran = import(&setup, "claude", text_of(&broken), &[]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("zip archive cannot be read"),
        "{}",
        ran.stderr
    );
}

#[test]
fn every_encoding_is_read_and_undecodable_bytes_are_replaced() {
    let line = "{\"type\":\"entity\",\"name\":\"Zürich\",\"entityType\":\"place\",\"observations\":[\"has three quays\"]}\r\n";
    let mark = format!("\u{feff}{line}");
    for bytes in [line.as_bytes().to_vec(), mark.into_bytes(), utf16(line)] {
        let (_, ran, records) = imported("mcp-memory-server", "memory.jsonl", bytes);
        assert_eq!(
            contents(&records),
            ["Zürich: has three quays"],
            "{}",
            ran.stderr
        );
        assert!(
            !ran.stdout.contains("warning"),
            "{} {}",
            ran.stdout,
            ran.stderr
        );
    }
    let mut broken = line.replace("has", "caf_").into_bytes();
    let at = broken.iter().position(|byte| *byte == b'_').unwrap();
    broken[at] = 0xe9;
    let (_, ran, records) = imported("mcp-memory-server", "memory.jsonl", broken);
    assert_eq!(contents(&records), ["Zürich: caf\u{fffd} three quays"]);
    assert!(
        ran.stderr
            .contains(&format!("memory.jsonl: byte {at}: invalid UTF-8")),
        "{}",
        ran.stderr
    );
    let chat = format!("[{}]", chatgpt("h1", &["Zürich 世界"]));
    for bytes in [format!("\u{feff}{chat}").into_bytes(), utf16(&chat)] {
        let (_, _, records) = imported("chatgpt", "conversations.json", bytes);
        assert_eq!(contents(&records), ["Zürich 世界"]);
    }
}

#[test]
fn json_of_python_and_javascript_is_repaired() {
    let chat = format!(
        "[{}]",
        chatgpt("h1", &["cut HALF here", "NUL\0 inside"]).replace("HALF", "\\ud83d")
    );
    let (_, ran, records) = imported("chatgpt", "conversations.json", &chat);
    assert_eq!(
        contents(&records),
        ["NUL\u{fffd} inside", "cut \u{fffd} here"]
    );
    assert!(
        ran.stderr.contains("half of a surrogate pair") && ran.stderr.contains("NUL characters"),
        "{}",
        ran.stderr
    );
    let export = r#"{"export_metadata": {"n": NaN}, "memories": [
        {"content": "one", "content_hash": "h1", "tags": ["quay", 5], "created_at": Infinity, "metadata": {"a": NaN, "b": 1}},
        {"content": null, "content_hash": "h2"},
        {"content": "three", "content_hash": "h3", "metadata": "{\"c\": -Infinity}", "created_at": 1e999}]}"#;
    let setup = Setup::new();
    let path = setup.file("export.json", export);
    let ran = import(
        &setup,
        "mcp-memory-service",
        text_of(&path),
        &["--keep-going"],
    );
    assert!(
        ok(&ran)
            .stdout
            .starts_with("2 records stored (memories: 2), 0 already there, 1 left out"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr.contains("export.json, memory 2 (line 3, byte "),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("memory 1 (line 2") && ran.stderr.contains("read as null"),
        "{}",
        ran.stderr
    );
    let stored = self::records(&setup);
    let one = stored
        .iter()
        .find(|record| record["content"] == "one")
        .unwrap();
    assert_eq!(
        (&one["metadata"]["a"], &one["metadata"]["b"], &one["tags"]),
        (&Value::Null, &json!(1), &json!(["5", "quay"]))
    );
}

#[test]
fn links_pipes_and_sockets_in_a_folder_are_skipped_and_reported() {
    let setup = Setup::new();
    setup.file("notes/deep/note.md", "kept");
    let outside = setup.file("outside/secret.md", "never imported");
    let link =
        |target: &Path, name: &str| std::os::unix::fs::symlink(target, setup.path(name)).unwrap();
    link(&setup.path("notes"), "notes/deep/loop");
    link(Path::new("."), "notes/here");
    link(&setup.path("outside"), "notes/folder");
    link(&outside, "notes/link.md");
    link(Path::new("nowhere"), "notes/broken.md");
    link(Path::new("/dev/zero"), "notes/zero.md");
    assert!(
        Command::new("mkfifo")
            .arg(setup.path("notes/pipe.md"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(setup.path("notes/socket.md")).unwrap();
    let ran = import(&setup, "basic-memory", text_of(&setup.path("notes")), &[]);
    assert!(
        ok(&ran).stdout.contains("already there, 8 warnings"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert_eq!(contents(&records(&setup)), ["# note\n\nkept"]);
    for skipped in [
        "deep/loop",
        "here",
        "folder",
        "link.md",
        "broken.md",
        "zero.md",
    ] {
        assert!(
            ran.stderr
                .contains(&format!("{skipped}: this symbolic link to")),
            "{skipped}: {}",
            ran.stderr
        );
    }
    assert!(
        ran.stderr.contains("pipe.md: this is a named pipe"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("socket.md: this is a socket"),
        "{}",
        ran.stderr
    );
    // Reading a pipe would wait forever.
    for from in ["claude", "mcp-memory-service", "basic-memory"] {
        let ran = import(&setup, from, text_of(&setup.path("notes/pipe.md")), &[]);
        assert!(
            ran.code == Some(64) && ran.stderr.contains("named pipe"),
            "{from}: {}",
            ran.stderr
        );
    }
}

async fn sqlite_file(setup: &Setup, sql: &str) -> PathBuf {
    let path = setup.path("memory.db");
    let _ = std::fs::remove_file(&path);
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    path
}

#[tokio::test]
async fn hostile_sqlite_files_neither_hang_nor_abort() {
    let setup = Setup::new();
    let endless = "CREATE TABLE other (a); CREATE VIEW memories AS WITH RECURSIVE n(content) AS \
        (SELECT 'x' UNION ALL SELECT content || 'x' FROM n) SELECT content, content AS content_hash FROM n;";
    let path = sqlite_file(&setup, endless).await;
    let ran = import(&setup, "mcp-memory-service", text_of(&path), &[]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("there is no table \"memories\""),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("other"), "{}", ran.stderr);
    let odd = "CREATE TABLE memories (content_hash TEXT PRIMARY KEY, content TEXT, tags TEXT, created_at REAL, \
            metadata TEXT, deleted_at REAL, embedding BLOB, extra TEXT GENERATED ALWAYS AS (hex(zeroblob(9000000)))) \
            WITHOUT ROWID; \
        INSERT INTO memories VALUES ('h1', 'first', 'a,b', 1767225600.5, '{\"n\": NaN}', NULL, x'00ff'), \
            ('h2', CAST(x'636166e9' AS TEXT), NULL, 'soon', 'no json', NULL, NULL), \
            ('h3', 'gone', NULL, NULL, NULL, 5, NULL), ('h4', 12, NULL, 9e999, NULL, NULL, NULL);";
    let path = sqlite_file(&setup, odd).await;
    let ran = import(&setup, "mcp-memory-service", text_of(&path), &[]);
    ok(&ran);
    let stored = records(&setup);
    assert_eq!(contents(&stored), ["12", "caf\u{fffd}", "first"]);
    assert!(
        ran.stderr
            .contains("memory.db, row 2: content is not valid UTF-8"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("memories that were deleted there: 1"),
        "{}",
        ran.stderr
    );
    let odd = stored
        .iter()
        .find(|record| record["content"] == "caf\u{fffd}")
        .unwrap();
    assert_eq!(odd["metadata"]["metadata"], "no json");
    let broken = setup.file("broken.db", b"SQLite format 3\0 and nothing else");
    let ran = import(&setup, "mcp-memory-service", text_of(&broken), &[]);
    assert!(
        ran.code != Some(0) && !ran.stderr.contains("restore the file from a backup"),
        "{}",
        ran.stderr
    );
}
