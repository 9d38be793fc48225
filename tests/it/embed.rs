//! Compares the in-process model with the reference implementation, whose vectors are stored next to this file.
//!
//! sentence-transformers computed them with all-MiniLM-L6-v2 (256 tokens, one text at a time). The model is located in
//! the folder `MEMORY_TEST_MODEL`, otherwise in `models/all-MiniLM-L6-v2` of the cache of `tests/run`, which downloads
//! it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cognitive_memory_mcp::embed::fetch::{Plan, Precision, State};
use cognitive_memory_mcp::embed::local::{Arithmetic, LocalEmbedder, LocalOptions};
use cognitive_memory_mcp::embed::{Desk, Embedder};
use serde::Deserialize;

use crate::requirement::needs;

/// Maximum difference of a component of a vector.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    text: String,
    vector: Vec<f32>,
}

/// Returns the folder of the model, or `None` if it was not downloaded.
pub(crate) fn model_folder() -> Option<PathBuf> {
    let named = std::env::var_os("MEMORY_TEST_MODEL").map(PathBuf::from);
    let cache = std::env::var_os("MEMORY_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
            Some(cache.join("cognitive-memory-mcp"))
        });
    let folder = named.or_else(|| Some(cache?.join("models/all-MiniLM-L6-v2")))?;
    folder.join("model.safetensors").is_file().then_some(folder)
}

pub(crate) fn load(folder: &Path) -> Arc<LocalEmbedder> {
    load_with(folder, LocalOptions::default().arithmetic)
}

fn load_with(folder: &Path, arithmetic: Arithmetic) -> Arc<LocalEmbedder> {
    let options = LocalOptions {
        arithmetic,
        ..LocalOptions::default()
    };
    Arc::new(LocalEmbedder::load(folder, "all-MiniLM-L6-v2", &options).unwrap())
}

fn reference() -> Vec<Reference> {
    serde_json::from_str(include_str!("embed_reference.json")).unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[tokio::test]
async fn vectors_are_those_of_the_reference() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let embedder = load_with(&folder, Arithmetic::Float);
    assert_eq!(embedder.model().dimension, 384);
    let reference = reference();
    let texts: Vec<String> = reference.iter().map(|known| known.text.clone()).collect();
    // In one batch, without padding and without influence on each other.
    let batch = embedder.passages(texts).await.unwrap();
    for (known, chunks) in reference.iter().zip(&batch) {
        let alone = embedder.query(known.text.clone()).await.unwrap();
        for vector in [&alone, &chunks[0]] {
            let off = difference(vector, &known.vector);
            assert!(off < TOLERANCE, "{off} off for {:?}", known.text);
        }
    }
    let counts: Vec<usize> = batch.iter().map(Vec::len).collect();
    assert_eq!(
        counts,
        [1, 1, 1, 1, 1, 1, 3],
        "480 tokens are two windows of 254 and what is left, overlapping"
    );
}

/// Returns a plan that reads the default model from a folder.
fn plan_from(source: PathBuf, scratch: &Path) -> Plan {
    Plan {
        model: "all-MiniLM-L6-v2".to_owned(),
        dir: scratch.join("unused"),
        source: Some(source),
        hub: None,
    }
}

/// Word embeddings of 16 bits are precise enough, and `verify` recognizes them.
#[tokio::test]
async fn a_compact_model_has_the_same_vectors() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let dir = tempfile::tempdir().unwrap();
    let compact = dir.path().join("compact");
    let source = |source: PathBuf| plan_from(source, dir.path());
    source(folder.clone())
        .compact(&compact, Precision::Bits16)
        .unwrap();
    let sizes = [&folder, &compact]
        .map(|folder| folder.join("model.safetensors").metadata().unwrap().len());
    assert_eq!(sizes[0] - sizes[1], 30_522 * 384 * 2);
    let states = source(compact.clone()).verify().unwrap();
    assert!(
        states.len() == 6 && states.iter().all(|(_, state)| *state == State::Sound),
        "{states:?}"
    );
    let embedder = load_with(&compact, Arithmetic::Float);
    for known in reference() {
        let off = difference(
            &embedder.query(known.text.clone()).await.unwrap(),
            &known.vector,
        );
        assert!(off < TOLERANCE, "{off} off for {:?}", known.text);
    }

    let refused = |from: &Path, to: &str, reason: &str| {
        let to = dir.path().join(to);
        let before = to.exists();
        let error = source(from.to_owned())
            .compact(&to, Precision::Bits16)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(to.exists(), before);
    };
    refused(&folder, "compact", "already exists");
    let twice = dir.path().join("twice");
    source(compact.clone())
        .compact(&twice, Precision::Bits16)
        .unwrap();
    assert!(
        source(twice)
            .verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == State::Sound)
    );
    std::fs::write(compact.join("tokenizer.json"), "{}").unwrap();
    refused(&compact, "damaged", "tokenizer.json is missing or damaged");
}

#[tokio::test]
async fn integer_arithmetic_has_similar_vectors() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let embedder = load_with(&folder, Arithmetic::Integer);
    for known in reference() {
        let vector = embedder.query(known.text.clone()).await.unwrap();
        let cosine: f32 = vector.iter().zip(&known.vector).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99, "{cosine} for {:?}", known.text);
    }
}

/// The image for several languages needs 8 bits. `verify` knows the hash.
#[tokio::test]
async fn a_model_with_8_bits_has_similar_vectors() {
    needs!(Model);
    let dir = tempfile::tempdir().unwrap();
    let compact = dir.path().join("compact");
    let source = |source: PathBuf| plan_from(source, dir.path());
    let folder = model_folder().expect("the model is there");
    source(folder).compact(&compact, Precision::Bits8).unwrap();
    let states = source(compact.clone()).verify().unwrap();
    assert!(
        states.iter().all(|(_, state)| *state == State::Sound),
        "{states:?}"
    );
    let size = compact.join("model.safetensors").metadata().unwrap().len();
    assert!(size < 25_000_000, "{size}");
    let embedder = load_with(&compact, Arithmetic::Float);
    for known in reference() {
        let vector = embedder.query(known.text.clone()).await.unwrap();
        let cosine: f32 = vector.iter().zip(&known.vector).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999, "{cosine} for {:?}", known.text);
    }
}

#[tokio::test]
async fn any_text_has_a_vector() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let embedder = load(&folder);
    let texts = [
        "",
        " ",
        "\u{200b}",
        "\u{301}\u{301}",
        "𓀀𓀁",
        "x".repeat(9_000).as_str(),
        "字".repeat(800).as_str(),
    ]
    .map(str::to_owned);
    let vectors = embedder.passages(texts.to_vec()).await.unwrap();
    for (text, chunks) in texts.iter().zip(vectors) {
        assert!(
            !chunks.is_empty() && chunks.len() <= 64,
            "{:?}",
            text.chars().next()
        );
        for vector in chunks {
            let length: f32 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-4);
        }
    }
}

#[tokio::test]
async fn questions_do_not_wait_behind_texts() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let embedder = load(&folder);
    let desk = Desk::expecting("all-MiniLM-L6-v2");
    assert!(
        desk.query("early")
            .await
            .unwrap_err()
            .contains("being loaded")
    );
    desk.open(Arc::clone(&embedder) as Arc<dyn Embedder>);
    let many: Vec<String> = (0..64)
        .map(|n| format!("{n} {}", "a rather long text ".repeat(40)))
        .collect();
    let indexing = embedder.passages(many);
    tokio::pin!(indexing);
    tokio::select! {
        biased;
        _ = &mut indexing => panic!("64 long texts cannot be done before one question"),
        vector = tokio::time::timeout(Duration::from_secs(30), desk.query("what is it")) => {
            assert_eq!(vector.unwrap().unwrap().unwrap().model.id, "all-MiniLM-L6-v2");
        }
    }
}

#[tokio::test]
async fn a_damaged_folder_names_the_file() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let copy = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "modules.json"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    let error = |text: &str| {
        let error = LocalEmbedder::load(copy.path(), "x", &LocalOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{error}");
    };
    error("model.safetensors");
    let all = std::fs::read(folder.join("model.safetensors")).unwrap();
    std::fs::write(copy.path().join("model.safetensors"), &all[..all.len() / 2]).unwrap();
    error("beyond the end of the file");
}
