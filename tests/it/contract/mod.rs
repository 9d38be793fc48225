//! The contract of [`Store`]: the requirements for every backend, as tests that any backend can run.
//!
//! A backend calls [`contract_tests!`] with a name and an async function that returns a [`Fixture`], or `None` to skip.
//! The fixture's database may be shared with other tests, because each test uses its own projects. To add a rule, write
//! a test in one of the modules and add its name to the list in the macro.

#![expect(
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cognitive_memory_mcp::domain::bm25::{CorpusStats, TermScore, WeightedTerm, select_terms};
use cognitive_memory_mcp::domain::conversation::{HitContext, Turn};
use cognitive_memory_mcp::domain::memory::{content_hash, indexed_text};
use cognitive_memory_mcp::domain::spelling::Substitute;
use cognitive_memory_mcp::domain::{
    AnalyzedMemory, Analyzer, Clock, Episode, Filter, History, Hit, Kind, Language, Memory,
    NewMemory, Scope, SystemClock, UsageStats,
};
use cognitive_memory_mcp::store::{
    ForgetMode, HistoryEntry, HistoryQuery, LexicalQuery, Remember, Remembered, Store, StoreError,
};
use uuid::Uuid;

pub(crate) mod answer;
pub(crate) mod change;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod crowd;
pub(crate) mod entity;
pub(crate) mod filter;
pub(crate) mod focus;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod mention;
pub(crate) mod model;
pub(crate) mod past;
pub(crate) mod reference;
pub(crate) mod repeat;
pub(crate) mod review;
pub(crate) mod search;
pub(crate) mod spelling;
pub(crate) mod vector;
pub(crate) mod versions;
pub(crate) mod write;

/// A prepared store, and the values that must live as long.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// Turns all tests of the contract into tests of a module.
macro_rules! contract_tests {
    ($backend:ident, $fresh:path) => {
        mod $backend {
            $crate::contract::contract_cases!($fresh;
                answer::near_duplicates_are_folded,
                versions::the_current_version_of_a_fact_comes_first,
                answer::folding_neither_loses_nor_repeats_hits,
                answer::superseded_memories_come_behind_their_successors,
                answer::known_then_and_true_then_are_two_questions,
                answer::an_empty_answer_says_why,
                answer::a_status_lists_what_there_is,
                answer::a_session_starts_with_what_matters_most,
                answer::a_repetition_says_truly_what_it_added_to_a_protected_memory,
                answer::a_budget_limits_what_is_printed,
                answer::an_index_shows_the_beginning_of_much,
                answer::a_corrected_text_is_linked_with_whom_it_names,
                context::turns_come_by_their_positions,
                context::turns_and_mentions_come_together,
                change::a_patch_is_a_version_with_its_past,
                change::a_patch_that_changes_nothing_adds_nothing,
                change::a_vote_is_no_version,
                change::a_version_that_moved_on_is_a_conflict,
                change::only_episodes_have_episode_fields,
                change::unknown_and_deleted_memories_cannot_be_updated,
                change::changed_text_is_found_by_the_new_words_only,
                change::forgetting_hides_and_restoring_brings_back,
                change::purging_removes_everything,
                change::forgetting_is_all_or_nothing,
                change::a_turn_stored_anew_bars_the_old_one,
                change::recall_is_noted,
                change::counts_tell_what_is_there,
                completion::ids_come_by_prefix,
                completion::tags_come_by_prefix_and_use,
                crowd::many_tasks_lose_nothing,
                crowd::equal_memories_from_many_tasks_become_one,
                crowd::callers_who_go_away_harm_nobody,
                crowd::bad_commands_harm_nobody_beside_them,
                filter::every_filter_admits_what_the_rule_admits,
                filter::tags_are_compared_without_case,
                filter::browsing_pages_through_everything_once,
                filter::projects_do_not_see_each_other,
                focus::the_least_recently_touched_makes_room,
                focus::when_all_are_important_the_oldest_goes,
                focus::what_left_can_come_back,
                focus::an_item_that_became_a_memory_goes_with_it,
                focus::a_purge_finds_its_text_wherever_it_went,
                focus::sessions_and_projects_do_not_see_each_other,
                focus::the_archive_is_read_page_by_page,
                focus::many_sessions_at_once_keep_their_order,
                graph::imports_at_once_store_nothing_twice,
                graph::links_are_merged_never_replaced,
                entity::spellings_of_a_name_are_one_entity,
                graph::a_relation_ends_without_being_erased,
                entity::an_erased_entity_takes_all_of_its_own_along,
                graph::a_refused_link_leaves_nothing,
                entity::entities_are_found_by_words_and_by_age,
                entity::entities_are_listed_by_type_and_prefix,
                graph::the_strongest_relations_come_first,
                graph::relations_between_entities_are_found,
                graph::graphs_of_projects_are_apart,
                mention::a_memory_keeps_whom_it_mentions,
                mention::a_query_finds_whom_it_names,
                mention::mentions_together_are_counted,
                mention::a_protected_memory_mentions_what_it_did,
                graph::what_has_not_begun_cannot_end,
                graph::a_large_batch_is_linked_at_once,
                history::pages_lead_from_the_newest_entry_to_the_creation,
                history::a_page_has_a_size,
                history::a_long_history_is_exported_in_parts,
                history::history_stays_in_its_project,
                history::an_undo_works_as_long_as_its_history_is_kept,
                history::expired_changes_are_removed_in_batches,
                history::a_look_back_knows_what_has_expired,
                history::expired_keys_are_forgotten,
                history::the_newest_keys_of_a_project_are_kept,
                model::random_commands_agree_with_the_model,
                past::a_look_back_sees_texts_as_they_were,
                past::a_look_back_reads_so_many_bytes,
                past::a_look_back_stays_in_its_projects,
                past::chains_are_reported_in_both_directions,
                past::the_nearest_of_many_links_are_reported,
                reference::parts_of_ids_are_found_in_their_scope,
                reference::items_and_reviews_are_found_by_parts_of_their_ids,
                reference::tools_accept_short_ids,
                reference::ambiguous_ids_list_their_candidates,
                repeat::new_values_are_merged,
                repeat::what_is_not_merged_is_reported,
                repeat::a_protected_memory_stays_as_it_is,
                repeat::equal_items_of_a_batch_are_united,
                repeat::a_turn_is_merged_and_a_replay_is_not,
                repeat::sources_can_be_added_and_taken_back,
                review::a_judgement_takes_effect_unless_the_memory_is_protected,
                review::only_votes_pass_the_protection,
                review::what_is_approved_is_done_and_can_be_undone,
                review::a_replacement_can_be_approved_and_undone,
                review::an_approved_purge_leaves_nothing,
                review::an_undo_outlives_the_successor,
                review::an_undo_takes_back_its_own_change_only,
                review::decisions_are_taken_once_and_in_time,
                review::an_undo_does_not_overwrite_what_came_after,
                review::the_same_proposal_is_stored_once,
                review::reviews_stay_in_their_project,
                search::scores_are_those_of_plain_bm25,
                search::the_exact_text_comes_first,
                search::awkward_texts_are_found,
                search::whatever_is_stored_is_found_by_its_own_text,
                search::a_scope_of_several_projects_is_one_corpus,
                search::nothing_asked_nothing_found,
                spelling::misspelled_and_unfinished_words_are_found,
                spelling::guessing_has_bounds,
                spelling::what_is_near_is_what_the_rule_says,
                spelling::nothing_out_of_sight_stands_in,
                spelling::filters_hold_for_what_stands_in,
                vector::who_waits_gets_vectors,
                vector::stale_vectors_are_not_kept,
                vector::forgotten_memories_have_no_nearness,
                vector::filters_hold_for_vectors,
                vector::long_texts_are_found_by_each_part,
                vector::vectors_of_whole_long_texts_are_replaced,
                vector::another_model_recomputes_all_vectors,
                vector::a_search_during_a_save_misses_no_memory,
                vector::a_memory_without_a_waiting_job_is_found,
                vector::what_is_put_off_comes_later,
                write::every_field_comes_back,
                write::an_equal_memory_is_not_stored_again,
                write::outdated_memories_do_not_count_as_equal,
                write::dialogue_repeats_itself_but_not_its_turns,
                write::an_idempotent_request_is_carried_out_once,
                write::what_is_superseded_is_kept_and_marked,
                write::an_existing_memory_takes_the_place_of_its_repetition,
                write::unknown_ids_are_all_named_and_nothing_is_stored,
                write::a_batch_is_all_or_nothing,
                write::nul_characters_are_refused,
                write::a_large_batch_is_stored,
                write::information_names_the_backend,
            );
        }
    };
}

macro_rules! contract_cases {
    ($fresh:path; $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(fixture) = $fresh().await else {
                    return;
                };
                $crate::contract::$module::$case(fixture.store.clone()).await;
                fixture.store.close().await;
            }
        )+
    };
}

pub(crate) use {contract_cases, contract_tests};

/// Returns the analyzer of the fixtures.
pub(crate) fn analyzer() -> Arc<Analyzer> {
    Arc::new(Analyzer::new(Language::English))
}

/// Returns a time, `seconds` after a fixed one.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap() + TimeDelta::seconds(seconds)
}

/// Returns a project that no other test uses.
pub(crate) fn scope() -> Scope {
    Scope::new(format!("project-{}", SystemClock.new_id()), "tester")
}

pub(crate) fn new_id() -> Uuid {
    SystemClock.new_id()
}

pub(crate) fn note(content: &str) -> NewMemory {
    NewMemory {
        id: new_id(),
        content: content.to_owned(),
        importance: 0.5,
        occurred_at: at(-60),
        ..NewMemory::default()
    }
}

pub(crate) fn turn(session: &str, turn: i64, content: &str) -> NewMemory {
    NewMemory {
        kind: Kind::Dialogue,
        session: Some(session.to_owned()),
        turn: Some(turn),
        ..note(content)
    }
}

pub(crate) fn episode(content: &str, situation: &str, lesson: &str) -> NewMemory {
    let episode = Episode {
        situation: situation.to_owned(),
        outcome: -0.25,
        lesson: lesson.to_owned(),
    };
    NewMemory {
        kind: Kind::Episode,
        episode: Some(episode),
        ..note(content)
    }
}

/// Returns the memories as the engine passes them to a store.
pub(crate) fn analyzed(items: impl IntoIterator<Item = NewMemory>) -> Vec<AnalyzedMemory> {
    let analyzer = analyzer();
    let items = items.into_iter();
    items
        .map(|item| AnalyzedMemory::new(item, &analyzer))
        .collect()
}

pub(crate) async fn remember(
    store: &dyn Store,
    scope: &Scope,
    items: Vec<NewMemory>,
) -> Result<Vec<Remembered>, StoreError> {
    store
        .remember(
            scope,
            Remember {
                items: analyzed(items),
                idempotency: None,
                now: at(0),
            },
        )
        .await
}

/// Stores one memory that is expected to be new.
pub(crate) async fn store_one(store: &dyn Store, scope: &Scope, item: NewMemory) -> Uuid {
    let answer = remember(store, scope, vec![item]).await.unwrap();
    assert_eq!(answer.len(), 1);
    assert!(answer[0].created, "was there already");
    answer[0].id
}

pub(crate) async fn forget(store: &dyn Store, scope: &Scope, id: Uuid, mode: ForgetMode) -> u64 {
    store
        .forget(scope, &[id], mode, Some("no longer needed"), at(5))
        .await
        .unwrap()
}

/// Loads one memory in any state.
pub(crate) async fn load(store: &dyn Store, scope: &Scope, id: Uuid) -> Memory {
    store
        .get(scope, &[id], true)
        .await
        .unwrap()
        .pop()
        .expect("the memory is there")
}

/// Returns the whole history of a memory, oldest entry first, read in small pages.
pub(crate) async fn history(store: &dyn Store, scope: &Scope, id: Uuid) -> Vec<History> {
    let mut all: Vec<HistoryEntry> = Vec::new();
    loop {
        let from = all.last().map(|entry| entry.place);
        let query = HistoryQuery {
            memory: id,
            from,
            entries: 3,
            bytes: 1_000,
        };
        let page = store.history_page(scope, &query).await.unwrap();
        assert!(
            page.len() <= 3 && page.iter().all(|entry| entry.history.memory_id == id),
            "{page:?}"
        );
        let known = usize::from(
            from.is_some() && page.first().is_some_and(|entry| Some(entry.place) == from),
        );
        let ended = page.len() <= known;
        all.extend(page.into_iter().skip(known));
        if ended {
            break;
        }
    }
    all.reverse();
    all.into_iter().map(|entry| entry.history).collect()
}

/// Searches like the engine, without a limit.
pub(crate) async fn search(
    store: &dyn Store,
    scope: &Scope,
    text: &str,
    filter: Filter,
) -> Vec<Hit> {
    let terms: Vec<String> = analyzer().terms(text).counts.into_keys().collect();
    let stats = store.corpus_stats(scope, &terms).await.unwrap();
    store
        .search_lexical(scope, &unlimited(text, &terms, &stats, &[], filter))
        .await
        .unwrap()
}

/// Returns a query for all memories that contain one of the terms.
pub(crate) fn unlimited(
    text: &str,
    terms: &[String],
    stats: &CorpusStats,
    substitutes: &[Substitute],
    filter: Filter,
) -> LexicalQuery {
    LexicalQuery {
        terms: select_terms(terms, stats, substitutes, u64::MAX),
        average_length: stats.average_length(),
        exact: content_hash(text),
        filter,
        limit: 10_000,
    }
}

pub(crate) async fn found(store: &dyn Store, scope: &Scope, text: &str) -> Vec<Uuid> {
    search(store, scope, text, Filter::at(at(10)))
        .await
        .into_iter()
        .map(|hit| hit.id)
        .collect()
}

/// Computes BM25 in plain code over all live memories of a scope: the expected result of [`search`].
pub(crate) fn naive_search(live: &[&Memory], text: &str, filter: &Filter) -> Vec<Hit> {
    let analyzer = analyzer();
    let documents: Vec<_> = live
        .iter()
        .map(|memory| {
            let text = indexed_text(
                &memory.content,
                memory.speaker.as_deref(),
                &memory.tags,
                memory.episode.as_ref(),
            );
            (*memory, analyzer.terms(&text))
        })
        .collect();
    let terms: Vec<String> = analyzer.terms(text).counts.into_keys().collect();
    let count = |term: &String| {
        documents
            .iter()
            .filter(|(_, all)| all.counts.contains_key(term))
            .count() as u64
    };
    let stats = CorpusStats {
        documents: documents.len() as u64,
        total_length: documents.iter().map(|(_, all)| u64::from(all.length)).sum(),
        document_frequencies: terms.iter().map(count).collect(),
        ..CorpusStats::default()
    };
    let weights = select_terms(&terms, &stats, &[], u64::MAX);
    let mut hits = Vec::new();
    for (memory, all) in documents.iter().filter(|(memory, _)| filter.admits(memory)) {
        let context = HitContext::new(
            Turn::new(memory.project.clone(), memory.session.clone(), memory.turn),
            memory.speaker.clone(),
            all.length,
            memory.content.trim_end().ends_with('?'),
            memory.occurred_at,
        );
        let usage = UsageStats {
            importance: memory.importance,
            created_at: memory.created_at,
            last_recalled_at: memory.last_recalled_at,
            recall_count: memory.recall_count,
            helpful: memory.helpful,
            not_helpful: memory.not_helpful,
        };
        let mut hit = Hit {
            exact: content_hash(&memory.content) == content_hash(text),
            ..Hit::new(memory.id, memory.seq, usage, context)
        };
        let norm = 0.9 * (1.0 - 0.4 + 0.4 * f64::from(all.length) / stats.average_length());
        for (place, WeightedTerm { term, weight, .. }) in weights.iter().enumerate() {
            if let Some(frequency) = all.counts.get(term).copied().map(f64::from) {
                let score = weight * frequency * 1.9 / (frequency + norm);
                hit.bm25 += score;
                hit.terms.push(TermScore { term: place, score });
            }
        }
        if hit.exact || !hit.terms.is_empty() {
            hits.push(hit);
        }
    }
    hits.sort_by(|a, b| {
        (b.exact, b.bm25)
            .partial_cmp(&(a.exact, a.bm25))
            .expect("no NaN")
            .then_with(|| b.seq.cmp(&a.seq))
    });
    hits
}

/// Compares the hits, their scores and their order. Scores that differ only by rounding may be in either order.
pub(crate) fn assert_same_hits(found: &[Hit], expected: &[Hit]) {
    let comparable = |hit: &Hit| {
        let scores = hit.terms.iter();
        let scores = scores.map(|one| (one.term, format!("{:.6}", one.score)));
        let scores: Vec<(usize, String)> = scores.collect();
        (hit.seq, hit.exact, hit.context.clone(), scores)
    };
    let by_id: BTreeMap<Uuid, &Hit> = expected.iter().map(|hit| (hit.id, hit)).collect();
    assert_eq!(
        found.len(),
        expected.len(),
        "found {found:#?}, expected {expected:#?}"
    );
    for (place, (hit, wanted)) in found.iter().zip(expected).enumerate() {
        let same = by_id
            .get(&hit.id)
            .unwrap_or_else(|| panic!("{hit:?} should not be found"));
        assert!(
            (hit.bm25 - same.bm25).abs() < 1e-6,
            "score of {hit:?}, expected {same:?}"
        );
        assert_eq!(comparable(hit), comparable(same));
        assert_eq!(hit.usage, same.usage);
        assert_eq!(hit.exact, wanted.exact, "place {place}");
        assert!(
            (hit.bm25 - wanted.bm25).abs() < 1e-6,
            "place {place}: {hit:?}, expected {wanted:?}"
        );
    }
    for pair in found.windows(2) {
        let tie =
            pair[0].exact == pair[1].exact && pair[0].bm25.to_bits() == pair[1].bm25.to_bits();
        assert!(
            !tie || pair[0].seq > pair[1].seq,
            "ties go by newest: {pair:?}"
        );
    }
}
