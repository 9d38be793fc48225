//! Names and texts that show nothing are refused, and names that were stored earlier keep working.

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use crate::process::{Client, Setup};

/// Zero width space, byte order mark, word joiner, soft hyphen, bidirectional controls, filler, joiners, blanks.
const INVISIBLE: [&str; 9] = [
    "\u{200b}",
    "\u{feff}",
    "\u{2060}",
    "\u{ad}",
    "\u{202e}\u{202c}",
    "\u{3164}",
    "\u{200d}\u{200c}",
    " \u{200b} \u{a0}",
    "\u{7}",
];
/// Names with a character that nobody sees.
const DISGUISED: [(&str, &str); 5] = [
    ("Ada\u{200b}", "U+200B"),
    ("\u{feff}Ada", "U+FEFF"),
    ("A\u{ad}da", "U+00AD"),
    ("\u{202e}adA", "U+202E"),
    ("Ada\u{2060} Lovelace", "U+2060"),
];
/// Signs that belong to visible characters.
const VISIBLE: [&str; 4] = ["❤\u{fe0f}", "👩\u{200d}🚀", "می\u{200c}خواهم", "東京"];

/// Calls that store a name, with the field that has it.
fn calls_with(name: &str) -> Vec<(&'static str, Value, &'static str)> {
    let item = |field: &str, value: Value| {
        let mut item = json!({ "content": format!("about {name:?}") });
        item[field] = value;
        json!({ "items": [item] })
    };
    vec![
        ("remember", item("tags", json!(["ok", name])), "tags[1]"),
        ("remember", item("session", json!(name)), "session"),
        ("remember", item("entities", json!([name])), "entities[0]"),
        (
            "remember",
            item("entities", json!([{ "name": "Bo", "type": name }])),
            "type",
        ),
        (
            "focus",
            json!({ "content": "plan", "session": name }),
            "session",
        ),
        (
            "link",
            json!({ "entities": [{ "name": name }] }),
            "entities[0].name",
        ),
        (
            "link",
            json!({ "relations": [{ "from": name, "type": "knows", "to": "Bo" }] }),
            "from",
        ),
        (
            "link",
            json!({ "relations": [{ "from": "Bo", "type": name, "to": "Cy" }] }),
            "type",
        ),
    ]
}

async fn refusal(client: &Client, tool: &str, arguments: &Value) -> String {
    let answer = client.try_call(tool, arguments.clone()).await.unwrap();
    assert_eq!(
        answer["result"]["isError"], true,
        "{tool} {arguments}: {answer}"
    );
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn invisible_names_are_refused_with_their_field() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    for name in INVISIBLE {
        for (tool, arguments, field) in calls_with(name) {
            let text = refusal(&client, tool, &arguments).await;
            assert!(
                text.contains(field) && text.contains("visible character"),
                "{tool} {arguments}: {text}"
            );
        }
        let content = json!({ "items": [{ "content": name }] });
        assert!(
            refusal(&client, "remember", &content)
                .await
                .contains("content")
        );
        let speaker =
            json!({ "items": [{ "content": "hello", "kind": "dialogue", "speaker": name }] });
        assert!(
            refusal(&client, "remember", &speaker)
                .await
                .contains("speaker")
        );
    }
    for (name, sign) in DISGUISED {
        for (tool, arguments, field) in calls_with(name) {
            let text = refusal(&client, tool, &arguments).await;
            assert!(
                text.contains(field) && text.contains(&format!("remove {sign}")),
                "{tool} {arguments}: {text}"
            );
        }
    }
    for name in VISIBLE {
        for (tool, arguments, _) in calls_with(name) {
            client.call(tool, arguments).await;
        }
        let found = client.call("recall", json!({ "tags": [name] })).await;
        assert_eq!(
            found["hits"].as_array().unwrap().len(),
            1,
            "{name:?}: {found}"
        );
    }
    let update = json!({ "id": client.remember("a walrus").await, "tags": ["\u{200b}"] });
    assert!(
        refusal(&client, "update", &update)
            .await
            .contains("tags[0]")
    );
    let imported = setup.run(&["import", "--project", "\u{200b}", "missing.jsonl"]);
    assert_eq!(imported.code, Some(64), "{}", imported.stderr);
    assert!(imported.stderr.contains("--project"), "{}", imported.stderr);
    server.stop().await;
}

/// Earlier versions stored them.
#[tokio::test]
async fn invisible_names_that_were_stored_keep_working() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server
        .client()
        .call(
            "remember",
            json!({ "items": [{ "content": "a walrus", "session": "s1", "entities": ["Ada"] }] }),
        )
        .await;
    server.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(setup.database());
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(
        "UPDATE memory SET session = char(8203); UPDATE entity SET name = char(8203), name_key = char(8203)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let server = setup.serve().await;
    let client = server.client();
    let found = client
        .call("recall", json!({ "session": "\u{200b}" }))
        .await;
    assert_eq!(found["hits"][0]["content"], "a walrus", "{found}");
    let read = client
        .call("get", json!({ "entities": ["\u{200b}"] }))
        .await;
    assert_eq!(read["memories"][0]["content"], "a walrus", "{read}");
    let erase = json!({ "entities": [{ "name": "\u{200b}", "erase": true }] });
    assert_eq!(client.call("link", erase).await["erased"], 1);
    server.stop().await;
    let saved = setup.run(&["export", "all.jsonl"]);
    assert_eq!(saved.code, Some(0), "{}", saved.stderr);
    let other = Setup::new();
    let file = setup.path("all.jsonl");
    let restored = other.run(&["restore", file.to_str().unwrap()]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
}
