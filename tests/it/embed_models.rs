//! Other sentence models of the BERT family: small ones with random weights, each with the vectors of
//! sentence-transformers for the same texts (see `tests/data/models/make.py`). Unknown models are refused with a
//! reason.

use std::path::{Path, PathBuf};

use cognitive_memory_mcp::embed::fetch::{Plan, Precision, State};
use cognitive_memory_mcp::embed::local::{Arithmetic, LocalEmbedder, LocalOptions};
use cognitive_memory_mcp::embed::{EmbedError, Embedder, Prefixes};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    kind: String,
    text: String,
    vector: Vec<f32>,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models")
}

fn load(folder: &Path, options: &LocalOptions) -> std::io::Result<LocalEmbedder> {
    LocalEmbedder::load(folder, "small", options)
}

/// Options for the arithmetic of the reference.
fn exact() -> LocalOptions {
    LocalOptions {
        arithmetic: Arithmetic::Float,
        ..LocalOptions::default()
    }
}

async fn farthest(folder: &Path) -> f32 {
    let embedder = load(folder, &exact()).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let cases: Vec<Case> =
        serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let texts: Vec<String> = cases
        .iter()
        .filter(|c| c.kind == "passage")
        .map(|c| c.text.clone())
        .collect();
    let mut passages = embedder.passages(texts).await.unwrap().into_iter();
    let mut farthest = 0.0_f32;
    for case in cases {
        // The reference truncates a long text, while we add further chunks.
        let vector = match case.kind.as_str() {
            "passage" => passages.next().unwrap().swap_remove(0),
            _ => embedder.query(case.text.clone()).await.unwrap(),
        };
        assert_eq!(vector.len(), case.vector.len(), "{folder:?}");
        assert_eq!(vector.len(), embedder.model().dimension, "{folder:?}");
        let off = vector
            .iter()
            .zip(&case.vector)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            off < 1e-4,
            "{folder:?}: {off} off for {} {:?}",
            case.kind,
            case.text
        );
        farthest = farthest.max(off);
    }
    farthest
}

#[tokio::test]
async fn vectors_of_the_family_are_those_of_the_reference() {
    let mut count = 0;
    for entry in std::fs::read_dir(models()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            farthest(&folder).await;
            count += 1;
        }
    }
    assert_eq!(count, 12);
}

/// A model that is not pinned is recorded while it is compacted, with the modules after its pooling.
#[tokio::test]
async fn an_unknown_model_is_made_compact() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |source: &Path| Plan {
        model: "owner/small".to_owned(),
        dir: dir.path().to_owned(),
        source: Some(source.to_owned()),
        hub: None,
    };
    let (folder, compact) = (
        models().join("distilbert-weighted-dense"),
        dir.path().join("compact"),
    );
    plan(&folder).compact(&compact, Precision::Bits16).unwrap();
    let states = plan(&compact).verify().unwrap();
    assert!(
        states.iter().all(|(_, state)| *state == State::Sound),
        "{states:?}"
    );
    assert_eq!(states.len(), plan(&folder).verify().unwrap().len());
    let vector = |folder: &Path| load(folder, &exact()).unwrap();
    let (whole, smaller) = (vector(&folder), vector(&compact));
    let text = "the river runs over old stones";
    let (whole, smaller) = (
        whole.query(text.to_owned()).await.unwrap(),
        smaller.query(text.to_owned()).await.unwrap(),
    );
    let off = whole
        .iter()
        .zip(&smaller)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(off > 0.0 && off < 1e-3, "{off}");
}

/// Every architecture names its matrices differently.
#[tokio::test]
async fn models_with_8_bits_have_similar_vectors() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "xlm-roberta-prompts",
        "distilbert-mean-two-dense",
        "mpnet-last",
        "bert-mean-f16-cased",
    ] {
        let (folder, compact) = (models().join(name), dir.path().join(name));
        let plan = Plan {
            model: format!("owner/{name}"),
            dir: dir.path().to_owned(),
            source: Some(folder.clone()),
            hub: None,
        };
        plan.compact(&compact, Precision::Bits8).unwrap();
        let [whole, smaller] =
            [&folder, &compact].map(|folder| load(folder, &LocalOptions::default()).unwrap());
        let text = "the river runs over old stones";
        let whole = whole.query(text.to_owned()).await.unwrap();
        let smaller = smaller.query(text.to_owned()).await.unwrap();
        let cosine: f32 = whole.iter().zip(&smaller).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99 && whole != smaller, "{name}: {cosine}");
    }
}

/// The distribution of shares to threads is random, but the vector must not be.
#[tokio::test]
async fn a_text_has_one_vector_however_threads_share_it() {
    let options = |threads: usize| LocalOptions {
        query_threads: 3,
        index_threads: threads,
        ..LocalOptions::default()
    };
    let folder = models().join("mpnet-last");
    let embedder = load(&folder, &options(3)).unwrap();
    let texts: Vec<String> = (1..=24)
        .map(|words| "the river runs over old stones ".repeat(words))
        .collect();
    let mut alone = Vec::new();
    for text in &texts {
        alone.push(embedder.query(text.clone()).await.unwrap());
    }
    let at_once =
        || futures_util::future::join_all(texts.iter().map(|text| embedder.query(text.clone())));
    for _ in 0..20 {
        let vectors: Vec<_> = at_once().await.into_iter().map(Result::unwrap).collect();
        assert_eq!(vectors, alone);
    }
    let by_one = load(&folder, &options(1))
        .unwrap()
        .passages(texts.clone())
        .await
        .unwrap();
    assert_eq!(embedder.passages(texts.clone()).await.unwrap(), by_one);
}

/// Returns a copy of a small model with a changed file.
fn changed(model: &str, file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(models().join(model).join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(copy.path().join(&name)).unwrap();
                folders.push(name);
            } else {
                std::fs::copy(entry.path(), copy.path().join(name)).unwrap();
            }
        }
    }
    let path = copy.path().join(file);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
    copy
}

/// Settings that the program does not support: model, file, key, value, words of the error.
const UNKNOWN_SETTINGS: &str = r#"
bert-max-bf16 config.json model_type "albert" => albert
bert-max-bf16 config.json model_type "modernbert" => modernbert
bert-max-bf16 config.json is_decoder true => decoder
bert-max-bf16 config.json position_embedding_type "relative_key" => relative_key
bert-max-bf16 config.json hidden_act "silu" => silu
bert-max-bf16 config.json num_attention_heads 7 => sizes
bert-max-bf16 config.json intermediate_size 25 => intermediate.dense
bert-max-bf16 1_Pooling/config.json pooling_mode "attention" => attention
bert-max-bf16 1_Pooling/config.json pooling_mode ["cls","mean"] => one way of pooling
bert-cls-prefixed 1_Pooling/config.json pooling_mode_max_tokens true => one way of pooling
xlm-roberta-prompts 1_Pooling/config.json include_prompt false => prompt
mpnet-last config.json relative_attention_num_buckets 16 => relative_attention
distilbert-mean-two-dense 3_Dense/config.json activation_function "torch.nn.modules.activation.Mish" => Mish
distilbert-mean-two-dense 3_Dense/config.json activation_function "somebody.else.Tanh" => somebody.else.Tanh
distilbert-mean-two-dense 3_Dense/config.json module_input_name "token_embeddings" => token_embeddings
distilbert-mean-two-dense 3_Dense/config.json use_residual true => use_residual
distilbert-mean-two-dense 3_Dense/config.json in_features 16 => vectors of 20
distilbert-mean-two-dense 3_Dense/config.json out_features 11 => 3_Dense/model.safetensors: tensor linear.weight
distilbert-mean-two-dense 3_Dense/config.json bias true => 3_Dense/model.safetensors: there is no tensor linear.bias
"#;

#[test]
fn unknown_settings_are_refused_by_name() {
    let rows: Vec<&str> = UNKNOWN_SETTINGS.trim().lines().collect();
    assert_eq!(rows.len(), 19);
    for row in rows {
        let (setting, words) = row.split_once(" => ").unwrap();
        let [model, file, key, value] = setting.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let value: Value = serde_json::from_str(value).unwrap();
        refuse(
            &changed(model, file, |settings| settings[key] = value),
            words,
        );
    }
}

#[test]
fn unknown_modules_are_refused_by_name() {
    let add_module = |kind: &'static str| {
        move |file: &mut Value| {
            let module =
                json!({ "path": "3_More", "type": format!("sentence_transformers.models.{kind}") });
            file.as_array_mut().unwrap().push(module);
        }
    };
    let missing = changed("roberta-mean", "modules.json", add_module("Dense"));
    refuse(&missing, "3_More/config.json: it is missing");
    let unsupported = changed("roberta-mean", "modules.json", add_module("SpladePooling"));
    refuse(&unsupported, "SpladePooling");
    let reordered = changed("distilbert-mean-two-dense", "modules.json", |file| {
        file.as_array_mut().unwrap().swap(1, 2)
    });
    refuse(&reordered, "Dense");
    let truncated = changed("roberta-mean", "modules.json", |file| {
        file.as_array_mut().unwrap().truncate(1)
    });
    refuse(&truncated, "Pooling");
}

fn refuse(copy: &tempfile::TempDir, words: &str) {
    let refused = load(copy.path(), &LocalOptions::default());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains(words), "{words} expected: {error}");
}

/// A foreign `modules.json` could otherwise read and write files outside the model.
#[test]
fn modules_outside_of_the_model_are_refused() {
    for path in [
        "",
        "/",
        "/1_Pooling",
        "../1_Pooling",
        "1_Pooling/../..",
        "1_Pooling/",
        ".",
    ] {
        let copy = changed("roberta-mean", "modules.json", |file| {
            file[1]["path"] = json!(path)
        });
        let error = load(copy.path(), &LocalOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("{path:?} is not a path inside the model")),
            "{error}"
        );
        let known = given(copy.path()).verify().unwrap();
        assert!(
            known
                .iter()
                .all(|(name, _)| !name.starts_with('/') && !name.contains("..")),
            "{path:?}: {known:?}"
        );
    }
}

/// PyTorch's own file is a program; the error states the alternative.
#[test]
fn weights_that_are_missing_are_named() {
    let copy = changed("bert-cls-dense", "modules.json", |_| {});
    let weights = copy.path().join("2_Dense/model.safetensors");
    let error = || {
        load(copy.path(), &LocalOptions::default())
            .unwrap_err()
            .to_string()
    };
    std::fs::rename(&weights, weights.with_file_name("pytorch_model.bin")).unwrap();
    let (binary, files) = (error(), given(copy.path()));
    assert!(
        binary.contains("2_Dense/model.safetensors")
            && binary.contains("pytorch_model.bin is not read"),
        "{binary}"
    );
    assert!(binary.contains("save it again"), "{binary}");
    let missing = files
        .verify()
        .unwrap()
        .into_iter()
        .filter(|(_, state)| *state == State::Missing);
    assert_eq!(
        missing.map(|(name, _)| name).collect::<Vec<_>>(),
        ["2_Dense/model.safetensors"]
    );
    std::fs::remove_file(weights.with_file_name("pytorch_model.bin")).unwrap();
    assert_eq!(error(), "2_Dense/model.safetensors: it is missing");
}

fn given(folder: &Path) -> Plan {
    Plan {
        model: "some/model".to_owned(),
        dir: PathBuf::new(),
        source: Some(folder.to_owned()),
        hub: None,
    }
}

/// Models of E5 have no prompts in their files; their documentation requires them.
#[tokio::test]
async fn prefixes_can_be_configured() {
    let prompts = json!({ "prompts": {} });
    let bare = changed(
        "xlm-roberta-prompts",
        "config_sentence_transformers.json",
        |file| *file = prompts,
    );
    let folder = models().join("xlm-roberta-prompts");
    let by_files = load(&folder, &LocalOptions::default()).unwrap();
    let stated = |query: &str| LocalOptions {
        prefixes: Prefixes {
            query: Some(query.to_owned()),
            passage: Some("passage:".to_owned()),
        },
        ..LocalOptions::default()
    };
    let by_settings = load(bare.path(), &stated("query:")).unwrap();
    let without = load(bare.path(), &LocalOptions::default()).unwrap();
    assert_eq!(
        by_settings.model().id,
        "small behind \"passage:\"",
        "its vectors are not those without"
    );
    let question = || "the old bridge".to_owned();
    let expected = by_files.query(question()).await.unwrap();
    assert_eq!(by_settings.query(question()).await.unwrap(), expected);
    assert_ne!(without.query(question()).await.unwrap(), expected);
    assert_ne!(
        by_settings.passages(vec![question()]).await.unwrap()[0][0],
        expected
    );
    // Each chunk of a long text has the prefix, and an empty prefix disables that of the files.
    let long = || vec!["the river runs over old stones ".repeat(40)];
    let chunks = by_settings.passages(long()).await.unwrap().swap_remove(0);
    assert!(chunks.len() > 3);
    let by_none = load(&folder, &stated("")).unwrap();
    assert_eq!(
        by_none.query(question()).await.unwrap(),
        without.query(question()).await.unwrap()
    );
}

#[tokio::test]
async fn truncating_the_file_of_a_loaded_model_makes_it_unavailable_and_ends_nothing() {
    let copy = tempfile::tempdir().unwrap();
    let original = models().join("bert-cls-prefixed");
    for entry in std::fs::read_dir(&original).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let pooling = copy.path().join("1_Pooling");
    std::fs::create_dir(&pooling).unwrap();
    std::fs::copy(
        original.join("1_Pooling/config.json"),
        pooling.join("config.json"),
    )
    .unwrap();
    let embedder = load(copy.path(), &LocalOptions::default()).unwrap();
    embedder.query("before".to_owned()).await.unwrap();
    let weights = std::fs::OpenOptions::new()
        .write(true)
        .open(copy.path().join("model.safetensors"))
        .unwrap();
    weights.set_len(100).unwrap();
    for result in [
        embedder
            .query("some other words".to_owned())
            .await
            .map(drop),
        embedder
            .passages(vec!["some other words".to_owned()])
            .await
            .map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(
            matches!(error, EmbedError::Unavailable { .. }),
            "the text was blamed: {error}"
        );
        assert!(error.to_string().contains("model verify"), "{error}");
    }
}
