//! Properties of edits of arbitrary settings.

use client_setup::{Action, Client, Outcome, Request, Target, find_client, plan_server};
use proptest::prelude::*;
use serde_json::{Map, Value};

const NAME: &str = "memory";

fn request(action: Action) -> Request {
    Request {
        action,
        name: None,
        target: Target::Command {
            program: "/usr/bin/cognitive-memory-mcp".to_owned(),
        },
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object_of(inner),
        ]
    })
}

fn object_of(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let entries = prop::collection::vec((any::<String>(), inner), 0..4);
    entries.prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

/// Settings with other servers.
fn settings() -> impl Strategy<Value = Map<String, Value>> {
    let others = object_of(object_of(json_value()));
    (object_of(json_value()), prop::option::of(others)).prop_map(|(settings, servers)| {
        let mut settings = settings.as_object().cloned().unwrap_or_default();
        if let Some(servers) = servers {
            settings.insert("mcpServers".to_owned(), servers);
        }
        settings
    })
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn gemini() -> &'static Client {
    find_client("gemini").expect("a client")
}

proptest! {
    #[test]
    fn an_edit_changes_only_the_entry(settings in settings(), is_pretty in any::<bool>()) {
        prop_assume!(settings.get("mcpServers").is_none_or(|servers| servers.get(NAME).is_none()));
        let before = Value::Object(settings);
        let text = if is_pretty {
            serde_json::to_string_pretty(&before).expect("JSON")
        } else {
            before.to_string()
        };
        let added = plan_server(gemini(), Some(&text), &request(Action::Connect)).expect("a plan");
        prop_assert_eq!(added.outcome, Outcome::Added);
        let mut after = parse(&added.text);
        let servers = after["mcpServers"].as_object_mut().expect("servers");
        prop_assert!(servers.remove(NAME).is_some());
        if servers.is_empty() && before.get("mcpServers").is_none() {
            after.as_object_mut().expect("an object").remove("mcpServers");
        }
        prop_assert_eq!(&after, &before);
        let removed = plan_server(gemini(), Some(&added.text), &request(Action::Remove)).expect("a plan");
        let mut left = parse(&removed.text);
        if before["mcpServers"] == Value::Object(Map::new()) {
            left["mcpServers"] = Value::Object(Map::new());
        }
        prop_assert_eq!(&left, &before);
    }

    #[test]
    fn any_text_is_planned_or_refused(text in any::<String>()) {
        for client in client_setup::CLIENTS {
            // A refusal is fine; a panic is not.
            let planned = plan_server(client, Some(&text), &request(Action::Connect));
            if let Ok(planned) = planned && planned.outcome == Outcome::Added {
                let again = plan_server(client, Some(&planned.text), &request(Action::Connect));
                prop_assert_eq!(again.map(|again| again.outcome), Ok(Outcome::AlreadyConnected));
            }
        }
    }
}
