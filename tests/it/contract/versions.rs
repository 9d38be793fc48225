//! Versions of a fact: the current one comes first.

use std::sync::Arc;

use cognitive_memory_mcp::engine::{HitView, RecallOutput, RecallParams, RememberItem};
use cognitive_memory_mcp::store::Store;

use super::answer::{Service, asking, on};

/// Returns three notes about each of two facts, without `supersedes`, and a note about another fact.
fn list_versions() -> Vec<RememberItem> {
    vec![
        on("Heron listens on port 8085.", "2026-01-15"),
        on("Heron listens on port 7443 now.", "2026-04-15"),
        on(
            "Heron listens on port 9443 since the migration.",
            "2026-09-02",
        ),
        on("Ines Calder leads the platform team.", "2026-01-10"),
        on("Bartek Wolny leads the platform team now.", "2026-04-12"),
        on("Nkechi Obi leads the platform team.", "2026-09-17"),
        on("Heron has a node in Dublin.", "2026-09-20"),
    ]
}

pub(crate) async fn the_current_version_of_a_fact_comes_first(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let ids = service.remember(list_versions()).await;
    let versions_of = |found: &RecallOutput, fact: usize| -> Vec<usize> {
        let of_fact = |hit: &HitView| ids.iter().position(|id| *id == hit.memory.id);
        let positions = found.hits.iter().filter_map(of_fact);
        let positions = positions.filter(|position| position / 3 == fact);
        positions.map(|position| position % 3).collect()
    };
    for (question, fact, expected) in [
        ("Which port does Heron listen on?", 0, [2, 1, 0]),
        ("Who leads the platform team?", 1, [2, 1, 0]),
        ("Which port did Heron listen on at first?", 0, [0, 1, 2]),
        ("Which port did Heron listen on previously?", 0, [1, 0, 2]),
        ("Who led the platform team in May 2026?", 1, [1, 0, 2]),
    ] {
        let found = service.recall(asking(question)).await;
        assert_eq!(versions_of(&found, fact), expected, "{question}");
        for hit in &found.hits {
            let position = ids.iter().position(|id| *id == hit.memory.id).unwrap();
            let is_older = position / 3 == fact && position % 3 < 2;
            let newest = is_older.then(|| ids[fact * 3 + 2].clone());
            assert_eq!(
                hit.newer_version, newest,
                "{question}: {}",
                hit.memory.content
            );
        }
    }
    let found = service
        .recall(asking("In which city is the node of Heron?"))
        .await;
    assert_eq!(found.hits[0].memory.id, ids[6]);
    let mut paged = Vec::new();
    let mut cursor = None;
    loop {
        let page = service
            .recall(RecallParams {
                limit: Some(1),
                cursor: cursor.take(),
                ..asking("Which port does Heron listen on?")
            })
            .await;
        paged.extend(page.hits.iter().map(|hit| hit.memory.id.clone()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let whole = service
        .contents(asking("Which port does Heron listen on?"))
        .await;
    assert_eq!(paged[..3], [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(
        paged.len(),
        whole.len(),
        "pages neither lose nor repeat hits"
    );
}
