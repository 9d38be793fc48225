//! Every client with every prior state of its file, as examples in `tests/data/clients/CLIENT/STATE`: `before` is
//! missing if the file does not exist, and `after` is replaced by `error` if the file must not change.
//!
//! `MEMORY_WRITE_DOCS=1` writes the expected files again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use client_setup::{
    Action, CLIENTS, Client, Outcome, PlanError, Planned, Request, Target, describe_setup,
    find_client, list_connections, plan_hooks, plan_server, token_advice,
};

const PROGRAM: &str = "/usr/local/bin/cognitive-memory-mcp";
const URL: &str = "http://127.0.0.1:8765/mcp";
/// States that every client with a file must have.
const STATES: [&str; 9] = [
    "absent",
    "connected",
    "empty",
    "http",
    "http-token",
    "malformed",
    "name-taken",
    "old-entry",
    "others",
];

fn examples_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/clients")
}

fn folder_names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect()
}

fn target_of(state: &str) -> Target {
    let program = PROGRAM.to_owned();
    if !state.contains("http") {
        return Target::Command { program };
    }
    Target::Service {
        url: URL.to_owned(),
        needs_token: state.contains("token"),
        program,
    }
}

/// Plans a change of the server or, in states that begin with `hooks`, of the hooks.
fn plan_state(
    client: &Client,
    state: &str,
    text: Option<&str>,
    action: Action,
) -> Result<Planned, PlanError> {
    let target = target_of(state);
    if state.starts_with("hooks") {
        return plan_hooks(client, text, action, &target);
    }
    let request = Request {
        action,
        name: None,
        target,
    };
    plan_server(client, text, &request)
}

fn read_optional(path: &Path) -> Option<String> {
    path.exists()
        .then(|| fs::read_to_string(path).expect("text"))
}

/// Compares a text with the expected file, or writes it.
fn check_expected(path: &Path, text: &str) {
    if std::env::var_os("MEMORY_WRITE_DOCS").is_some() {
        fs::write(path, text).expect("a file");
    }
    let expected = fs::read_to_string(path).expect("an expected file");
    assert_eq!(text, expected, "{}", path.display());
}

fn check_state(client: &Client, state: &str) {
    let folder = examples_folder().join(client.name).join(state);
    let place = folder.display();
    let before = read_optional(&folder.join("before"));
    let planned = match plan_state(client, state, before.as_deref(), Action::Connect) {
        Ok(planned) => planned,
        Err(error) => {
            let expects_error = state.ends_with("malformed") || state == "name-taken";
            assert!(expects_error, "{place}: {error}");
            let error = format!("{error}\n");
            assert_eq!(error.lines().count(), 1, "{place}: one line");
            assert!(!folder.join("after").exists(), "{place} has two outcomes");
            return check_expected(&folder.join("error"), &error);
        }
    };
    check_expected(&folder.join("after"), &planned.text);
    let expected = match state {
        "connected" | "hooks-connected" => Outcome::AlreadyConnected,
        "old-entry" | "http-old-entry" | "hooks-old-entry" => Outcome::Updated,
        _ => Outcome::Added,
    };
    assert_eq!(planned.outcome, expected, "{place}");
    let again = plan_state(client, state, Some(&planned.text), Action::Connect).expect("a plan");
    assert_eq!(
        (again.outcome, &again.text),
        (Outcome::AlreadyConnected, &planned.text),
        "{place}: a second run"
    );
    check_removal(client, state, before.as_deref(), &planned.text);
}

fn check_removal(client: &Client, state: &str, before: Option<&str>, after: &str) {
    let removed = plan_state(client, state, Some(after), Action::Remove).expect("a plan");
    assert_eq!(removed.outcome, Outcome::Removed, "{}/{state}", client.name);
    if !state.starts_with("hooks") {
        let left = list_connections(client, &removed.text).expect("a valid file");
        assert_eq!(left, [], "{}/{state}", client.name);
    }
    if state == "hooks-inline" {
        // A list in one line becomes one of several lines, and stays so.
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parse(&removed.text), parse(before.expect("a file")));
    }
    if state.ends_with("others") {
        let before = before.expect("a file");
        assert_eq!(removed.text, before, "{}/{state}", client.name);
    }
    let again = plan_state(client, state, Some(&removed.text), Action::Remove).expect("a plan");
    let expected = (Outcome::NotConnected, &removed.text);
    assert_eq!((again.outcome, &again.text), expected);
}

#[test]
fn every_client_keeps_its_other_settings() {
    let clients = folder_names(&examples_folder());
    for name in &clients {
        let client = find_client(name).expect("a client with examples");
        let states = folder_names(&examples_folder().join(name));
        for state in STATES {
            assert!(states.contains(state), "{name} lacks the state {state}");
        }
        for state in &states {
            check_state(client, state);
        }
    }
    let with_file = CLIENTS
        .iter()
        .filter(|client| describe_setup(client, None, &target_of("")).is_none());
    let expected: BTreeSet<String> = with_file.map(|client| client.name.to_owned()).collect();
    assert_eq!(clients, expected);
}

/// Returns the text with each block after a marker replaced by the example that the marker names.
fn fill_examples(text: &str) -> String {
    let mut filled = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        filled.push_str(&format!("{line}\n"));
        let marker = line.strip_prefix("<!-- example: ");
        let Some(name) = marker.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let fence = lines.next().expect("a line after the marker");
        assert!(fence.starts_with("```"), "a block follows {line}");
        assert!(lines.any(|line| line == "```"), "the block of {line} ends");
        let path = examples_folder().join(name).join("after");
        let example = fs::read_to_string(path).expect("an example");
        filled.push_str(&format!("{fence}\n{example}```\n"));
    }
    filled
}

#[test]
fn the_document_shows_the_examples() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients.md");
    let text = fs::read_to_string(&path).expect("a document");
    assert!(text.matches("<!-- example: ").count() > 9);
    check_expected(&path, &fill_examples(&text));
}

#[test]
fn no_example_contains_a_token() {
    for client in CLIENTS {
        let target = target_of("http-token");
        let is_by_hand = describe_setup(client, None, &target).is_some();
        assert!(
            is_by_hand || token_advice(client, &target).is_some(),
            "{} must say where the token goes",
            client.name
        );
        assert_eq!(token_advice(client, &target_of("http")), None);
    }
}

#[test]
fn a_byte_order_mark_and_line_ends_of_windows_stay() {
    for (name, before) in [
        (
            "cursor",
            "\u{feff}{\r\n  // mine\r\n  \"mcpServers\": {}\r\n}\r\n",
        ),
        ("codex", "\u{feff}model = \"x\" # mine\r\n"),
        ("codex", "\u{feff}# mine\r\n\r\n[other]\r\na = 1\r\n"),
    ] {
        let client = find_client(name).expect("a client");
        let planned = plan_state(client, "", Some(before), Action::Connect).expect("a plan");
        let text = &planned.text;
        assert!(
            text.starts_with('\u{feff}') && text.contains("mine\r\n"),
            "{text:?}"
        );
        let ends = text.matches('\n').count();
        assert_eq!(ends, text.matches("\r\n").count(), "{text:?}");
        let again = plan_state(client, "", Some(text), Action::Connect).expect("a plan");
        assert_eq!(again.outcome, Outcome::AlreadyConnected, "{name}");
        let removed = plan_state(client, "", Some(text), Action::Remove).expect("a plan");
        assert_eq!(removed.text, before);
    }
}

#[test]
fn a_request_with_a_name_uses_only_that_entry() {
    let cursor = find_client("cursor").expect("a client");
    let request = |name: &str, action| Request {
        action,
        name: Some(name.to_owned()),
        target: target_of(""),
    };
    let first = plan_state(cursor, "", None, Action::Connect).expect("a plan");
    let both = plan_server(cursor, Some(&first.text), &request("work", Action::Connect));
    let both = both.expect("a plan");
    assert_eq!(both.outcome, Outcome::Added);
    let one = plan_server(cursor, Some(&both.text), &request("work", Action::Remove));
    let one = one.expect("a plan");
    let left = list_connections(cursor, &one.text).expect("a valid file");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, "memory");
}

#[test]
fn a_service_of_another_program_is_not_ours() {
    let cursor = find_client("cursor").expect("a client");
    let figma = r#"{"mcpServers": {"figma": {"url": "http://127.0.0.1:3845/mcp"}}}"#;
    assert_eq!(list_connections(cursor, figma).expect("a valid file"), []);
    let planned = plan_state(cursor, "http", Some(figma), Action::Remove).expect("a plan");
    assert_eq!(planned.outcome, Outcome::NotConnected);
    assert_eq!(planned.text, figma);
}

#[test]
fn arguments_and_variables_of_the_user_stay() {
    let cursor = find_client("cursor").expect("a client");
    let before = r#"{"mcpServers": {"memory": {"command": "/old/cognitive-memory-mcp", "args": ["stdio", "--project", "work"], "env": {"MEMORY_LOG_LEVEL": "debug"}, "disabled": true}}}"#;
    let planned = plan_state(cursor, "", Some(before), Action::Connect).expect("a plan");
    assert_eq!(planned.outcome, Outcome::Updated);
    let expected = before.replace("/old/cognitive-memory-mcp", PROGRAM);
    assert_eq!(planned.text, expected);
}

#[test]
fn a_token_is_not_sent_over_https_by_a_command() {
    let zed = find_client("zed").expect("a client");
    let request = Request {
        action: Action::Connect,
        name: None,
        target: Target::Service {
            url: "https://memory.example.org/mcp".to_owned(),
            needs_token: true,
            program: PROGRAM.to_owned(),
        },
    };
    let refused = plan_server(zed, None, &request).expect_err("no safe place for the token");
    assert!(
        matches!(refused, PlanError::NoSafeToken { .. }),
        "{refused}"
    );
}

#[test]
fn a_repeated_key_is_refused() {
    let cursor = find_client("cursor").expect("a client");
    let text = r#"{"mcpServers": {}, "mcpServers": {}}"#;
    let refused = plan_state(cursor, "", Some(text), Action::Connect).expect_err("two objects");
    let key = "mcpServers".to_owned();
    assert_eq!(refused, PlanError::Duplicate { key });
}
