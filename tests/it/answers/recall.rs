//! Answers of recalls.

use super::*;

#[tokio::test]
async fn only_valid_memories_are_current() {
    let bench = Bench::new().await;
    let old = bench.note("she lives in Berlin").await;
    let new = RememberItem {
        supersedes: vec![old.clone()],
        ..item("she lives in Paris")
    };
    let new = bench.remember(vec![new]).await.remove(0);
    let current = async || {
        let params = GetParams {
            ids: vec![old.clone()],
            include_deleted: true,
            ..GetParams::default()
        };
        bench
            .engine
            .get(&call(), params)
            .await
            .unwrap()
            .memories
            .remove(0)
            .current
    };
    assert_eq!(current().await.as_ref(), Some(&new));
    for (mode, expected) in [
        (Mode::Delete, None),
        (Mode::Restore, Some(&new)),
        (Mode::Purge, None),
    ] {
        bench.forget(&new, mode).await;
        assert_eq!(current().await.as_ref(), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn an_as_of_recall_reports_unread_changes() {
    let bench = Bench::new().await;
    // Few distinct words, because the analysis would take longer than the rest.
    let text = |number: usize, word: &str| format!("{number} {word} {}", "x".repeat(65_000));
    let stored = bench
        .remember(
            (0..140)
                .map(|number| item(&text(number, "walrus")))
                .collect(),
        )
        .await;
    let then = chrono::Utc::now();
    for (number, id) in stored.iter().enumerate() {
        let content = Some(text(number, "seal"));
        let params = UpdateParams {
            id: id.clone(),
            content,
            ..UpdateParams::default()
        };
        bench.engine.update(&call(), params).await.unwrap();
    }
    let params = RecallParams {
        query: Some("walrus".into()),
        as_of: Some(then.to_rfc3339()),
        max_chars: Some(100),
        ..RecallParams::default()
    };
    let found = bench.engine.recall(&call(), params).await.unwrap();
    assert!(!found.hits.is_empty());
    assert!(
        found.notes.iter().any(|note| note.contains("16 MiB")),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn an_answer_names_the_substitute_of_a_misspelled_word() {
    let bench = Bench::new().await;
    let right = bench.note("Postgres runs on port 5433").await;
    for n in 0..30 {
        bench.note(&format!("the port of tool {n} is open")).await;
    }
    let recall = async |query: &str| {
        let params = RecallParams {
            query: Some(query.to_owned()),
            explain: true,
            ..RecallParams::default()
        };
        let mut found = bench.engine.recall(&call(), params).await.unwrap();
        let first = found.hits.remove(0);
        assert_eq!(first.memory.id, right, "{query}");
        (first.why.unwrap().terms, found.confidence.unwrap())
    };
    let (terms, spelled) = recall("postgres port").await;
    assert_eq!(terms, ["port", "postgr"]);
    let (terms, misspelled) = recall("postgers port").await;
    assert_eq!(terms, ["port", "postger~postgr"]);
    let (terms, unfinished) = recall("postg port").await;
    assert_eq!(terms, ["port", "postg~postgr"]);
    assert!(
        spelled > misspelled && spelled > unfinished,
        "{spelled} {misspelled} {unfinished}"
    );
}
