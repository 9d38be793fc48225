//! Spelling substitutes for unknown terms: the same on every backend, and only from memories that the scope may
//! find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cognitive_memory_mcp::domain::bm25::{Lexicon, WeightedTerm};
use cognitive_memory_mcp::domain::spelling::{
    MOST_PER_PREFIX, MOST_UNKNOWN, choose_substitutes, list_candidates, rate_likeness,
};
use cognitive_memory_mcp::domain::{Filter, NewMemory, Scope};
use cognitive_memory_mcp::store::{ForgetMode, Store};
use uuid::Uuid;

use super::{analyzer, at, forget, note, remember, scope, store_one, turn, unlimited};

/// Returns the terms of the search, and the IDs of the hits.
async fn spelled(
    store: &dyn Store,
    scope: &Scope,
    text: &str,
    filter: Filter,
) -> (Vec<WeightedTerm>, Vec<Uuid>) {
    let terms: Vec<String> = analyzer().terms(text).counts.into_keys().collect();
    let Lexicon { stats, matches } = store
        .lexicon(scope, &terms, &list_candidates(&terms))
        .await
        .unwrap();
    let substitutes = choose_substitutes(&terms, &stats.document_frequencies, &matches);
    let query = unlimited(text, &terms, &stats, &substitutes, filter);
    let hits = store.search_lexical(scope, &query).await.unwrap();
    (query.terms, hits.into_iter().map(|hit| hit.id).collect())
}

async fn found(store: &dyn Store, scope: &Scope, text: &str) -> Vec<Uuid> {
    spelled(store, scope, text, Filter::at(at(10))).await.1
}

async fn meant(store: &dyn Store, scope: &Scope, text: &str) -> Vec<String> {
    spelled(store, scope, text, Filter::at(at(10)))
        .await
        .0
        .into_iter()
        .map(|term| term.term)
        .collect()
}

pub(crate) async fn misspelled_and_unfinished_words_are_found(store: Arc<dyn Store>) {
    let scope = scope();
    let texts = [
        "Postgres runs on port 5433",
        "the maintenance window",
        "ticket HB-1004",
        "ticket HB-1005",
        "мороженое",
    ];
    let ids: Vec<Uuid> = remember(&*store, &scope, texts.map(note).to_vec())
        .await
        .unwrap()
        .iter()
        .map(|i| i.id)
        .collect();
    for (query, place) in [
        ("postgers", 0),
        ("ostgres", 9),
        ("opstgres", 0),
        ("postgr", 0),
        ("post", 0),
        ("postgresss", 0),
        ("maintanence", 1),
        ("maintnance windw", 1),
        ("HB1004", 2),
        ("hb 1005", 3),
        ("морженое", 4),
        ("NEAR(postgers*, \"'--", 0),
    ] {
        let expected: Vec<Uuid> = ids.get(place).copied().into_iter().collect();
        let found = found(&*store, &scope, query).await;
        assert!(found.first() == expected.first(), "{query}: {found:?}");
    }
    // Numbers have no substitutes.
    for query in ["HB10004", "HB1006", "HB100", "5434", "543"] {
        let letters = meant(&*store, &scope, query).await;
        assert!(
            letters.iter().all(|term| term == "hb"),
            "{query}: {letters:?}"
        );
    }
    // A known word has no substitute.
    store_one(&*store, &scope, note("postgers")).await;
    assert_eq!(meant(&*store, &scope, "postgers").await, ["postger"]);
    // A substitute weighs less than the word.
    let (terms, _) = spelled(&*store, &scope, "windw maintenance", Filter::at(at(10))).await;
    assert_eq!(
        terms
            .iter()
            .map(|t| (t.term.as_str(), t.stands_for))
            .collect::<Vec<_>>(),
        [("mainten", None), ("window", Some(1))]
    );
    assert!(terms[1].weight < terms[0].weight && terms[1].weight > 0.0);
}

pub(crate) async fn guessing_has_bounds(store: Arc<dyn Store>) {
    let scope = scope();
    let word = |n: usize| {
        format!(
            "w{}",
            (0..8)
                .map(|bit| if n >> bit & 1 == 1 { 'o' } else { 'a' })
                .collect::<String>()
        )
    };
    let many: Vec<NewMemory> = (0..200)
        .map(|n| turn("s", n as i64, &format!("{} {}", word(n), word(n + 1))))
        .collect();
    remember(&*store, &scope, many).await.unwrap();
    // Each has hundreds of similar words.
    let unknown: Vec<String> = (0..30).map(|n| format!("{}xx", word(n))).collect();
    let lexicon = store
        .lexicon(&scope, &unknown, &list_candidates(&unknown))
        .await
        .unwrap();
    let terms: BTreeSet<usize> = lexicon.matches.iter().map(|near| near.term).collect();
    assert_eq!(terms, (0..MOST_UNKNOWN).collect());
    assert!(lexicon.matches.len() < MOST_UNKNOWN * 4 * MOST_PER_PREFIX);
    let long = (0..20_000)
        .map(|n| format!("{}x", word(n)))
        .collect::<Vec<_>>()
        .join(" ");
    assert!(meant(&*store, &scope, &long).await.len() < 300);
}

/// Returns a word of few different letters, so that many are similar.
fn word(state: &mut u64) -> String {
    let mut next = |below: u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    };
    let letters = ['a', 'b', 'n', 'o', 'я', '7'];
    let length = 4 + next(7);
    (0..length)
        .map(|at| letters[next(if at == 0 { 4 } else { 6 }) as usize])
        .collect()
}

pub(crate) async fn what_is_near_is_what_the_rule_says(store: Arc<dyn Store>) {
    let scopes: Vec<Scope> = (0..2).map(|_| scope()).collect();
    let mut state = 7;
    let mut vocabulary: BTreeMap<String, BTreeSet<Uuid>> = BTreeMap::new();
    for scope in &scopes {
        let texts: Vec<String> = (0..60)
            .map(|_| {
                (0..4)
                    .map(|_| word(&mut state))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let items = texts
            .iter()
            .enumerate()
            .map(|(place, text)| turn("s", place as i64, text))
            .collect();
        let stored = remember(&*store, scope, items).await.unwrap();
        for (text, stored) in texts.iter().zip(stored) {
            for term in analyzer().terms(text).counts.into_keys() {
                vocabulary.entry(term).or_default().insert(stored.id);
            }
        }
    }
    let both = Scope::new(scopes[0].project(), "reader").reading([scopes[1].project().to_owned()]);
    let mut met = 0;
    for _ in 0..150 {
        let mut terms: Vec<String> = (0..3).map(|_| word(&mut state)).collect();
        terms.dedup();
        let candidates = list_candidates(&terms);
        let mut expected = Vec::new();
        for guess in candidates
            .iter()
            .filter(|guess| !vocabulary.contains_key(&terms[guess.term]))
        {
            let mut near: BTreeSet<String> = guess.list_spellings().collect();
            for head in &guess.prefixes {
                near.extend(
                    vocabulary
                        .keys()
                        .filter(|term| term.starts_with(head))
                        .take(MOST_PER_PREFIX)
                        .cloned(),
                );
            }
            for (found, memories) in &vocabulary {
                if near.contains(found) && rate_likeness(&terms[guess.term], found).is_some() {
                    expected.push((guess.term, found.clone(), memories.len() as u64));
                }
            }
        }
        let lexicon = store.lexicon(&both, &terms, &candidates).await.unwrap();
        let near = lexicon
            .matches
            .into_iter()
            .filter(|near| rate_likeness(&terms[near.term], &near.found).is_some());
        let mut near: Vec<(usize, String, u64)> = near
            .map(|near| (near.term, near.found, near.frequency))
            .collect();
        near.sort();
        near.dedup();
        assert_eq!(near, expected, "{terms:?}");
        met += near.len();
    }
    assert!(met > 50, "{met}");
}

pub(crate) async fn nothing_out_of_sight_stands_in(store: Arc<dyn Store>) {
    let (scope, other) = (scope(), scope());
    let secret = store_one(&*store, &other, note("xylophone")).await;
    let near = async |scope: &Scope| meant(&*store, scope, "xylofone xylopho").await;
    assert_eq!(near(&scope).await, [""; 0]);
    let both = Scope::new(scope.project(), "reader").reading([other.project().to_owned()]);
    assert_eq!(near(&both).await, ["xylophon"]);
    // Neither deleted memories, nor former texts, nor purged ones.
    let own = store_one(&*store, &scope, note("xylophone")).await;
    assert_eq!(near(&scope).await, ["xylophon"]);
    forget(&*store, &scope, own, ForgetMode::Delete).await;
    assert_eq!(near(&scope).await, [""; 0]);
    forget(&*store, &scope, own, ForgetMode::Restore).await;
    assert_eq!(near(&scope).await, ["xylophon"]);
    forget(&*store, &scope, own, ForgetMode::Purge).await;
    assert_eq!(near(&scope).await, [""; 0]);
    forget(&*store, &other, secret, ForgetMode::Purge).await;
    assert_eq!(near(&both).await, [""; 0]);
}

pub(crate) async fn filters_hold_for_what_stands_in(store: Arc<dyn Store>) {
    let scope = scope();
    let tagged = NewMemory {
        tags: vec!["keep".to_owned()],
        ..note("the marimba is here")
    };
    let (one, two) = (
        store_one(&*store, &scope, tagged).await,
        store_one(&*store, &scope, note("a marimba")).await,
    );
    assert_eq!(found(&*store, &scope, "marmiba").await.len(), 2);
    let filter = Filter {
        tags: vec!["keep".to_owned()],
        ..Filter::at(at(10))
    };
    assert_eq!(spelled(&*store, &scope, "marmiba", filter).await.1, [one]);
    let successor = NewMemory {
        supersedes: vec![two],
        ..note("another instrument")
    };
    store_one(&*store, &scope, successor).await;
    assert_eq!(found(&*store, &scope, "marmiba").await, [one]);
}
