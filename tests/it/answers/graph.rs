//! Answers about entities and relations.

use super::*;

#[tokio::test]
async fn links_of_a_call_are_limited() {
    let bench = Bench::new().await;
    let items = |count: usize| -> Vec<RememberItem> {
        (0..count)
            .map(|n| telling(&format!("{n}"), (0..50).map(|m| format!("{n} {m}"))))
            .collect()
    };
    let params = RememberParams {
        items: items(101),
        idempotency_key: None,
    };
    let error = bench.engine.remember(&call(), params).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("items") && text.contains("5050") && text.contains("at most 5000"),
        "{text}"
    );
    let params = RecallParams::default();
    assert!(
        bench
            .engine
            .recall(&call(), params)
            .await
            .unwrap()
            .hits
            .is_empty(),
        "nothing was stored"
    );
    assert_eq!(bench.remember(items(100)).await.len(), 100);
}

#[tokio::test]
async fn a_list_skips_no_entity_of_the_same_name() {
    let bench = Bench::new().await;
    for project in ["default", "other", "third"] {
        let names = ["b", "c"].map(|name| relation("a", "knows", name));
        bench.link(project, names.to_vec()).await;
    }
    for limit in 1..=9 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let params = ExploreParams {
                mode: Some(ExploreMode::List),
                limit: Some(limit),
                after,
                ..ExploreParams::default()
            };
            let page = bench.explore(params).await;
            after = page.entities.last().map(|entity| entity.name.clone());
            seen.extend(page.entities.into_iter().map(|entity| entity.name));
            if !page.partial {
                break;
            }
        }
        assert_eq!(
            seen,
            ["a", "a", "a", "b", "b", "b", "c", "c", "c"],
            "limit {limit}"
        );
    }
}

#[tokio::test]
async fn suggestions_report_that_there_are_more() {
    let bench = Bench::new().await;
    let ends = ["c", "d", "e"].map(|name| relation("b", "knows", name));
    bench
        .link(
            "default",
            [vec![relation("a", "knows", "b")], ends.to_vec()].concat(),
        )
        .await;
    let suggest = |limit| ExploreParams {
        mode: Some(ExploreMode::Suggest),
        name: Some("a".into()),
        limit: Some(limit),
        ..ExploreParams::default()
    };
    let whole = bench.explore(suggest(3)).await;
    assert_eq!((whole.entities.len(), whole.partial), (3, false));
    let cut = bench.explore(suggest(2)).await;
    assert_eq!((cut.entities.len(), cut.partial), (2, true));
    // More neighbors than the service reads.
    let many = (0..150)
        .map(|number| relation("hub", "knows", &format!("n{number}")))
        .collect();
    bench.link("default", many).await;
    let hub = bench
        .explore(ExploreParams {
            name: Some("hub".into()),
            ..suggest(500)
        })
        .await;
    assert!(hub.partial);
}

#[tokio::test]
async fn relations_that_have_not_begun_are_reported() {
    let bench = Bench::new().await;
    let later = RelationItem {
        valid_from: Some("2100-01-01".into()),
        ..relation("Ada", "will own", "Acme")
    };
    bench
        .link("default", vec![relation("Ada", "works at", "Acme"), later])
        .await;
    let end = RelationItem {
        kind: None,
        unlink: Some(UnlinkMode::End),
        ..relation("Ada", "", "Acme")
    };
    let notes = bench.link("default", vec![end]).await;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("will own") && note.contains("2100-01-01")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn memory_ids_are_refused_as_entity_names() {
    let bench = Bench::new().await;
    let (one, other) = (bench.note("one").await, bench.note("other").await);
    let link = async |relation: RelationItem| {
        bench
            .engine
            .link(
                &call(),
                LinkParams {
                    entities: Vec::new(),
                    relations: vec![relation],
                },
            )
            .await
    };
    let error = link(relation(&one, "supports", &other))
        .await
        .unwrap_err()
        .to_string();
    for part in ["relations[0].from", "sources", "supersedes"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let telling = RememberItem {
        relations: vec![relation("Ada", "wrote", &one)],
        ..item("Ada wrote it")
    };
    let params = RememberParams {
        items: vec![telling],
        idempotency_key: None,
    };
    let error = bench
        .engine
        .remember(&call(), params)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("items[0].relations[0].to"), "{error}");
    let listed = ExploreParams {
        mode: Some(ExploreMode::List),
        ..ExploreParams::default()
    };
    assert!(
        bench.explore(listed).await.entities.is_empty(),
        "nothing was stored"
    );
    // Such names from earlier versions can be removed.
    let end = RelationItem {
        unlink: Some(UnlinkMode::Erase),
        ..relation(&one, "supports", &other)
    };
    assert!(
        link(end)
            .await
            .unwrap_err()
            .to_string()
            .contains("existing entity")
    );
}

#[tokio::test]
async fn new_and_similar_entities_are_reported() {
    let bench = Bench::new().await;
    let notes = bench
        .link(
            "default",
            vec![relation("Marta Lindqvist", "works at", "Acme")],
        )
        .await;
    assert_eq!(notes, ["New entities: \"Marta Lindqvist\", \"Acme\"."]);
    let notes = bench
        .link("default", vec![relation("Marta", "knows", "acme")])
        .await
        .join("\n");
    for part in [
        "\"acme\" is the existing entity \"Acme\"",
        "New entities: \"Marta\"",
        "existing \"Marta Lindqvist\"",
    ] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    let params = RememberParams {
        items: vec![telling("x", ["Lindquist, Marta".to_owned()])],
        idempotency_key: None,
    };
    let notes = bench
        .engine
        .remember(&call(), params)
        .await
        .unwrap()
        .notes
        .join("\n");
    assert!(
        notes.contains("New entities") && notes.contains("\"Marta\""),
        "{notes}"
    );
}

#[tokio::test]
async fn entities_are_recognised_in_texts() {
    let bench = Bench::new().await;
    bench
        .link(
            "default",
            vec![
                relation("Marta Lindqvist", "uses", "Apple"),
                relation("Zed", "knows", "May"),
            ],
        )
        .await;
    let recognised = async |content: &str| {
        let params = RememberParams {
            items: vec![item(content)],
            idempotency_key: None,
        };
        let notes = bench
            .engine
            .remember(&call(), params)
            .await
            .unwrap()
            .notes
            .join("\n");
        notes
            .lines()
            .find(|note| note.contains("Recognised"))
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let note = recognised("Yesterday marta lindqvist met Zed.").await;
    assert!(
        note.contains("\"Marta Lindqvist\"") && note.contains("\"Zed\""),
        "{note}"
    );
    assert_eq!(
        recognised("She ate an apple in the zedonk house.").await,
        "",
        "common words are no names"
    );
    let params = GetParams {
        entities: vec!["Zed".into()],
        ..GetParams::default()
    };
    assert_eq!(
        bench
            .engine
            .get(&call(), params)
            .await
            .unwrap()
            .memories
            .len(),
        1,
        "linked as mentioned"
    );
}
