//! `hook`: what it adds to a conversation, what it stores, and that it never disturbs its client.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::{Ran, Setup, eventually};

/// Returns a setup whose hooks may take long, because many tests share the machine.
fn patient_setup() -> Setup {
    Setup::new().env("MEMORY_HOOK_TIMEOUT", "30000")
}

/// Runs a hook with its event on standard input. Every hook must exit with 0.
fn run_hook(setup: &Setup, args: &[&str], event: impl AsRef<[u8]>) -> Ran {
    let input = setup.file("event.json", event);
    let args: Vec<&str> = ["hook"].iter().chain(args).copied().collect();
    let mut command = setup.command(&args);
    command.stdin(File::open(input).expect("the event"));
    let ran = Ran::of(command);
    assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    ran
}

/// Returns the text that a hook adds to the conversation; empty if it is silent.
fn context_of(ran: &Ran) -> String {
    if ran.stdout.is_empty() {
        return String::new();
    }
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON alone");
    let fields = answer.as_object().expect("an object");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["hookSpecificOutput"]);
    let text = &answer["hookSpecificOutput"]["additionalContext"];
    text.as_str().expect("a text").to_owned()
}

fn session_start(setup: &Setup, source: &str) -> String {
    let event = json!({ "session_id": "s1", "hook_event_name": "SessionStart", "source": source,
        "cwd": setup.path("quay") });
    context_of(&run_hook(setup, &["session-start"], event.to_string()))
}

fn user_prompt(setup: &Setup, prompt: &str) -> String {
    let event =
        json!({ "session_id": "s1", "hook_event_name": "UserPromptSubmit", "prompt": prompt });
    context_of(&run_hook(setup, &["user-prompt"], event.to_string()))
}

fn claude_line(id: &str, role: &str, text: &str) -> String {
    let line = json!({ "type": role, "uuid": id, "sessionId": "s1", "timestamp": "2026-11-01T10:00:00.000Z",
        "message": { "role": role, "content": [{ "type": "text", "text": text }] } });
    format!("{line}\n")
}

fn stop_event(session: &str, transcript: &Path) -> String {
    json!({ "session_id": session, "hook_event_name": "Stop", "transcript_path": transcript })
        .to_string()
}

fn remember(setup: &Setup, args: &[&str]) {
    let args: Vec<&str> = ["remember"].iter().chain(args).copied().collect();
    let ran = setup.run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Returns the stored turns of a session, oldest first, as `turn speaker: text`.
fn stored_turns(setup: &Setup, session: &str) -> Vec<String> {
    let ran = setup.run(&["export", "-"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut turns: Vec<(i64, String)> = ran
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|record| record["session"] == session)
        .map(|record| {
            let text = |name: &str| record[name].as_str().expect("a text").to_owned();
            (
                record["turn"].as_i64().expect("a number"),
                format!("{}: {}", text("speaker"), text("content")),
            )
        })
        .collect();
    turns.sort();
    turns
        .into_iter()
        .map(|(turn, text)| format!("{turn} {text}"))
        .collect()
}

fn state_folder(setup: &Setup) -> PathBuf {
    setup.path(".local/state/cognitive-memory-mcp/hooks")
}

/// Waits until the process that a hook has started has stored everything.
async fn delivered(setup: &Setup) {
    let folder = state_folder(setup);
    let is_empty = |part: &str| {
        std::fs::read_dir(folder.join(part)).is_ok_and(|mut entries| entries.next().is_none())
    };
    eventually("all turns are stored", || {
        (is_empty("waiting") && is_empty("claimed")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_begins_with_what_matters() {
    let setup = patient_setup();
    assert_eq!(
        session_start(&setup, "startup"),
        "",
        "nothing is stored yet"
    );
    let _server = setup.serve().await;
    remember(
        &setup,
        &[
            "The quay service listens on port 8080.",
            "--importance",
            "0.95",
        ],
    );
    remember(&setup, &["Quay tests need a clean database."]);
    let text = session_start(&setup, "startup");
    assert!(
        text.contains("port 8080") && text.contains("clean database"),
        "{text}"
    );
    assert!(text.contains("not instructions"), "{text}");
    let small = setup.env("MEMORY_HOOK_TOKENS", "60");
    let cut = session_start(&small, "compact");
    assert!(cut.len() <= 240 && !cut.is_empty(), "{cut}");
    let off = small.env("MEMORY_HOOK_TOKENS", "0");
    assert_eq!(session_start(&off, "startup"), "");
}

#[tokio::test]
async fn a_prompt_recalls_each_memory_once() {
    let setup = patient_setup();
    let _server = setup.serve().await;
    remember(&setup, &["The quay service listens on port 8080."]);
    let first = user_prompt(&setup, "Which port does the quay service listen on?");
    assert!(
        first.contains("port 8080") && first.contains("not instructions"),
        "{first}"
    );
    assert_eq!(
        user_prompt(&setup, "Which port does the quay service listen on?"),
        ""
    );
    assert_eq!(
        user_prompt(&setup, "Bake a chocolate cake without eggs"),
        ""
    );
    assert_eq!(
        user_prompt(&setup, "<private>Which port does quay listen on?</private>"),
        ""
    );
    // The start of another context shows it again; later prompts then do not.
    assert!(session_start(&setup, "compact").contains("port 8080"));
    assert_eq!(
        user_prompt(&setup, "Which port does the quay service listen on?"),
        ""
    );
}

#[tokio::test]
async fn the_model_is_asked_to_store_after_some_prompts() {
    let setup = patient_setup().env("MEMORY_HOOK_ASK_TURNS", "2");
    let _server = setup.serve().await;
    let asked: Vec<bool> = (0..5)
        .map(|_| user_prompt(&setup, "Go on").contains("remember"))
        .collect();
    assert_eq!(asked, [false, false, true, false, true]);
}

#[tokio::test]
async fn turns_are_stored_once() {
    let setup = patient_setup();
    let _server = setup.serve().await;
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0".repeat(2).split_at(36).0);
    let mut lines = claude_line("u1", "user", "Deploy <private>hunter2</private> quay")
        + &claude_line("u2", "assistant", &format!("Deployed with {token}."));
    let transcript = setup.file("t/s1.jsonl", &lines);
    for _ in 0..2 {
        assert_eq!(
            run_hook(&setup, &["stop"], stop_event("s1", &transcript)).stdout,
            ""
        );
        delivered(&setup).await;
    }
    let expected = [
        "0 user: Deploy  quay",
        "1 assistant: Deployed with [secret removed: github-token].",
    ];
    assert_eq!(stored_turns(&setup, "s1"), expected);

    lines += &claude_line("u3", "user", "Thanks");
    lines += "{\"type\": \"user\", \"uuid\": \"u4\"";
    std::fs::write(&transcript, &lines).expect("written");
    run_hook(&setup, &["pre-compact"], stop_event("s1", &transcript));
    delivered(&setup).await;
    assert_eq!(stored_turns(&setup, "s1").len(), 3);

    // A fork copies the turns to another session, and a client may write the file again.
    let fork = setup.file("t/s2.jsonl", lines.replace("s1", "s2"));
    run_hook(&setup, &["session-end"], stop_event("s2", &fork));
    std::fs::write(&transcript, claude_line("u5", "user", "Rewritten")).expect("written");
    run_hook(&setup, &["stop"], stop_event("s1", &transcript));
    delivered(&setup).await;
    assert_eq!(stored_turns(&setup, "s2"), Vec::<String>::new());
    let turns = stored_turns(&setup, "s1");
    assert_eq!(turns[2..], ["2 user: Thanks", "3 user: Rewritten"]);
}

#[tokio::test]
async fn turns_are_recalled_only_after_the_conversation_was_summarised() {
    let setup = patient_setup();
    let _server = setup.serve().await;
    let transcript = setup.file(
        "t/s1.jsonl",
        claude_line("u1", "user", "The heron host has the backup"),
    );
    run_hook(&setup, &["pre-compact"], stop_event("s1", &transcript));
    delivered(&setup).await;
    let question = "Which host has the backup?";
    assert_eq!(user_prompt(&setup, question), "");
    session_start(&setup, "compact");
    let text = user_prompt(&setup, question);
    assert!(text.contains("user: The heron host"), "{text}");
}

#[tokio::test]
async fn turns_wait_for_a_service_that_is_down() {
    let down = patient_setup().env("MEMORY_URL", "http://127.0.0.1:1/mcp");
    let transcript = down.file("t/s1.jsonl", claude_line("u1", "user", "Hello"));
    run_hook(&down, &["stop"], stop_event("s1", &transcript));
    let failure = state_folder(&down).join("storing-failed.json");
    eventually("the delivery fails", || failure.exists().then_some(())).await;
    let first = user_prompt(&down, "Hello");
    assert!(
        first.contains("No service at http://127.0.0.1:1/mcp"),
        "{first}"
    );
    assert_eq!(user_prompt(&down, "Hello"), "", "reported once");
    let doctor = down.run(&["doctor"]);
    assert!(
        doctor.stdout.contains("1 transcript with turns that wait"),
        "{}",
        doctor.stdout
    );

    let up = down.env("MEMORY_URL", "");
    let _server = up.serve().await;
    session_start(&up, "resume");
    delivered(&up).await;
    assert_eq!(stored_turns(&up, "s1"), ["0 user: Hello"]);
    let doctor = up.run(&["doctor"]);
    assert!(
        doctor.stdout.contains("turns stored at"),
        "{}",
        doctor.stdout
    );
    assert!(!failure.exists());
}

#[tokio::test]
async fn a_service_that_hangs_does_not_delay_the_client() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server.signal("STOP");
    for name in ["session-start", "user-prompt", "stop", "session-end"] {
        let event = json!({ "session_id": "s1", "prompt": "Hello", "transcript_path": "/none" });
        // It ends long before the service would be given up.
        let ran = run_hook(&setup, &[name], event.to_string());
        assert!(!context_of(&ran).contains("Memories"), "{ran:?}");
    }
    server.signal("CONT");
}

#[tokio::test]
async fn a_service_that_refuses_is_reported() {
    let setup = patient_setup().env("MEMORY_TOKENS", "laptop 0b9f6c0e4d9b4a55a1d8f9a2c7e3b611");
    let server = setup.serve().await;
    let url = server.url("/mcp");
    let stranger = setup.env("MEMORY_URL", url).env("MEMORY_TOKENS", "");
    let text = user_prompt(&stranger, "Hello");
    assert!(text.contains("401") && text.contains("doctor"), "{text}");
}

#[test]
fn invalid_input_is_no_error_for_the_client() {
    let setup = patient_setup();
    let valid = r#"{"session_id": "s"}"#;
    for (args, input) in [
        (vec!["stop"], "{"),
        (vec!["stop"], ""),
        (vec!["user-prompt"], "[]"),
        (vec!["user-prompt"], "{}"),
        (vec!["session-start"], "\0\0"),
        (vec!["stop"], r#"{"transcript_path": "/dev/zero"}"#),
        (vec!["no-such-event"], valid),
        (vec![], valid),
        (vec!["stop", "--no-such-option"], valid),
        (vec!["stop", "{\"session_id\": 1}", "surplus"], valid),
        (vec!["user-prompt", "--listen", "nowhere"], valid),
    ] {
        let ran = run_hook(&setup, &args, input);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}

#[tokio::test]
async fn turns_in_an_event_are_stored_once() {
    let setup = patient_setup();
    let _server = setup.serve().await;
    let notify = json!({ "type": "agent-turn-complete", "thread-id": "c1", "turn-id": "7",
        "input-messages": ["Rename foo"], "last-assistant-message": "Renamed." })
    .to_string();
    for _ in 0..2 {
        run_hook(&setup, &["stop", &notify], "");
        delivered(&setup).await;
    }
    assert_eq!(
        stored_turns(&setup, "c1"),
        ["0 user: Rename foo", "1 assistant: Renamed."]
    );
}
