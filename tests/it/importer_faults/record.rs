//! Records that are odd, too large or in conflict with stored ones.

use super::*;

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
            .contains("\"Ghost\", which has no entity of its own: created"),
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
            .contains("broken.md: the front matter is not valid YAML"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        of_title("Bare")["content"],
        "# Bare\n\nbare body - it has no front matter"
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
