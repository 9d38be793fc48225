//! Conversations with missing or broken parts.

use super::*;

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
