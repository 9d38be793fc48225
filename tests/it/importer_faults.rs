//! Imports of odd, damaged or hostile data: everything valid is kept, and the rest is reported with its position.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::importer::{import, of, records};
use crate::process::{Ran, Setup};
use crate::transfer::{export, ok};

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Imports a file without --keep-going and returns what was stored.
fn imported(from: &str, name: &str, content: impl AsRef<[u8]>) -> (Setup, Ran, Vec<Value>) {
    let setup = Setup::new();
    let path = setup.file(name, content);
    let ran = import(&setup, from, text_of(&path), &[]);
    ok(&ran);
    let records = records(&setup);
    (setup, ran, records)
}

fn contents(records: &[Value]) -> Vec<String> {
    let mut contents: Vec<String> = of(records, "memory")
        .iter()
        .map(|memory| memory["content"].as_str().unwrap().to_owned())
        .collect();
    contents.sort();
    contents
}

fn claude(id: &str, fields: &Value, messages: &Value) -> Value {
    let mut conversation = json!({ "uuid": id, "name": "Talk", "created_at": "2026-03-01T10:00:00Z",
        "chat_messages": messages });
    for (name, value) in fields.as_object().unwrap() {
        conversation[name] = value.clone();
    }
    conversation
}

fn chatgpt(id: &str, texts: &[&str]) -> String {
    let mut nodes = json!({ "root": { "id": "root", "parent": null, "children": [format!("{id}-0")], "message": null } });
    for (index, text) in texts.iter().enumerate() {
        let parent = if index == 0 {
            "root".to_owned()
        } else {
            format!("{id}-{}", index - 1)
        };
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        nodes[format!("{id}-{index}")] = json!({ "parent": parent, "children": [format!("{id}-{}", index + 1)],
            "message": { "id": format!("{id}-{index}"), "author": { "role": role }, "create_time": 1767225600.5,
                "content": { "content_type": "text", "parts": [text] } } });
    }
    let conversation = json!({ "id": id, "conversation_id": id, "title": "Quay", "create_time": 1767225600.0,
        "mapping": nodes, "current_node": format!("{id}-{}", texts.len() - 1) });
    conversation.to_string()
}

fn zip(path: &Path, files: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, content) in files {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[test]
fn nulls_in_a_claude_export_cost_only_themselves() {
    let text = |id: &str, text: &Value| json!({ "uuid": id, "text": text, "content": null, "sender": "human" });
    let export = json!([
        claude(
            "c1",
            &json!({ "name": null }),
            &json!([text("m1", &json!("one")), text("m2", &Value::Null), null])
        ),
        claude("c2", &json!({ "chat_messages": null }), &json!([])),
        claude(
            "c3",
            &json!({ "uuid": null, "created_at": null }),
            &json!([
                { "uuid": null, "text": null, "content": [null, { "type": "text", "text": null },
                    { "type": "text", "text": "two" }], "sender": null, "created_at": "soon", "attachments": null },
            ])
        ),
    ]);
    let (_, ran, records) = imported("claude", "conversations.json", export.to_string());
    assert_eq!(contents(&records), ["one", "two"]);
    assert!(
        ran.stderr
            .contains("conversations.json, conversation 1 (line 1, byte 1): its name is null"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("message 3: null instead of a message"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("its sender is null") && ran.stderr.contains("created_at \"soon\""),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("messages without text: 1")
            && ran.stderr.contains("conversations without messages")
    );
    assert!(ran.stdout.contains("warnings"), "{}", ran.stdout);
}

#[test]
fn broken_conversations_are_reported_with_their_place_and_the_rest_is_kept() {
    let good = claude(
        "c1",
        &json!({}),
        &json!([{ "uuid": "m1", "text": "kept", "sender": "human" }]),
    );
    let last = claude(
        "c2",
        &json!({}),
        &json!([{ "uuid": "m2", "text": "kept, too", "sender": "human" }]),
    );
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let text =
        format!("[{good},\n{{\"uuid\": broken}},\n7,\n{deep},\n{{\"chat_messages\": 5}},\n{last}]");
    for (from, name) in [("claude", "conversations.json"), ("claude", "renamed.json")] {
        let setup = Setup::new();
        let path = setup.file(name, &text);
        let strict = import(&setup, from, text_of(&path), &[]);
        assert_eq!(strict.code, Some(1), "{}", strict.stderr);
        assert!(
            !setup.database().exists() && strict.stderr.contains("4 parts cannot be imported"),
            "{}",
            strict.stderr
        );
        let ran = import(&setup, from, text_of(&path), &["--keep-going"]);
        assert_eq!(
            ok(&ran).stdout,
            "2 records stored (memories: 2), 0 already there, 4 left out\n",
            "{}",
            ran.stderr
        );
        for place in [
            "conversation 2 (line 2",
            "conversation 3 (line 3",
            "conversation 4 (line 4",
            "conversation 5 (line 5",
        ] {
            assert!(
                ran.stderr
                    .contains(&format!("not imported: {name}, {place}")),
                "{place}: {}",
                ran.stderr
            );
        }
        assert_eq!(contents(&records(&setup)), ["kept", "kept, too"]);
    }
}

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
fn every_encoding_is_read_and_bytes_that_are_no_text_are_replaced() {
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
fn what_only_python_and_javascript_write_is_repaired() {
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
fn the_reference_servers_odd_lines_lose_nothing_valid() {
    let text = concat!(
        r#"{"type":"relation","from":"Harbour","to":"Ghost","relationType":"knows"}"#,
        "\n\n",
        r#"{"type":"entity","name":"Harbour","entityType":null,"observations":["has three quays",null,7,{"content":"deep"}]}"#,
        r#"{"type":"entity","name":"Quay","entityType":"place","observations":null}"#,
        "\n",
        r#"{"type":"relation","from":"Quay","to":null,"relationType":"in"}"#,
        "\n",
        r#"{"type":"entity","name":null,"entityType":"place"}"#,
        "\nnot json\n",
    );
    let setup = Setup::new();
    let path = setup.file("memory.jsonl", text);
    let ran = import(
        &setup,
        "mcp-memory-server",
        text_of(&path),
        &["--keep-going"],
    );
    let stored = records(&setup);
    assert!(
        ok(&ran).stdout.contains("3 left out"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert_eq!(
        contents(&stored),
        ["Harbour: 7", "Harbour: deep", "Harbour: has three quays"]
    );
    let mut names: Vec<&str> = of(&stored, "entity")
        .iter()
        .map(|entity| entity["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["Ghost", "Harbour", "Quay"]);
    assert_eq!(of(&stored, "relation")[0]["target"]["name"], "Ghost");
    for place in [
        "line 4: to of the relation: expected the name of an entity, got null",
        "line 5: name of the entity: expected text with a visible character, got null",
        "line 6: this is not JSON",
    ] {
        assert!(
            ran.stderr
                .contains(&format!("not imported: memory.jsonl, {place}")),
            "{place}: {}",
            ran.stderr
        );
    }
    assert!(
        ran.stderr
            .contains("line 3, observation 2: null without text"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("\"Ghost\", which is no entity of its own: created"),
        "{}",
        ran.stderr
    );
    // The answer of its tool read_graph, and the lines as an array.
    let graph = json!({ "entities": [{ "name": "A", "entityType": "x", "observations": ["one"] }],
        "relations": [{ "from": "A", "to": "B", "relationType": "knows" }] });
    for text in [
        serde_json::to_string_pretty(&graph).unwrap(),
        graph.to_string(),
    ] {
        let (_, _, records) = imported("mcp-memory-server", "memory.json", text);
        assert_eq!(
            (contents(&records), of(&records, "relation").len()),
            (vec!["A: one".to_owned()], 1)
        );
    }
}

#[test]
fn notes_with_one_permalink_are_both_kept() {
    let setup = Setup::new();
    for (name, text) in [
        ("a.md", "first body"),
        ("b.md", "second body"),
        ("c.md", "third body"),
    ] {
        setup.file(
            &format!("notes/{name}"),
            format!("---\ntitle: {name}\npermalink: same\n---\n{text}\n"),
        );
    }
    // A copy with the same text counts as a duplicate.
    let notes = setup.path("notes");
    let ran = import(&setup, "basic-memory", text_of(&notes), &[]);
    assert!(
        ok(&ran).stdout.contains(", 0 already there, 2 warnings"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("b.md: its ID \"same\" was used before for another text"),
        "{}",
        ran.stderr
    );
    let bodies = |setup: &Setup| contents(&records(setup)).join("|");
    for body in ["first body", "second body", "third body"] {
        assert!(bodies(&setup).contains(body), "{}", bodies(&setup));
    }
    let again = import(&setup, "basic-memory", text_of(&notes), &[]);
    assert!(
        ok(&again).stdout.starts_with("0 records stored, "),
        "{} {}",
        again.stdout,
        again.stderr
    );
    // A note that was changed since is not mistaken for the stored one.
    setup.file(
        "notes/a.md",
        "---\ntitle: a.md\npermalink: same\n---\nfirst body, changed\n",
    );
    let changed = import(&setup, "basic-memory", text_of(&notes), &[]);
    assert!(
        ok(&changed)
            .stdout
            .starts_with("2 records stored (memories: 1, mentions: 1)"),
        "{}",
        changed.stdout
    );
    assert!(
        changed
            .stderr
            .contains("is stored with another text: both are kept"),
        "{}",
        changed.stderr
    );
    assert!(
        bodies(&setup).contains("first body\n") || bodies(&setup).contains("first body|"),
        "{}",
        bodies(&setup)
    );
    assert!(
        bodies(&setup).contains("first body, changed"),
        "{}",
        bodies(&setup)
    );
    let again = import(&setup, "basic-memory", text_of(&notes), &[]);
    assert!(
        ok(&again).stdout.starts_with("0 records stored, "),
        "{} {}",
        again.stdout,
        again.stderr
    );
}

#[test]
fn a_conversation_that_took_another_branch_is_added_to() {
    let setup = Setup::new();
    let path = setup.file(
        "conversations.json",
        format!("[{}]", chatgpt("h1", &["question", "old answer"])),
    );
    ok(&import(&setup, "chatgpt", text_of(&path), &[]));
    let changed =
        chatgpt("h1", &["question", "new answer"]).replace("\"id\":\"h1-1\"", "\"id\":\"other\"");
    setup.file("conversations.json", format!("[{changed}]"));
    let ran = import(&setup, "chatgpt", text_of(&path), &[]);
    assert_eq!(
        ok(&ran).stdout,
        "1 record stored (memories: 1), 1 already there, 1 warning\n",
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("stored without its turn number"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        contents(&records(&setup)),
        ["new answer", "old answer", "question"]
    );
}

#[test]
fn front_matter_is_yaml() {
    let setup = Setup::new();
    setup.file(
        "notes/note.md",
        "---\ntitle: \"He said \\\"deep\\\" and 'it''s'\"\ndescription: >-\n  folded text\n  over lines: with colon\n\
         nested:\n  a: 1\n  tags: [not, these]\ntags: [\"#quay\", 'x y', plain]   # a comment\npermalink: \"\"\n---\nbody\n",
    );
    setup.file("notes/broken.md", "---\ntags: [open\n---\nbroken body\n");
    setup.file("notes/Bare.MD", "bare body - it has no front matter");
    let ran = import(&setup, "basic-memory", text_of(&setup.path("notes")), &[]);
    ok(&ran);
    let stored = records(&setup);
    let of_title = |title: &str| {
        stored
            .iter()
            .find(|record| record["metadata"]["title"] == title)
            .unwrap()
    };
    let note = of_title("He said \"deep\" and 'it''s'");
    assert_eq!(note["tags"], json!(["plain", "quay", "x y"]));
    assert_eq!(note["metadata"]["permalink"], "note");
    assert_eq!(
        note["metadata"]["description"],
        "folded text over lines: with colon"
    );
    assert_eq!(note["metadata"]["nested"]["tags"], json!(["not", "these"]));
    let broken = of_title("broken")["content"].as_str().unwrap();
    assert!(
        broken.contains("tags: [open") && broken.contains("broken body"),
        "{broken}"
    );
    assert!(
        ran.stderr
            .contains("broken.md: the front matter is no valid YAML"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        of_title("Bare")["content"],
        "# Bare\n\nbare body - it has no front matter"
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
            .contains("memory.db, row 2: content is no valid UTF-8"),
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

#[test]
fn metadata_and_names_beyond_the_limits_are_reduced_with_a_warning() {
    let mut deep = json!("bottom");
    for _ in 0..40 {
        deep = json!({ "x": deep });
    }
    let tags: Vec<String> = (0..50).map(|n| format!("tag-{n:02}")).collect();
    let export = json!({ "memories": [{ "content": "kept", "content_hash": "h1", "tags": tags,
        "metadata": { "deep": deep, "long": "x".repeat(30_000), "nul\0": "a\0" } }] });
    let (_, ran, records) = imported("mcp-memory-service", "export.json", export.to_string());
    assert_eq!(contents(&records), ["kept"]);
    assert_eq!(
        records[0]["metadata"]["further_tags"]
            .as_array()
            .unwrap()
            .len(),
        18
    );
    assert!(
        ran.stderr.contains("\"deep\" was nested too deeply")
            && ran.stderr.contains("\"long\" was left out")
    );
    let name = "n".repeat(300);
    let line = json!({ "type": "entity", "name": name, "entityType": "k".repeat(200), "observations": ["long name"] });
    let (_, ran, records) = imported("mcp-memory-server", "memory.jsonl", line.to_string());
    assert_eq!(
        (of(&records, "entity").len(), of(&records, "memory").len()),
        (1, 1),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("was cut to 256 bytes"),
        "{}",
        ran.stderr
    );
}

#[test]
fn our_own_export_survives_other_programs() {
    let source = Setup::new();
    let path = source.file(
        "memory.jsonl",
        r#"{"type":"entity","name":"A","entityType":"x","observations":["Zürich"]}"#,
    );
    ok(&import(&source, "mcp-memory-server", text_of(&path), &[]));
    let text = export(&source, "own.jsonl");
    let mark = format!("\u{feff}{text}");
    let archive = source.path("own.zip");
    zip(&archive, &[("own.jsonl", text.as_bytes())]);
    let archive = std::fs::read(archive).unwrap();
    let crlf = text.replace('\n', "\r\n");
    for bytes in [mark.into_bytes(), crlf.into_bytes(), utf16(&text), archive] {
        let target = Setup::new();
        let path = target.file("in", bytes);
        let ran = target.run(&["import", text_of(&path)]);
        assert_eq!(
            ok(&ran).stdout,
            "3 records stored (memories: 1, entities: 1, mentions: 1), 0 already there\n"
        );
        assert_eq!(export(&target, "out.jsonl"), text);
    }
    // Two exports in one file.
    let target = Setup::new();
    let second = text
        .replace("Zürich", "Bern")
        .replace("\"id\":\"0", "\"id\":\"1")
        .replace("\"memory\":\"0", "\"memory\":\"1");
    let path = target.file("both.jsonl", format!("{text}{second}"));
    let ran = target.run(&["import", "--keep-going", text_of(&path)]);
    assert!(ran.stderr.contains("after the end line"), "{}", ran.stderr);
    assert_eq!(
        contents(&records(&target)),
        ["A: Bern", "A: Zürich"],
        "{}",
        ran.stderr
    );
    let ran = target.run(&["import", "missing.jsonl"]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("both.jsonl"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn another_text_under_a_stored_id_is_reported() {
    let source = Setup::new();
    let path = source.file(
        "memory.jsonl",
        r#"{"type":"entity","name":"A","entityType":"x","observations":["one"]}"#,
    );
    ok(&import(&source, "mcp-memory-server", text_of(&path), &[]));
    let text = export(&source, "own.jsonl");
    let changed = source.file("changed.jsonl", text.replace("A: one", "A: two"));
    let ran = source.run(&["import", "--keep-going", text_of(&changed)]);
    assert!(
        ok(&ran)
            .stdout
            .starts_with("0 records stored, 2 already there, "),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        ran.stderr.contains("is stored with another text"),
        "{}",
        ran.stderr
    );
    assert_eq!(contents(&records(&source)), ["A: one"]);
    // A memory that was edited here after its import has the newer text, and its old text is recognized.
    let server = source.serve().await;
    let id = records_of(&text)[1]["id"].as_str().unwrap().to_owned();
    server
        .client()
        .call(
            "update",
            json!({ "id": id, "content": "A: one, corrected" }),
        )
        .await;
    server.stop().await;
    let again = import(&source, "mcp-memory-server", text_of(&path), &[]);
    assert_eq!(
        ok(&again).stdout,
        "0 records stored, 3 already there\n",
        "{}",
        again.stderr
    );
    assert_eq!(contents(&records(&source)), ["A: one, corrected"]);
}

fn records_of(text: &str) -> Vec<Value> {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (_, records) = lines.split_first().unwrap();
    records.to_vec()
}

#[test]
fn a_long_name_is_not_copied_into_each_record() {
    let long = "n".repeat(200_000);
    let observations: Vec<String> = (0..50)
        .map(|number| format!("observation {number}"))
        .collect();
    let entity = json!({ "type": "entity", "name": long, "entityType": "thing", "observations": observations });
    let message = |number: usize| json!({ "sender": "human", "text": format!("message {number}") });
    let messages: Vec<Value> = (0..50).map(message).collect();
    let conversation = json!([{ "uuid": long, "name": long, "chat_messages": messages }]);
    let message = |number: usize| {
        json!({ "parent": null, "children": [],
            "message": { "author": { "role": "user" }, "content": { "parts": [format!("message {number}")] } } })
    };
    let nodes: Map<String, Value> = (0..50)
        .map(|number| (format!("n{number}"), message(number)))
        .collect();
    let chat = json!([{ "id": long, "title": long, "mapping": nodes }]);
    for (from, name, text) in [
        ("mcp-memory-server", "memory.jsonl", entity),
        ("claude", "conversations.json", conversation),
        ("chatgpt", "conversations.json", chat),
    ] {
        let setup = Setup::new();
        let file = setup.file(name, text.to_string());
        for stored in ["memories: 50", "0 records stored"] {
            let ran = import(&setup, from, file.to_str().expect("UTF-8"), &[]);
            assert!(
                ok(&ran).stdout.contains(stored),
                "{from}: {}{:.1000}",
                ran.stdout,
                ran.stderr
            );
            assert!(
                ran.stderr.contains("was cut to"),
                "{from}: {:.1000}",
                ran.stderr
            );
        }
        let size: usize = records(&setup)
            .iter()
            .map(|record| record.to_string().len())
            .sum();
        assert!(size < 500_000, "{from}: {size} bytes");
    }
}
