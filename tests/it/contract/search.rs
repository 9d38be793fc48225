//! Lexical search: BM25 by the textbook, and every stored text is found by its own words.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Filter, Memory, NewMemory, Scope};
use cognitive_memory_mcp::store::{ForgetMode, LexicalQuery, Store};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::{
    assert_same_hits, at, episode, forget, found, naive_search, note, remember, scope, search,
    store_one, turn,
};

const WORDS: [&str; 24] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "river",
    "mountain",
    "running",
    "ran",
    "getUserName",
    "max_chars",
    "東京都",
    "👍",
    "café",
    "it's",
    "NEAR",
    "OR",
    "x",
    "1984",
    "C++",
    "foo-bar",
    "example.com",
    "Straße",
    "привет",
    "\"q\"",
];

/// Returns a text of words, the first of which are common and the last rare.
fn text(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = 1 + next() % 40;
    let word = |r: u64| WORDS[((r % 24) * (r / 24 % 24) / 24) as usize];
    (0..length)
        .map(|_| word(next()))
        .collect::<Vec<_>>()
        .join(" ")
}

async fn live(store: &dyn Store, scope: &Scope) -> Vec<Memory> {
    let all = Filter {
        include_outdated: true,
        ..Filter::at(at(0))
    };
    store.browse(scope, &all, None, 100_000).await.unwrap()
}

pub(crate) async fn scores_are_those_of_plain_bm25(store: Arc<dyn Store>) {
    let scope = scope();
    let mut items: Vec<NewMemory> = (0..120)
        .map(|seed| turn("s", seed as i64, &text(seed)))
        .collect();
    items.extend((200..230).map(|seed| {
        let item = episode(&text(seed), &text(seed + 500), &text(seed + 600));
        NewMemory {
            tags: vec!["river".into(), "rare tag".into()],
            speaker: Some("Ann".into()),
            ..item
        }
    }));
    // One term many times.
    items.push(note(&"alpha beta ".repeat(700)));
    let ids: Vec<Uuid> = remember(&*store, &scope, items)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    store_one(
        &*store,
        &scope,
        NewMemory {
            supersedes: ids[30..40].to_vec(),
            ..note("alpha successor")
        },
    )
    .await;
    for id in &ids[50..60] {
        forget(&*store, &scope, *id, ForgetMode::Delete).await;
    }
    forget(&*store, &scope, ids[61], ForgetMode::Purge).await;
    forget(&*store, &scope, ids[51], ForgetMode::Restore).await;
    let memories = live(&*store, &scope).await;
    let memories: Vec<&Memory> = memories.iter().collect();
    for seed in 1_000..1_040 {
        for outdated in [false, true] {
            let query = text(seed);
            let filter = Filter {
                include_outdated: outdated,
                ..Filter::at(at(10))
            };
            let expected = naive_search(&memories, &query, &filter);
            assert_same_hits(&search(&*store, &scope, &query, filter).await, &expected);
        }
    }
}

pub(crate) async fn the_exact_text_comes_first(store: Arc<dyn Store>) {
    let scope = scope();
    let items = vec![
        note("river river river"),
        note("the river"),
        note("a long text in which one river flows"),
    ];
    let ids: Vec<Uuid> = remember(&*store, &scope, items)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    let hits = search(&*store, &scope, "the river", Filter::at(at(1))).await;
    assert_eq!((hits[0].id, hits[0].exact, hits.len()), (ids[1], true, 3));
    assert!(hits[0].bm25 > 0.0 && hits[1].bm25 > hits[0].bm25);
    // The exact text is found even without a term in common with the index.
    let query = |limit| LexicalQuery {
        terms: Vec::new(),
        average_length: 1.0,
        exact: cognitive_memory_mcp::domain::memory::content_hash("the river"),
        filter: Filter::at(at(1)),
        limit,
    };
    let hits = store.search_lexical(&scope, &query(10)).await.unwrap();
    assert_eq!((hits.len(), hits[0].id, hits[0].exact), (1, ids[1], true));
    assert_eq!(
        (hits[0].bm25.to_bits(), hits[0].terms.len()),
        (0.0_f64.to_bits(), 0)
    );
    assert!(
        store
            .search_lexical(&scope, &query(0))
            .await
            .unwrap()
            .is_empty()
    );
    // The limit keeps the best hits; the newest win ties.
    let said: Vec<NewMemory> = (0..5).map(|place| turn("s", place, "giraffe")).collect();
    let said: Vec<Uuid> = remember(&*store, &scope, said)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    assert_eq!(
        found(&*store, &scope, "giraffes").await,
        said.into_iter().rev().collect::<Vec<_>>()
    );
}

/// Texts without words, with the syntax of databases and of searches, or in rare scripts.
const AWKWARD_TEXTS: [&str; 64] = [
    "a",
    "的",
    "👍",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈 flag",
    "東京都に住んでいる",
    "안녕하세요",
    "สวัสดี",
    "مرحبا بالعالم",
    "Ünïcödé",
    "fn main() { println!(\"{}\", x[0]); }",
    "SELECT * FROM memory WHERE id = 'x'; --",
    "'; DROP TABLE memory; --",
    "https://example.com/a/b?c=d&e=f#g",
    "NEAR(a b, 5)",
    "a AND b OR NOT c",
    "terms:alpha*",
    "\"",
    "'",
    "''",
    "\"\"",
    "*",
    "^",
    "-",
    "(",
    ")",
    "{}",
    "a:b",
    "col : x",
    "%",
    "_",
    "\\",
    "\\x00",
    "--",
    "/*",
    ";",
    "\u{200d}",
    "\u{feff}x",
    "to be or not to be",
    "the",
    "I",
    "ﷺ",
    "ﬁligree",
    "İstanbul",
    "ß",
    "Ω",
    "e\u{301}\u{301}",
    "\u{301}",
    "½",
    "x²",
    "a\tb\nc\r\nd",
    "user@example.com",
    "+49 (0)30 / 123-456",
    "0x7fff_ffff",
    "$100",
    "C#",
    "...",
    "…",
    "ＡＢＣ",
    "{\"json\": [1, null]}",
    "<b>bold</b>",
    "'quoted' \"double\"",
    "\u{e000}",
    "\u{10ffff}",
];

pub(crate) async fn awkward_texts_are_found(store: Arc<dyn Store>) {
    let scope = scope();
    let long_word = "w".repeat(64 * 1024);
    let long_text = "lorem ipsum dolor ".repeat(64 * 1024 / 18);
    let symbols = "!".repeat(64 * 1024);
    let long_texts = [long_word.as_str(), &long_text, &symbols];
    let texts: Vec<&str> = AWKWARD_TEXTS.into_iter().chain(long_texts).collect();
    let items: Vec<NewMemory> = texts
        .iter()
        .enumerate()
        .map(|(place, text)| turn("s", place as i64, text))
        .collect();
    let ids: Vec<Uuid> = remember(&*store, &scope, items)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    for (text, id) in texts.iter().zip(&ids) {
        let short: String = text.chars().take(40).collect();
        assert_eq!(
            super::load(&*store, &scope, *id).await.content,
            *text,
            "{short:?} was changed"
        );
        let hits = search(&*store, &scope, text, Filter::at(at(1))).await;
        assert!(
            hits.iter().any(|hit| hit.id == *id && hit.exact),
            "{short:?} does not find itself"
        );
        // The memory is also found by its terms, if it has any.
        let by_terms = hits
            .iter()
            .any(|hit| hit.id == *id && !hit.terms.is_empty());
        let visible = !super::analyzer().terms(text).counts.is_empty();
        assert_eq!(by_terms, visible, "{short:?} by its terms");
    }
}

pub(crate) async fn whatever_is_stored_is_found_by_its_own_text(store: Arc<dyn Store>) {
    let scope = scope();
    let runtime = tokio::runtime::Handle::current();
    let texts = prop_oneof![
        "\\PC{1,60}",
        "[ -~]{1,40}",
        "([a-zA-Z0-9_./:@'\"*(){}-]{1,12} ?){1,8}",
        "[\\p{Han}\\p{Hiragana}\\p{Thai}\\p{Arabic}\\p{Emoji} ]{1,20}",
    ]
    .prop_filter("visible", |text| !text.trim().is_empty());
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let strategy = prop::collection::vec(texts, 1..6);
    tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&strategy, |texts| {
            runtime.block_on(async {
                let items: Vec<NewMemory> = texts.iter().map(|text| note(text)).collect();
                let answer = remember(&*store, &scope, items).await.unwrap();
                for (text, stored) in texts.iter().zip(answer) {
                    let hits = search(&*store, &scope, text, Filter::at(at(1))).await;
                    let hit = hits.iter().find(|hit| hit.id == stored.id);
                    prop_assert!(
                        hit.is_some_and(|hit| hit.exact),
                        "{:?} does not find itself",
                        text
                    );
                    let visible = !super::analyzer().terms(text).counts.is_empty();
                    prop_assert_eq!(hit.is_some_and(|hit| !hit.terms.is_empty()), visible);
                }
                Ok(())
            })
        })
    })
    .unwrap();
}

pub(crate) async fn a_scope_of_several_projects_is_one_corpus(store: Arc<dyn Store>) {
    let scopes: Vec<Scope> = (0..3).map(|_| scope()).collect();
    let mut seed = 2_000;
    for scope in &scopes {
        let items = (0..30)
            .map(|place| turn("s", place, &text(seed + place as u64)))
            .collect();
        remember(&*store, scope, items).await.unwrap();
        seed += 30;
    }
    let others = scopes[1..].iter().map(|scope| scope.project().to_owned());
    let all = Scope::new(scopes[0].project(), "reader").reading(others);
    let memories = live(&*store, &all).await;
    assert_eq!(memories.len(), 90);
    let memories: Vec<&Memory> = memories.iter().collect();
    for seed in 3_000..3_020 {
        let (query, filter) = (text(seed), Filter::at(at(1)));
        let expected = naive_search(&memories, &query, &filter);
        assert_same_hits(&search(&*store, &all, &query, filter).await, &expected);
    }
}

pub(crate) async fn nothing_asked_nothing_found(store: Arc<dyn Store>) {
    let scope = scope();
    let stats = store.corpus_stats(&scope, &[]).await.unwrap();
    assert_eq!(stats, Default::default());
    let stats = store
        .corpus_stats(&scope, &["x".into(), "x".into()])
        .await
        .unwrap();
    assert_eq!(stats.document_frequencies, [0, 0]);
    assert!(found(&*store, &scope, "anything").await.is_empty());
    assert!(store.get(&scope, &[], true).await.unwrap().is_empty());
    assert!(
        store
            .browse(&scope, &Filter::at(at(0)), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(remember(&*store, &scope, vec![]).await.unwrap().is_empty());
    store_one(&*store, &scope, note("x")).await;
    assert_eq!(
        store
            .corpus_stats(&scope, &["x".into(), "y".into()])
            .await
            .unwrap()
            .document_frequencies,
        [1, 0]
    );
}
