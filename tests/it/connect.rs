//! `connect`: settings of clients in a temporary home, and files that must not change. `crates/client-setup` tests the
//! settings of each client.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::{Ran, Setup};

const CURSOR: &str = ".cursor/mcp.json";
const CLAUDE: &str = ".claude.json";
const USAGE: Option<i32> = Some(64);
const PROGRAM: &str = env!("CARGO_BIN_EXE_cognitive-memory-mcp");

/// Returns a home without the clients of this machine.
fn without_programs() -> Setup {
    Setup::new().env("PATH", "/nonexistent")
}

fn read_text(setup: &Setup, name: &str) -> String {
    fs::read_to_string(setup.path(name)).expect("a file")
}

fn read_json(setup: &Setup, name: &str) -> Value {
    serde_json::from_str(&read_text(setup, name)).expect("JSON")
}

fn backups_of(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().expect("a name").to_string_lossy();
    let entries = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.retain(|other| {
        let other = other.file_name().expect("a name").to_string_lossy();
        other.starts_with(&*name) && other != name
    });
    found
}

fn check_refusal(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn a_client_is_connected_once_and_removed() {
    let setup = Setup::new();
    let before =
        "{\n  // mine\n  \"mcpServers\": {\n    \"other\": { \"command\": \"x\" },\n  },\n}\n";
    let path = setup.file(CURSOR, before);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let first = setup.run(&["connect", "cursor"]);
    assert_eq!(
        (first.code, first.stderr.as_str()),
        (Some(0), ""),
        "{first:?}"
    );
    assert!(
        first.stdout.contains("+     \"memory\": {"),
        "{}",
        first.stdout
    );
    let after = read_text(&setup, CURSOR);
    assert!(
        after.contains("// mine") && after.contains("\"other\""),
        "{after}"
    );
    assert!(
        after.contains(&format!("\"command\": \"{PROGRAM}\"")),
        "{after}"
    );
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let [backup] = &backups_of(&path)[..] else {
        panic!("one backup and no draft: {:?}", backups_of(&path));
    };
    assert_eq!(fs::read_to_string(backup).expect("a backup"), before);

    let second = setup.run(&["connect", "cursor"]);
    assert_eq!(second.code, Some(0));
    assert!(
        second.stdout.contains("already connected"),
        "{}",
        second.stdout
    );
    assert_eq!(read_text(&setup, CURSOR), after);
    assert_eq!(backups_of(&path).len(), 1, "no second backup");

    let removed = setup.run(&["connect", "--remove", "cursor"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(read_text(&setup, CURSOR), before);
    let again = setup.run(&["connect", "--remove", "cursor"]);
    assert_eq!(again.code, Some(0));
    assert!(
        again.stdout.contains("does not have the memory"),
        "{}",
        again.stdout
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let setup = without_programs();
    setup.file(CURSOR, "{}");
    setup.file(CLAUDE, "{\"theme\": \"dark\"}");
    let ran = setup.run(&["connect", "--dry-run", "--hooks"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("Cursor: add the memory"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("Claude Code: add the hooks"),
        "{}",
        ran.stdout
    );
    assert_eq!(read_text(&setup, CURSOR), "{}");
    assert!(!setup.path(".claude").exists());
    assert_eq!(backups_of(&setup.path(CURSOR)).len(), 0);
}

#[test]
fn all_connects_the_clients_that_are_installed() {
    let setup = without_programs();
    setup.file(".cursor/other.json", "{}");
    setup.file(".codex/config.toml", "model = \"x\" # mine\n");
    let ran = setup.run(&["connect", "all"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(setup.path(CURSOR).exists());
    assert!(
        !setup.path(".codeium").exists(),
        "Windsurf is not installed"
    );
    let codex = read_text(&setup, ".codex/config.toml");
    assert!(
        codex.starts_with("model = \"x\" # mine\n\n[mcp_servers.memory]\n"),
        "{codex}"
    );
}

#[test]
fn hooks_cover_every_event_and_are_removed() {
    let setup = Setup::new();
    let settings = ".claude/settings.json";
    let mine = json!({ "hooks": [{ "type": "command", "command": "mine" }] });
    let before = format!("{:#}\n", json!({ "hooks": { "Stop": [mine] } }));
    setup.file(settings, &before);
    let ran = setup.run(&["connect", "claude-code", "--hooks"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let hooks = read_json(&setup, settings)["hooks"].take();
    for (event, word) in [
        ("SessionStart", "session-start"),
        ("UserPromptSubmit", "user-prompt"),
        ("PreCompact", "pre-compact"),
        ("SessionEnd", "session-end"),
        ("SubagentStop", "subagent-stop"),
    ] {
        let group = &hooks[event][0];
        assert_eq!(
            group["hooks"][0]["command"],
            format!("{PROGRAM} hook {word}")
        );
        assert!(group.get("matcher").is_none(), "all kinds of {event}");
    }
    assert_eq!(hooks["Stop"][0]["hooks"][0]["command"], "mine");
    assert_eq!(
        hooks["Stop"][1]["hooks"][0]["command"],
        format!("{PROGRAM} hook stop")
    );
    let removed = setup.run(&["connect", "claude-code", "--remove"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(read_text(&setup, settings), before);
    assert_eq!(read_json(&setup, CLAUDE), json!({}));
}

#[tokio::test]
async fn a_service_with_tokens_gets_a_reference_and_never_the_token() {
    let token = "token-of-ada-0123456789";
    let setup = Setup::new().env("MEMORY_TOKENS", format!("ada {token}"));
    let server = setup.serve().await;
    let url = server.url("/mcp");
    let ran = setup.run(&["connect", "cursor", "zed", "--url", &url]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        read_json(&setup, CURSOR)["mcpServers"]["memory"],
        json!({ "url": url, "headers": { "Authorization": "Bearer ${env:MEMORY_TOKEN}" } })
    );
    // Zed knows no variables, so a command sends the token.
    let zed = read_json(&setup, ".config/zed/settings.json")["context_servers"]["memory"].take();
    assert_eq!(
        (&zed["command"], &zed["env"]["MEMORY_URL"]),
        (&json!(PROGRAM), &json!(url))
    );
    assert!(ran.stdout.contains("MEMORY_TOKEN_FILE"), "{}", ran.stdout);
    let owner = Setup::new().env("MEMORY_TOKEN", token);
    let ran = owner.run(&["connect", "gemini", "--url", "https://memory.example.org"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = read_text(&owner, ".gemini/settings.json");
    assert!(
        text.contains("Bearer $MEMORY_TOKEN") && !text.contains(token),
        "{text}"
    );
    server.stop().await;
}

#[test]
fn unusable_files_are_reported_in_one_line_and_do_not_change() {
    let setup = Setup::new();
    let path = setup.file(CURSOR, "{\"mcpServers\": ");
    check_refusal(
        &setup.run(&["connect", "cursor"]),
        "is not valid JSON (line 1",
    );
    assert_eq!(read_text(&setup, CURSOR), "{\"mcpServers\": ");
    fs::write(&path, "{\"mcpServers\": []}").expect("a file");
    let refused = setup.run(&["connect", "cursor"]);
    check_refusal(&refused, "`mcpServers`: expected an object, got an array");
    fs::write(&path, b"{\"a\": \"\xff\"}").expect("a file");
    check_refusal(&setup.run(&["connect", "cursor"]), "is not UTF-8 text");
    fs::write(&path, "{}").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("a mode");
    check_refusal(&setup.run(&["connect", "cursor"]), "is read-only");
    assert_eq!(read_text(&setup, CURSOR), "{}");
    assert_eq!(backups_of(&path).len(), 0);
}

#[test]
fn a_problem_with_one_client_does_not_stop_the_others() {
    let setup = Setup::new();
    setup.file(CURSOR, "not JSON");
    let ran = setup.run(&["connect", "cursor", "claude-code"]);
    check_refusal(&ran, "is not valid JSON");
    assert!(setup.path(CLAUDE).exists());
}

#[test]
fn links_lead_to_a_regular_file_of_the_user() {
    let setup = Setup::new();
    let target = setup.file("dotfiles/cursor.json", "{}\n");
    fs::create_dir(setup.path(".cursor")).expect("a folder");
    let link = setup.path(CURSOR);
    symlink(&target, &link).expect("a link");
    assert_eq!(setup.run(&["connect", "cursor"]).code, Some(0));
    assert!(link.is_symlink(), "the link stays");
    assert!(
        fs::read_to_string(&target)
            .expect("a file")
            .contains("memory")
    );
    assert_eq!(backups_of(&target).len(), 1);

    fs::remove_file(&link).expect("a link");
    symlink(setup.path("missing"), &link).expect("a link");
    let refused = setup.run(&["connect", "cursor"]);
    check_refusal(&refused, "symbolic link to a file that does not exist");
    fs::remove_file(&link).expect("a link");
    symlink("/dev/null", &link).expect("a link");
    check_refusal(&setup.run(&["connect", "cursor"]), "is not a regular file");
}

#[test]
fn a_file_of_another_user_is_refused() {
    let setup = Setup::new();
    let path = setup.file(CURSOR, "{}");
    let other = rustix::fs::Uid::from_raw(65_534);
    // Only root can give a file away.
    if rustix::fs::chown(&path, Some(other), None).is_err() {
        return;
    }
    check_refusal(
        &setup.run(&["connect", "cursor"]),
        "belongs to another user",
    );
    assert_eq!(read_text(&setup, CURSOR), "{}");
}

#[test]
fn wrong_arguments_are_named() {
    let setup = without_programs();
    for (args, words) in [
        (&["connect"][..], "claude-code"),
        (&["connect", "all"][..], "no client was found"),
        (&["connect", "emacs"][..], "invalid value 'emacs'"),
        (&["connect", "cursor", "--name", "a b"][..], "--name"),
        (
            &["connect", "cursor", "--url", "host:1"][..],
            "--url: expected",
        ),
        (&["connect", "cursor", "--remove", "--hooks"][..], "--hooks"),
    ] {
        let ran = setup.run(args);
        assert_eq!(ran.code, USAGE, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
    assert!(!setup.path(CURSOR).exists());
}

#[test]
fn clients_without_an_editable_file_get_instructions() {
    let setup = Setup::new();
    let ran = setup.run(&["connect", "goose", "lm-studio", "open-webui"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for words in ["extensions:", PROGRAM, "mcp.json", "External Tools"] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn doctor_verifies_the_clients() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let url = server.url("/mcp");
    setup.run(&["connect", "cursor"]);
    setup.run(&["connect", "claude-code", "--url", &url]);
    let codex = ".codex/config.toml";
    setup.file(
        codex,
        "[mcp_servers.memory]\ncommand = \"/opt/gone/cognitive-memory-mcp\"\n",
    );
    setup.file(".gemini/settings.json", "{");
    let ran = setup.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let clients: Vec<(&str, &str)> = checks
        .iter()
        .filter(|check| check["check"] == "client")
        .map(|check| {
            let text = |name: &str| check[name].as_str().unwrap_or_default();
            (text("verdict"), text("detail"))
        })
        .collect();
    let find = |title: &str| {
        let found = clients.iter().find(|(_, detail)| detail.starts_with(title));
        *found.unwrap_or_else(|| panic!("{title}: {clients:?}"))
    };
    assert_eq!(find("Cursor").0, "ok");
    assert_eq!(find("Claude Code").0, "ok", "{clients:?}");
    assert!(find("Claude Code").1.contains(&url));
    assert_eq!(find("Codex").0, "failed");
    assert_eq!(find("Gemini CLI").0, "warning");
    assert_eq!(clients.len(), 4, "{clients:?}");
    assert_eq!(ran.code, Some(1));
    server.stop().await;
}
