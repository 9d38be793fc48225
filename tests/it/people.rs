//! The commands for people: against a running service, by a token, and without any service.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::process::{Ran, Setup};

fn ok(ran: Ran) -> String {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran.stdout
}

fn id_of(text: &str) -> String {
    let is_short_id = |word: &&str| word.len() == 8 && word.chars().all(|digit| digit.is_ascii_hexdigit());
    text.split_whitespace().find(is_short_id).expect("a short ID").to_owned()
}

fn tour(setup: &Setup) {
    let id =
        id_of(&ok(setup.run(&["remember", "Tea at four, in the garden", "--tag", "habit", "--importance", "0.75"])));
    let again = ok(setup.run(&["remember", "Tea at four, in the garden"]));
    assert!(again.starts_with("Known already") && again.contains(&id), "{again}");
    let mut command = setup.command(&["remember", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
    child.stdin.take().expect("a pipe").write_all(b"from a pipe\n").expect("written");
    let piped = child.wait_with_output().expect("it ends");
    let piped = id_of(&String::from_utf8_lossy(&piped.stdout));

    let found = ok(setup.run(&["recall", "garden", "tea"]));
    assert!(found.contains("Tea at four, in the garden") && found.contains("#habit"), "{found}");
    assert!(!found.contains('\x1b'), "no colours in a pipe: {found:?}");
    let found: Value = serde_json::from_str(&ok(setup.run(&["recall", "garden", "--json"]))).expect("JSON");
    assert!(found["hits"][0]["id"].as_str().is_some_and(|full| full.len() == 36 && full.ends_with(&id)), "{found}");
    let nothing = setup.run(&["recall", "zeppelin"]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.stdout);
    let listed = ok(setup.run(&["list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with(&piped) && lines[1].starts_with(&id), "{listed}");
    assert_eq!(ok(setup.run(&["list", "--tag", "habit"])).lines().count(), 1);
    let page = ok(setup.run(&["list", "-n", "1"]));
    let cursor = page.lines().find_map(|line| line.strip_prefix("More: list --cursor ")).expect("a cursor");
    assert!(ok(setup.run(&["list", "-n", "1", "--cursor", cursor])).starts_with(&id), "{page}");

    assert_eq!(ok(setup.run(&["forget", &id, "--reason", "no garden"])).lines().count(), 1);
    let shown = ok(setup.run(&["show", &id, "--history"]));
    for words in ["deleted", "0.75", "v1 ", "v2 ", "no garden"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    ok(setup.run(&["forget", "--restore", &id]));
    ok(setup.run(&["forget", "--purge", &id]));
    let gone = setup.run(&["show", &id]);
    assert!(gone.code == Some(64) && gone.stderr.contains("there is no memory"), "{}", gone.stderr);
    let unknown = setup.run(&["forget", &id]);
    assert!(unknown.code == Some(64) && unknown.stderr.contains(&id), "{}", unknown.stderr);
    let wrong = setup.run(&["list", "--since", "some day"]);
    assert!(wrong.code == Some(64) && wrong.stderr.contains("since"), "{}", wrong.stderr);
    let episode = ["remember", "t", "--kind", "episode", "--situation", "s", "--outcome", "-0.5", "--lesson", "l"];
    let id = id_of(&ok(setup.run(&episode)));
    assert!(ok(setup.run(&["show", &id])).contains("Outcome: -0.5"));
}

#[tokio::test]
async fn they_speak_to_the_service_that_has_the_file_open() {
    let setup = Setup::new();
    let server = setup.serve().await;
    tour(&setup);
    server.stop().await;
}

#[test]
fn they_work_without_a_service() {
    tour(&Setup::new());
}

#[tokio::test]
async fn they_show_a_token_and_say_when_it_is_missing() {
    let setup = Setup::new();
    let tokens = setup.file("tokens", "desk battery-staple-16chars project=work\n");
    let setup = setup.env("MEMORY_TOKENS_FILE", tokens);
    let server = setup.serve().await;
    let refused = setup.run(&["list"]);
    assert_eq!(refused.code, Some(69), "{}", refused.stderr);
    assert!(refused.stderr.contains("401") && refused.stderr.contains("MEMORY_TOKEN"), "{}", refused.stderr);
    let elsewhere = Setup::new().env("MEMORY_URL", server.url("/mcp")).env("MEMORY_TOKEN", "battery-staple-16chars");
    tour(&elsewhere);
    assert!(!elsewhere.database().exists(), "nothing is opened here");
    server.stop().await;
    let away = elsewhere.run(&["list"]);
    assert!(away.code == Some(69) && away.stderr.contains("did not answer"), "{}", away.stderr);
}

#[test]
fn shells_and_man_can_read_what_is_made_for_them() {
    let setup = Setup::new();
    // Longer than what fits into a pipe that nobody reads yet.
    let made = |args: &[&str]| String::from_utf8(setup.command(args).output().expect("it ran").stdout).expect("text");
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef cognitive-memory-mcp"), ("fish", "complete -c")] {
        let script = made(&["completions", shell]);
        assert!(script.contains(words) && script.contains("remember"), "{shell}");
    }
    let page = made(&["man"]);
    assert!(page.contains(".TH cognitive-memory-mcp 1") && page.contains("COMMAND RESTORE"), "{page}");
}
