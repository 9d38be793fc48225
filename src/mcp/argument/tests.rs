use chrono::{DateTime, Utc};
use rmcp::model::JsonObject;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> JsonObject {
    value.as_object().expect("an object").clone()
}

/// Returns the shape of a tool like `remember`, with an additional field of every type.
fn shape() -> Shape {
    Shape::of_arguments(&object(json!({
        "type": "object",
        "x-lift": ["items"],
        "properties": {
            "items": { "type": "array", "maxItems": 3, "x-aliases": ["item"], "items": { "$ref": "#/$defs/Item" } },
            "idempotency_key": { "type": ["string", "null"] },
        },
        "required": ["items"],
        "$defs": { "Item": {
            "type": "object",
            "x-example": "{\"content\": \"…\"}",
            "properties": {
                "content": { "type": "string", "x-aliases": ["text"] },
                "kind": {
                    "x-synonyms": { "fact": "note", "lesson": { "to": "episode", "with": ["lesson"], "else": "note" } },
                    "oneOf": [{ "type": "string", "const": "note" }, { "type": "string", "const": "episode" }],
                },
                "tags": { "type": "array", "items": { "type": "string" }, "x-split": true, "x-aliases": ["tag"] },
                "importance": { "type": ["number", "null"], "minimum": 0, "maximum": 1 },
                "turn": { "type": ["integer", "null"], "format": "int64", "minimum": 0 },
                "protected": { "type": "boolean" },
                "metadata": { "type": "object", "additionalProperties": true },
                "occurred_at": { "type": ["string", "null"], "x-time": ["never"] },
                "session": { "type": ["string", "null"], "x-aliases": ["session_id"] },
                "lesson": { "type": ["string", "null"] },
                "relations": { "type": "array", "items": {
                    "type": "object", "x-example": "{\"from\": \"…\", \"to\": \"…\"}",
                    "properties": { "from": { "type": "string" }, "to": { "type": "string" } },
                    "required": ["from", "to"],
                } },
                "entities": { "type": "array", "items": { "anyOf": [{ "type": "string" }, {
                    "type": "object", "x-scalar": "name", "properties": { "name": { "type": "string" } },
                    "required": ["name"],
                }] } },
            },
            "required": ["content"],
        } },
    })))
}

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-03-14T15:30:00Z")
        .expect("a time")
        .to_utc()
}

fn read(arguments: Value) -> Result<(Value, Vec<String>), String> {
    let shape = shape();
    match prepare(&shape, object(arguments), now()) {
        Ok(prepared) => Ok((Value::Object(prepared.arguments), prepared.notes)),
        Err(refused) => Err(describe_problems(&refused.problems)),
    }
}

/// Returns the single item of a call, and the notes.
fn item(arguments: Value) -> (Value, Vec<String>) {
    let (mut arguments, notes) = read(arguments).expect("accepted");
    assert_eq!(
        arguments["items"].as_array().map(Vec::len),
        Some(1),
        "{arguments}"
    );
    (arguments["items"][0].take(), notes)
}

#[test]
fn a_correct_call_is_left_as_it_is() {
    let arguments = json!({ "idempotency_key": "k", "items": [{
        "content": "x", "kind": "note", "tags": ["a"], "importance": 0.5, "turn": 1, "protected": true,
        "metadata": { "gone": null, "list": [1] }, "occurred_at": "2026-03-01", "entities": ["Marta", { "name": "Zed" }],
        "relations": [{ "from": "Marta", "to": "Zed" }],
    }] });
    let (read, notes) = read(arguments.clone()).expect("accepted");
    assert!(notes.is_empty(), "{notes:?}");
    let mut expected = arguments;
    expected["items"][0]["entities"][0] = json!({ "name": "Marta" });
    assert_eq!(read, expected);
}

#[test]
fn unset_arguments_are_left_out_and_empty_lists_stay() {
    let nothing = json!({ "items": [{ "content": "x", "kind": null, "tags": [], "importance": "", "session": "",
        "metadata": [], "turn": "null", "occurred_at": " " }], "idempotency_key": null, "unknown": null });
    let (read, notes) = item(nothing);
    assert_eq!(read, json!({ "content": "x", "tags": [] }));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("items[0].session"), "{notes:?}");
}

/// Values that are repaired, with the field and its expected value.
fn repairable_values() -> Vec<(Value, &'static str, Value)> {
    vec![
        (json!({ "tags": "a, b" }), "tags", json!(["a", "b"])),
        (json!({ "tags": "a" }), "tags", json!(["a"])),
        (
            json!({ "tags": "[\"a\", \"b\"]" }),
            "tags",
            json!(["a", "b"]),
        ),
        (json!({ "tags": "['a', 'b']" }), "tags", json!(["a", "b"])),
        (json!({ "tags": "\"[\\\"a\\\"]\"" }), "tags", json!(["a"])),
        (json!({ "tags": [2026] }), "tags", json!(["2026"])),
        (
            json!({ "tags": ["a", null, "", "b"] }),
            "tags",
            json!(["a", "b"]),
        ),
        (json!({ "tags": "[\"a\nb\"]" }), "tags", json!(["a\nb"])),
        (
            json!({ "tags": "[\"a\\ud83d\"]" }),
            "tags",
            json!(["a\u{fffd}"]),
        ),
        (
            json!({ "entities": ["Marta", null] }),
            "entities",
            json!([{ "name": "Marta" }]),
        ),
        (json!({ "tag": ["a"] }), "tags", json!(["a"])),
        (json!({ "importance": "0.7" }), "importance", json!(0.7)),
        (json!({ "turn": "5" }), "turn", json!(5)),
        (json!({ "turn": "5.0" }), "turn", json!(5)),
        (json!({ "protected": "True" }), "protected", json!(true)),
        (json!({ "protected": 0 }), "protected", json!(false)),
        (json!({ "kind": "NOTE" }), "kind", json!("note")),
        (json!({ "kind": "Fact" }), "kind", json!("note")),
        (json!({ "kind": "lesson" }), "kind", json!("note")),
        (
            json!({ "kind": "lesson", "lesson": "l" }),
            "kind",
            json!("episode"),
        ),
        (
            json!({ "metadata": "{\"a\": null}" }),
            "metadata",
            json!({ "a": null }),
        ),
        (
            json!({ "occurred_at": "2026-03-01T10:00:00" }),
            "occurred_at",
            json!("2026-03-01T10:00:00Z"),
        ),
        (
            json!({ "occurred_at": "yesterday" }),
            "occurred_at",
            json!("2026-03-13T00:00:00Z"),
        ),
        (
            json!({ "relations": { "from": "a", "to": "b" } }),
            "relations",
            json!([{ "from": "a", "to": "b" }]),
        ),
        (
            json!({ "relations": "[{\"from\": \"a\", \"to\": \"b\"}]" }),
            "relations",
            json!([{ "from": "a", "to": "b" }]),
        ),
        (
            json!({ "entities": "Marta" }),
            "entities",
            json!([{ "name": "Marta" }]),
        ),
        (json!({ "session": 7 }), "session", json!("7")),
        (json!({ "session_id": "s" }), "session", json!("s")),
    ]
}

#[test]
fn values_in_another_form_are_repaired_with_a_note() {
    for (given, field, expected) in repairable_values() {
        let mut one = object(given.clone());
        one.insert("content".into(), "x".into());
        let (read, notes) = item(json!({ "items": [one] }));
        assert_eq!(read[field], expected, "{given}");
        assert_eq!(notes.len(), 1, "{given}: {notes:?}");
    }
    // An integral float is not a repair, and neither is a permitted word in place of a time.
    let (read, notes) =
        item(json!({ "items": [{ "content": "x", "turn": 5.0, "occurred_at": "Never" }] }));
    assert_eq!(
        (&read["turn"], &read["occurred_at"], notes.len()),
        (&json!(5), &json!("never"), 0)
    );
}

#[test]
fn items_are_found_wherever_they_are() {
    let one = json!({ "content": "x", "tags": ["a"] });
    for given in [
        json!({ "items": one }),
        json!({ "item": [one] }),
        json!({ "items": one.to_string() }),
        json!({ "items": json!([one]).to_string() }),
        json!({ "items": [one.to_string()] }),
        json!({ "content": "x", "tags": ["a"] }),
        json!({ "text": "x", "tags": "a" }),
        json!({ "items": [], "content": "x", "tags": ["a"] }),
        json!({ "items": null, "content": "x", "tags": ["a"] }),
    ] {
        let (read, notes) = item(given.clone());
        assert_eq!(read, one, "{given}");
        assert!(!notes.is_empty(), "{given}");
    }
    let (both, _) = read(json!({ "items": [one], "content": "y" })).expect("accepted");
    assert_eq!(both["items"], json!([one, { "content": "y" }]));
}

#[test]
fn fields_beside_the_items_are_for_all_of_them() {
    let given = json!({ "items": [{ "content": "x", "tags": ["a"], "session": "own" }, { "content": "y" }],
        "tags": ["b"], "session": "s" });
    let (read, notes) = read(given).expect("accepted");
    assert_eq!(
        read["items"],
        json!([{ "content": "x", "tags": ["a", "b"], "session": "own" },
        { "content": "y", "tags": ["b"], "session": "s" }])
    );
    assert_eq!(notes, ["items: session, tags applied to every item."]);
    let large = json!({ "items": [{ "content": "x" }], "metadata": { "a": "x".repeat(20_000) } });
    assert!(
        super::tests::read(large)
            .expect_err("refused")
            .starts_with("metadata: expected at most 16384 bytes")
    );
}

#[test]
fn unknown_arguments_are_ignored_unless_they_are_slips() {
    let n8n = json!({ "content": "x", "sessionId": "s", "action": "sendMessage", "chatInput": "x", "toolCallId": "1" });
    let (read, notes) = item(n8n);
    assert_eq!(read, json!({ "content": "x" }));
    let ignored = notes.last().expect("a note");
    for name in ["sessionId", "action", "chatInput", "toolCallId"] {
        assert!(ignored.contains(name), "{notes:?}");
    }
    let (_, notes) = item(json!({ "items": [{ "content": "x", "colour": "red" }] }));
    assert_eq!(notes, ["Unknown arguments were ignored: items[0].colour."]);
    for (given, message) in [
        (
            json!({ "items": [{ "contents": "x" }] }),
            "items[0].contents: unknown argument; did you mean content?",
        ),
        (
            json!({ "items": [{ "content": "x", "importence": 1 }] }),
            "items[0].importence: unknown argument; did you mean importance?",
        ),
        (
            json!({ "itmes": [] }),
            "itmes: unknown argument; did you mean items?",
        ),
        (
            json!({ "items": [{ "content": "x", "text": "y" }] }),
            "items[0].text: means the same as content",
        ),
    ] {
        let error = super::tests::read(given).expect_err("refused");
        assert!(error.starts_with(message), "{error}");
    }
}

/// Refused arguments, with parts of the error.
fn refused_calls() -> Vec<(Value, Vec<&'static str>)> {
    let example = r#"expected an array of objects such as [{"content": "…"}]"#;
    vec![
        (json!({}), vec!["items: required; ", example]),
        (
            json!({ "items": "hello" }),
            vec!["items: ", example, r#", got a string: "hello""#],
        ),
        (
            json!({ "items": 5 }),
            vec!["items: expected an array of objects", "got a number: 5"],
        ),
        (
            json!({ "items": [["text", "note", ["x"]]] }),
            vec!["items[0]: expected an object such as", "got an array"],
        ),
        (
            json!({ "items": [null, true] }),
            vec![
                "2 problems: items[0]",
                "got null",
                "items[1]",
                "got a boolean: true",
            ],
        ),
        (
            json!({ "items": [{ "content": 5, "kind": "thing", "tags": [{}], "importance": 2, "turn": 1.5,
            "protected": "maybe", "metadata": "x", "occurred_at": "soon", "relations": [["Marta", "knows", "Zed"]] }] }),
            vec![
                "9 problems",
                "items[0].content: expected a string, got a number: 5",
                r#"items[0].kind: expected one of "note", "episode", got a string: "thing""#,
                "items[0].tags[0]: expected a string, got an object",
                "items[0].importance: expected a number from 0 to 1, got a number: 2",
                "items[0].turn: expected an integer of at least 0, got a number: 1.5",
                "items[0].protected: expected true or false",
                "items[0].metadata: expected an object",
                "items[0].occurred_at: expected a string with a time such as 2026-03-01T12:00:00Z",
                r#"items[0].relations[0]: expected an object such as {"from": "…", "to": "…"}, got an array"#,
            ],
        ),
        (
            json!({ "items": vec![json!({ "content": "x" }); 4] }),
            vec!["items: expected at most 3 entries, got 4"],
        ),
        (
            json!({ "items": [{ "content": "x", "importance": "NaN" }] }),
            vec![r#"got a string: "NaN""#],
        ),
        (
            json!({ "items": [{ "content": "x", "importance": "inf", "turn": 1e30 }] }),
            vec!["2 problems", "1e+30"],
        ),
        (
            json!({ "items": [{ "content": "x", "occurred_at": 1_700_000_000 }] }),
            vec!["a time such as", "got a number"],
        ),
        (
            json!({ "items": "[{\"content\": \"\\x\"}]" }),
            vec!["items: expected an array", "not valid JSON"],
        ),
        (
            json!({ "items": "[{\"content\": NaN}]" }),
            vec!["items[0].content: expected a string, got null"],
        ),
        (
            json!({ "items": [{ "content": "x", "tags": [null, ""] }] }),
            vec!["items[0].tags[0]: expected a string, got null"],
        ),
        (
            json!({ "items": "[".repeat(1_000_000) }),
            vec!["items: expected an array", "nested more than 64 deep"],
        ),
        (
            json!({ "items": format!("[{}]", "1,".repeat(200_000)) }),
            vec!["more than 200000 values"],
        ),
    ]
}

#[test]
fn every_problem_is_reported_at_once_in_terms_of_json() {
    for (given, messages) in refused_calls() {
        let error = read(given).expect_err("refused");
        for message in messages {
            assert!(error.contains(message), "{message:?} is not in {error:?}");
        }
        for foreign in [
            "sequence",
            "a map",
            "f64",
            "usize",
            "i64",
            "struct",
            "variant",
            "invalid type",
        ] {
            assert!(!error.contains(foreign), "{foreign:?} is in {error:?}");
        }
        assert!(error.len() < 2_500, "{} bytes", error.len());
    }
}

#[test]
fn many_repairs_and_problems_stay_brief() {
    let items: Vec<Value> = (0..3)
        .map(|_| json!({ "content": "x", "tags": "a,b", "occurred_at": "2026-01-01 10:00" }))
        .collect();
    let (_, notes) = read(json!({ "items": items })).expect("accepted");
    assert_eq!(
        notes,
        [
            "items[0].tags and 2 more: split at commas.",
            "Times without a time zone were read as UTC."
        ]
    );
    let tags = vec![Value::Null; 500_000];
    let error = read(json!({ "items": [{ "content": "x", "tags": tags }] })).expect_err("refused");
    assert!(
        error.starts_with("1000 problems") && error.len() < 4_000,
        "{}",
        error.len()
    );
    let unknown: JsonObject = (0..100_000)
        .map(|n| (format!("field{n}"), Value::from(n)))
        .collect();
    let error = prepare(&shape(), unknown, now()).expect_err("refused");
    let text = describe_problems(&error.problems);
    assert!(text.contains("too many unknown arguments"), "{text}");
}

#[test]
fn texts_of_a_prompt_are_read_by_the_same_rules() {
    let shape = Shape::of_texts(["outcome", "tag"].into_iter());
    let prepared = prepare(
        &shape,
        object(json!({ "outcome": -0.5, "tag": "", "runId": "r" })),
        now(),
    )
    .expect("accepted");
    assert_eq!(prepared.arguments, object(json!({ "outcome": "-0.5" })));
    assert_eq!(prepared.notes.len(), 3, "{:?}", prepared.notes);
    assert!(prepare(&shape, object(json!({ "tga": "x" })), now()).is_err());
}

#[test]
fn json_texts_share_the_limits_of_the_call() {
    let metadata = |objects: usize| format!("{{\"a\":[{}{{}}]}}", "{},".repeat(objects - 1));
    let items = |objects: usize| {
        let item = || json!({ "content": "x", "metadata": metadata(objects) });
        json!({ "items": [item(), item()] })
    };
    let third = MAX_CONTAINERS / 3;
    assert!(read(items(third)).is_ok());
    // Each text is small enough, but the call is not.
    let error = read(items(2 * third)).expect_err("refused");
    assert!(
        error.contains("items[1].metadata") && error.contains("30000 objects and arrays"),
        "{error}"
    );
    // Values that were sent as JSON count, too.
    let values = json!({ "content": "x", "metadata": { "a": vec![json!({}); 2 * third] } });
    let text = json!({ "content": "x", "metadata": metadata(2 * third) });
    let error = read(json!({ "items": [values, text] })).expect_err("refused");
    assert!(error.contains("items[1].metadata"), "{error}");
    let numbers = format!("{{\"a\":[{}1]}}", "1,".repeat(MAX_VALUES));
    let error =
        read(json!({ "items": [{ "content": "x", "metadata": numbers }] })).expect_err("refused");
    assert!(error.contains("200000 values"), "{error}");
}
