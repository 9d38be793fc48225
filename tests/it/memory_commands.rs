//! The commands for people: with a running service, with a token, and without a service.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::postgres_server::Database;
use crate::process::{Ran, Setup};
use crate::transfer::on_postgres;

fn ok(ran: Ran) -> String {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    ran.stdout
}

fn id_of(text: &str) -> String {
    let is_short_id =
        |word: &&str| word.len() == 8 && word.chars().all(|digit| digit.is_ascii_hexdigit());
    text.split_whitespace()
        .find(is_short_id)
        .expect("a short ID")
        .to_owned()
}

fn tour(setup: &Setup) {
    let words = [
        "remember",
        "Tea",
        "at",
        "four,",
        "in",
        "the",
        "garden",
        "--tag",
        "habit",
        "--importance",
        "0.75",
    ];
    let id = id_of(&ok(setup.run(&words)));
    let again = ok(setup.run(&["remember", "Tea at four, in the garden"]));
    assert!(
        again.starts_with("Already stored") && again.contains(&id),
        "{again}"
    );
    let piped = remember_from_pipe(setup);

    let found = ok(setup.run(&["recall", "garden", "tea"]));
    assert!(
        found.contains("Tea at four, in the garden") && found.contains("#habit"),
        "{found}"
    );
    assert!(!found.contains('\x1b'), "no colours in a pipe: {found:?}");
    let found: Value =
        serde_json::from_str(&ok(setup.run(&["recall", "garden", "--json"]))).expect("JSON");
    assert!(
        found["hits"][0]["id"]
            .as_str()
            .is_some_and(|full| full.len() == 36 && full.ends_with(&id)),
        "{found}"
    );
    let nothing = setup.run(&["recall", "zeppelin"]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.stdout);
    let listed = ok(setup.run(&["list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines.len() == 3 && lines[1].starts_with(&piped) && lines[2].starts_with(&id),
        "{listed}"
    );
    assert!(
        lines[0].starts_with("ID ") && lines[0].contains("TAGS") && lines[2].contains("#habit"),
        "{listed}"
    );
    assert_eq!(
        ok(setup.run(&["list", "--tag", "habit"])).lines().count(),
        2
    );
    let page = ok(setup.run(&["list", "-n", "1"]));
    let cursor = page
        .lines()
        .find_map(|line| line.strip_prefix("More: list --cursor "))
        .expect("a cursor");
    assert!(
        ok(setup.run(&["list", "-n", "1", "--cursor", cursor])).contains(&id),
        "{page}"
    );

    check_forgetting(setup, &id);
    check_errors_and_episodes(setup);
}

fn remember_from_pipe(setup: &Setup) -> String {
    let mut command = setup.command(&["remember", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"from a pipe\n")
        .expect("written");
    let piped = child.wait_with_output().expect("it ends");
    id_of(&String::from_utf8_lossy(&piped.stdout))
}

fn check_forgetting(setup: &Setup, id: &str) {
    assert_eq!(
        ok(setup.run(&["forget", id, "--reason", "no garden"]))
            .lines()
            .count(),
        1
    );
    let shown = ok(setup.run(&["show", id, "--history"]));
    for words in ["deleted", "0.75", "v1 ", "v2 ", "no garden"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    ok(setup.run(&["forget", "--restore", id]));
    let unconfirmed = setup.run(&["forget", "--purge", id]);
    assert!(
        unconfirmed.code == Some(64) && unconfirmed.stderr.contains("--yes"),
        "{}",
        unconfirmed.stderr
    );
    assert!(
        ok(setup.run(&["show", id])).contains("Tea at four"),
        "nothing was purged"
    );
    ok(setup.run(&["forget", "--purge", "--yes", id]));
    let gone = setup.run(&["show", id]);
    assert!(
        gone.code == Some(64) && gone.stderr.contains("there is no memory"),
        "{}",
        gone.stderr
    );
    let unknown = setup.run(&["forget", id]);
    assert!(
        unknown.code == Some(64) && unknown.stderr.contains(id),
        "{}",
        unknown.stderr
    );
}

fn check_errors_and_episodes(setup: &Setup) {
    let wrong = setup.run(&["list", "--since", "some day"]);
    assert!(
        wrong.code == Some(64) && wrong.stderr.contains("since"),
        "{}",
        wrong.stderr
    );
    let episode = [
        "remember",
        "t",
        "--kind",
        "episode",
        "--situation",
        "s",
        "--outcome",
        "-0.5",
        "--lesson",
        "l",
    ];
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
    assert!(
        refused.stderr.contains("401") && refused.stderr.contains("MEMORY_TOKEN"),
        "{}",
        refused.stderr
    );
    let elsewhere = Setup::new()
        .env("MEMORY_URL", server.url("/mcp"))
        .env("MEMORY_TOKEN", "battery-staple-16chars");
    tour(&elsewhere);
    assert!(!elsewhere.database().exists(), "nothing is opened here");
    let other = elsewhere.run(&["list", "--project", "private"]);
    assert!(
        other.code == Some(64) && other.stderr.contains("project \"work\""),
        "{}",
        other.stderr
    );
    ok(elsewhere.run(&["list", "--project", "work"]));
    // Access to the socket proves ownership of the database.
    assert!(ok(setup.run(&["list", "--project", "work"])).contains("from a pipe"));
    assert!(!ok(setup.run(&["list", "--project", "private"])).contains("from a pipe"));
    let server_url = server.url("/mcp");
    server.stop().await;
    let away = elsewhere.run(&["list"]);
    assert!(
        away.code == Some(69) && away.stderr.lines().count() == 1,
        "{}",
        away.stderr
    );
    let expected = format!(
        "No service at {}. Start it with: cognitive-memory-mcp serve",
        server_url
    );
    assert!(away.stderr.contains(&expected), "{}", away.stderr);
}

#[test]
fn shells_and_man_can_read_what_is_made_for_them() {
    let setup = Setup::new();
    // More than fits into a pipe that is not being read.
    let made = |args: &[&str]| {
        String::from_utf8(setup.command(args).output().expect("it ran").stdout).expect("text")
    };
    for (shell, words) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef cognitive-memory-mcp"),
        ("fish", "complete -c"),
    ] {
        let script = made(&["completions", shell]);
        assert!(
            script.contains(words) && script.contains("remember"),
            "{shell}"
        );
    }
    let page = made(&["man"]);
    assert!(
        page.contains(".TH cognitive-memory-mcp 1") && page.contains("COMMAND RESTORE"),
        "{page}"
    );
    assert!(
        page.contains(".SH SETTINGS") && page.contains("MEMORY_LISTEN"),
        "{page}"
    );
}

fn overview(setup: &Setup) {
    for text in ["Tea at four", "Coffee at nine"] {
        ok(setup.run(&[
            "remember",
            text,
            "--tag",
            "habit",
            "--session",
            "monday",
            "--project",
            "home",
        ]));
    }
    ok(setup.run(&[
        "remember",
        "Rent is due",
        "--tag",
        "money",
        "--project",
        "home",
    ]));
    ok(setup.run(&["remember", "The build takes a minute", "--tag", "work"]));
    let status = ok(setup.run(&["status", "--project", "home"]));
    for words in ["home", "3 (3 note)", "habit 2, money 1", "monday 2"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    assert_eq!(
        ok(setup.run(&["tags", "--project", "home"])),
        "MEMORIES TAG\n       2 habit\n       1 money\n"
    );
    assert_eq!(ok(setup.run(&["tags"])), "MEMORIES TAG\n       1 work\n");
    let one: Value = serde_json::from_str(&ok(setup.run(&[
        "tags",
        "-n",
        "1",
        "--project=home",
        "--json",
    ])))
    .expect("JSON");
    assert_eq!(
        one,
        serde_json::json!({ "top": [{ "value": "habit", "count": 2 }], "more": 1 })
    );
    assert_eq!(
        ok(setup.run(&["list", "--project", "home"]))
            .lines()
            .count(),
        4
    );
    let id = id_of(&ok(setup.run(&["list"])));
    let elsewhere = setup.run(&["forget", &id, "--project", "home"]);
    assert!(
        elsewhere.code == Some(64) && elsewhere.stderr.contains(&id),
        "{}",
        elsewhere.stderr
    );
    let unfit = setup.run(&["recall", "tea", "--project", "two words"]);
    assert!(
        unfit.code == Some(64) && unfit.stderr.contains("--project"),
        "{}",
        unfit.stderr
    );
    assert_eq!(ok(setup.run(&["entities"])), "No entities.\n");
}

#[tokio::test]
async fn projects_and_counts_are_the_same_with_a_service() {
    let setup = Setup::new();
    let server = setup.serve().await;
    overview(&setup);
    server.stop().await;
}

#[test]
fn projects_and_counts_are_the_same_without_a_service() {
    overview(&Setup::new());
}

#[tokio::test]
async fn projects_and_counts_are_the_same_on_postgres_with_a_service() {
    let database = Database::migrated().await;
    let setup = on_postgres(&database);
    let server = setup.serve().await;
    overview(&setup);
    server.stop().await;
}

#[tokio::test]
async fn projects_and_counts_are_the_same_on_postgres_without_a_service() {
    let database = Database::migrated().await;
    overview(&on_postgres(&database));
}

#[tokio::test]
async fn lists_are_longer_than_a_page() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let items: Vec<Value> = (0..230)
        .map(|number| serde_json::json!({ "content": format!("Number {number}"), "entities": [format!("Thing {number}")] }))
        .collect();
    server
        .client()
        .call("remember", serde_json::json!({ "items": items }))
        .await;
    let all = ok(setup.run(&["list", "--all"]));
    assert_eq!(all.lines().count(), 231, "{all}");
    for number in [0, 100, 229] {
        assert!(
            all.lines()
                .any(|line| line.ends_with(&format!("Number {number}"))),
            "{number}: {all}"
        );
    }
    let most = ok(setup.run(&["list", "-n", "150"]));
    assert!(
        most.lines().count() == 152 && most.contains("More: list --cursor "),
        "{most}"
    );
    let found: Value =
        serde_json::from_str(&ok(setup.run(&["list", "-n", "150", "--json"]))).expect("JSON");
    assert_eq!(found["hits"].as_array().map(Vec::len), Some(150));
    let things = ok(setup.run(&["entities", "-n", "200", "Thing", "1"]));
    assert_eq!(things.lines().count(), 112, "{things}");
    assert!(
        things.contains("Thing 199") && !things.contains("Thing 2\n"),
        "{things}"
    );
    let some = ok(setup.run(&["entities", "-n", "3"]));
    assert!(
        some.lines().count() == 5 && some.contains("There are more"),
        "{some}"
    );
    server.stop().await;
}

/// Writes a program that replaces an editor.
fn editor(setup: &Setup, script: &str) -> String {
    let path = setup.file("editor.sh", script);
    format!("sh {}", path.display())
}

fn edit(setup: &Setup, script: &str, id: &str) -> Ran {
    let mut command = setup.command(&["edit", id]);
    command.env("EDITOR", editor(setup, script));
    Ran::of(command)
}

fn editing(setup: &Setup) {
    let id = id_of(&ok(setup.run(&[
        "remember",
        "Marta lives in Berlin",
        "--tag",
        "people",
        "--importance",
        "0.5",
    ])));
    let saved = ok(setup.run(&[
        "edit",
        &id,
        "--content",
        "Marta lives in Hamburg",
        "--tag",
        "home",
        "--reason",
        "moved",
    ]));
    assert!(saved.contains("version 2"), "{saved}");
    let shown = ok(setup.run(&["show", &id, "--history"]));
    assert!(
        shown.contains("Hamburg") && shown.contains("#home") && shown.contains("moved"),
        "{shown}"
    );
    ok(setup.run(&["edit", &id, "--no-tags", "--importance", "0.9"]));
    let shown = ok(setup.run(&["show", &id]));
    assert!(
        !shown.contains("#home") && shown.contains("0.9") && shown.contains("Hamburg"),
        "{shown}"
    );

    let edited = edit(setup, "sed -i s/Hamburg/Bremen/ \"$1\"", &id);
    assert!(ok(edited).contains("version 4"));
    assert!(ok(setup.run(&["show", &id])).contains("Marta lives in Bremen"));
    assert_eq!(ok(edit(setup, "true", &id)), "Nothing changed.\n");
    let failed = edit(setup, "exit 3", &id);
    assert!(
        failed.code == Some(64) && failed.stderr.contains("nothing was saved"),
        "{}",
        failed.stderr
    );
    let nowhere = setup.run(&["edit", &id]);
    assert!(
        nowhere.code == Some(64) && nowhere.stderr.contains("--content"),
        "{}",
        nowhere.stderr
    );
    let unknown = setup.run(&["edit", "deadbeef", "--content", "x"]);
    assert!(
        unknown.code == Some(64) && unknown.stderr.contains("deadbeef"),
        "{}",
        unknown.stderr
    );

    // Another client changes the memory first.
    let program = env!("CARGO_BIN_EXE_cognitive-memory-mcp");
    let script = format!(
        "{program} edit {id} --content 'Marta lives in Kiel' && echo 'Marta lives in Jena' > \"$1\""
    );
    let late = edit(setup, &script, &id);
    assert_eq!(late.code, Some(1), "{}", late.stderr);
    for words in [
        "- Marta lives in Kiel",
        "+ Marta lives in Jena",
        "version 5",
        "nothing was saved",
    ] {
        assert!(late.stderr.contains(words), "{words}: {}", late.stderr);
    }
    let kept = late.stderr.trim().rsplit(' ').next().expect("a path");
    assert_eq!(
        std::fs::read_to_string(kept).expect("the text is kept"),
        "Marta lives in Jena\n"
    );
    std::fs::remove_file(kept).expect("removed");
    assert!(ok(setup.run(&["show", &id])).contains("Marta lives in Kiel"));
}

#[tokio::test]
async fn editing_loses_nothing_with_a_service() {
    let setup = Setup::new();
    let server = setup.serve().await;
    editing(&setup);
    server.stop().await;
}

#[test]
fn editing_loses_nothing_without_a_service() {
    editing(&Setup::new());
}

#[tokio::test]
async fn a_protected_memory_awaits_its_owner() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let item =
        serde_json::json!({ "content": "The door code is 1234\nAsk Marta", "protected": true });
    let stored = server
        .client()
        .call("remember", serde_json::json!({ "items": [item] }))
        .await;
    let full = stored["memories"][0]["id"]
        .as_str()
        .expect("an ID")
        .to_owned();
    let asked = setup.run(&[
        "edit",
        &full,
        "--content",
        "The door code is 9999\nAsk Marta",
    ]);
    assert!(
        asked.code == Some(1) && asked.stdout.contains("Not changed: protected."),
        "{}",
        asked.stdout
    );
    let refused = setup.run(&["forget", &full]);
    assert!(
        refused.code == Some(1) && refused.stdout.contains("Not deleted: protected."),
        "{}",
        refused.stdout
    );
    let listed = ok(setup.run(&["review", "list"]));
    for words in [
        "- The door code is 1234",
        "+ The door code is 9999",
        "approve",
        "reject",
    ] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    assert!(
        !listed.contains("+ Ask Marta"),
        "only what differs: {listed}"
    );
    let update = listed
        .find("update")
        .and_then(|at| listed.get(at..))
        .expect("the update");
    let command = update
        .lines()
        .find_map(|line| line.trim().strip_prefix("approve"))
        .expect("a command")
        .trim();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let approved = ok(setup.run(&words));
    assert!(approved.contains("approved"), "{approved}");
    assert!(ok(setup.run(&["show", &full])).contains("9999"));
    server.stop().await;
}

#[test]
fn recall_explains_itself_and_can_be_strict() {
    let setup = Setup::new();
    for text in [
        "Tea at four, in the garden",
        "The garden gate is green",
        "Marta likes the garden in May",
    ] {
        ok(setup.run(&["remember", text]));
    }
    let plain = ok(setup.run(&["recall", "garden", "tea"]));
    assert!(!plain.contains("score"), "{plain}");
    let explained = ok(setup.run(&["recall", "garden", "tea", "--explain"]));
    assert!(
        explained.contains("score") && explained.contains("words"),
        "{explained}"
    );
    let question = [
        "recall",
        "which",
        "zeppelin",
        "did",
        "Wilhelmina",
        "fly",
        "over",
        "the",
        "garden",
    ];
    let weak = ok(setup.run(&question));
    assert!(weak.starts_with("Note: "), "notes come first: {weak}");
    let strict = setup.run(&[&question[..], &["--strict"]].concat());
    assert_eq!(
        (strict.code, strict.stdout.as_str()),
        (Some(1), weak.as_str())
    );
}

#[test]
fn help_shows_the_options_of_a_command_and_the_settings_apart() {
    let setup = Setup::new();
    let recall = ok(setup.run(&["recall", "--help"]));
    assert!(
        recall.contains("--strict") && !recall.contains("--listen"),
        "{recall}"
    );
    assert_eq!(ok(setup.run(&["help", "recall"])), recall);
    let settings = ok(setup.run(&["help", "settings"]));
    assert!(
        settings.contains("--listen <VALUE>") && settings.contains("MEMORY_TOKENS"),
        "{settings}"
    );
    let unknown = setup.run(&["help", "recal"]);
    assert!(
        unknown.code == Some(64) && unknown.stderr.contains("recall"),
        "{}",
        unknown.stderr
    );
    // They are still accepted everywhere.
    let elsewhere = setup.path("elsewhere");
    ok(setup.run(&[
        "remember",
        "here",
        "--data-dir",
        &elsewhere.to_string_lossy(),
    ]));
    assert!(elsewhere.join("memory.db").exists());
}

#[test]
fn a_closed_pipe_is_silent() {
    let setup = Setup::new();
    ok(setup.run(&["remember", "Tea at four"]));
    for args in [
        &["list"][..],
        &["help", "settings"],
        &["export", "-"],
        &["man"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = setup.command(args);
        let out = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("it ran");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !said.contains("ipe") && !said.contains("error"),
            "{args:?}: {said}"
        );
        assert_ne!(out.status.code(), Some(101), "{args:?}");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = setup.command(&["show", "deadbeef"]);
    let status = command
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .expect("it ran");
    assert_eq!(status.code(), Some(64));
}

#[test]
fn odd_input_is_refused_before_anything_is_stored() {
    let setup = Setup::new();
    for number in ["nan", "inf", "infinity"] {
        let ran = setup.run(&["remember", "--importance", number, "a walrus"]);
        assert_eq!(ran.code, Some(64), "{number}: {}", ran.stdout);
        assert!(ran.stderr.contains("--importance"), "{}", ran.stderr);
    }
    for (input, part) in [
        (b"caf\xe9".to_vec(), "is not UTF-8 (byte 4)"),
        (vec![b'x'; 2 * 1024 * 1024], "is longer than 1048576 bytes"),
    ] {
        let file = setup.file("input", &input);
        let mut command = setup.command(&["remember", "-"]);
        command.stdin(std::fs::File::open(file).unwrap());
        let ran = Ran::of(command);
        assert_eq!(ran.code, Some(64), "{part}: {}", ran.stdout);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(setup.run(&["list"]).stdout.contains("Nothing is stored"));
}

/// A file that takes the place of a pipe or a device breaks the programs that use it.
#[test]
fn an_export_replaces_regular_files_only() {
    let setup = Setup::new();
    assert_eq!(setup.run(&["remember", "a walrus"]).code, Some(0));
    let pipe = setup.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for name in ["pipe", "."] {
        let ran = setup.run(&["export", name]);
        assert_eq!(ran.code, Some(64), "{name}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("is not a regular file"),
            "{}",
            ran.stderr
        );
    }
    assert!(!std::fs::metadata(&pipe).unwrap().is_file());
    assert_eq!(setup.run(&["export", "all.jsonl"]).code, Some(0));
    let ran = setup.run(&["export", "all.jsonl"]);
    assert!(
        ran.stderr.contains("1 record exported, 1 of them a memory"),
        "{}",
        ran.stderr
    );
}
