//! Answers about the working memory.

use super::*;

#[tokio::test]
async fn purging_a_memory_removes_the_item_it_came_from() {
    let bench = Bench::new().await;
    let focus = async |params: FocusParams| bench.engine.focus(&call(), params).await.unwrap();
    let added = FocusParams {
        action: Some(FocusAction::Add),
        content: Some("ask Ada".into()),
        ..FocusParams::default()
    };
    let id = focus(added).await.items.remove(0).id;
    let promote = |memory| FocusParams {
        action: Some(FocusAction::Promote),
        id: Some(id.clone()),
        memory,
        ..FocusParams::default()
    };
    let memory = focus(promote(true)).await.memory.unwrap();
    let reworded = UpdateParams {
        id: memory.clone(),
        content: Some("asked Ada".into()),
        ..UpdateParams::default()
    };
    bench.engine.update(&call(), reworded).await.unwrap();
    assert_eq!(
        focus(promote(false)).await.items[0].memory.as_ref(),
        Some(&memory)
    );
    bench.forget(&memory, Mode::Purge).await;
    for archived in [false, true] {
        assert!(
            focus(FocusParams {
                archived,
                ..FocusParams::default()
            })
            .await
            .items
            .is_empty()
        );
    }
}

#[tokio::test]
async fn the_working_memory_drops_no_new_item() {
    let bench = Bench::new().await;
    let focus = async |params: FocusParams| bench.engine.focus(&call(), params).await;
    let content = Some("ask Ada".to_owned());
    let added = focus(FocusParams {
        content: content.clone(),
        ..FocusParams::default()
    })
    .await
    .unwrap();
    let id = added.items[0].id.clone();
    assert_eq!(focus(FocusParams::default()).await.unwrap().items.len(), 1);
    let list = FocusParams {
        action: Some(FocusAction::List),
        content,
        ..FocusParams::default()
    };
    assert!(
        focus(list)
            .await
            .unwrap_err()
            .to_string()
            .contains("use action add")
    );
    let unnamed = FocusParams {
        id: Some(id.clone()),
        ..FocusParams::default()
    };
    assert!(
        focus(unnamed)
            .await
            .unwrap_err()
            .to_string()
            .contains("restore or save")
    );
    let act = |action| FocusParams {
        action: Some(action),
        id: Some(id.clone()),
        ..FocusParams::default()
    };
    let dropped = focus(FocusParams {
        importance: Some(0.9),
        ..act(FocusAction::Drop)
    })
    .await
    .unwrap();
    assert!(dropped.notes[0].contains("importance"), "{dropped:?}");
    focus(act(FocusAction::Restore)).await.unwrap();
    assert_eq!(focus(FocusParams::default()).await.unwrap().items.len(), 1);
    let saved = focus(act(FocusAction::Save)).await.unwrap();
    let alias = focus(FocusParams {
        memory: true,
        ..act(FocusAction::Promote)
    })
    .await
    .unwrap();
    assert!(saved.memory.is_some() && saved.memory == alias.memory);
    assert!(alias.notes[0].contains("now called save"), "{alias:?}");
}
