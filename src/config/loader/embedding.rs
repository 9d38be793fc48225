//! The rules between the settings of embedding.

use std::path::Path;

use super::Loader;
use crate::config::parser::parse_http_url;
use crate::config::setting::{self as table, SettingInfo};
use crate::config::settings::{EmbedderKind, Embedding, Prefixes};

/// Hub that most published models are downloaded from.
const PUBLIC_HUB: &str = "https://huggingface.co";

/// Settings without a literal default, whose problems leave no value behind.
static OPTIONAL: [&SettingInfo; 8] = [
    &table::MODEL_DIR.info,
    &table::MODEL_SOURCE.info,
    &table::MODEL_HUB.info,
    &table::MODEL_CALIBRATION.info,
    &table::EMBEDDER_URL.info,
    &table::EMBEDDER_KEY.info,
    &table::QUERY_PREFIX.info,
    &table::PASSAGE_PREFIX.info,
];

impl Loader<'_> {
    pub(super) fn embedding(&mut self, data_dir: &Path) -> Option<Embedding> {
        let kind = self.value(&table::EMBEDDER);
        let model = self.value(&table::MODEL);
        let dir = self
            .path(&table::MODEL_DIR)
            .unwrap_or_else(|| data_dir.join("models"));
        if !self.is_set(&table::MODEL_DIR) {
            self.note_default(&table::MODEL_DIR, dir.display().to_string());
        }
        let source = self.path(&table::MODEL_SOURCE);
        let hub = self.value(&table::MODEL_HUB).or_else(|| {
            let text = self.sources.env_text("HF_ENDPOINT")?;
            parse_http_url(text).ok()
        });
        let hub = hub.unwrap_or_else(|| {
            self.note_default(&table::MODEL_HUB, PUBLIC_HUB.to_owned());
            PUBLIC_HUB.to_owned()
        });
        let calibration = self.value(&table::MODEL_CALIBRATION);
        let url = self.value(&table::EMBEDDER_URL);
        let key = self.value(&table::EMBEDDER_KEY);
        let prefixes = Prefixes {
            query: self.value(&table::QUERY_PREFIX),
            passage: self.value(&table::PASSAGE_PREFIX),
        };
        if OPTIONAL.iter().any(|setting| self.is_broken(setting)) {
            return None;
        }
        match (kind?, url) {
            (EmbedderKind::None, _) => Some(Embedding::None),
            (EmbedderKind::Http, Some(url)) => Some(Embedding::Http {
                model: model?,
                url,
                key,
                prefixes,
                calibration,
            }),
            (EmbedderKind::Http, None) => {
                self.report(
                    &table::EMBEDDER_URL,
                    "Set it, because MEMORY_EMBEDDER is http.",
                );
                None
            }
            // The user meant an endpoint, so the texts must not go to a model of this process.
            (EmbedderKind::Local, Some(_)) => {
                self.report(
                    &table::EMBEDDER_URL,
                    "Set MEMORY_EMBEDDER=http too, or remove it: it has no other effect.",
                );
                None
            }
            (EmbedderKind::Local, None) => Some(Embedding::Local {
                model: model?,
                dir,
                source,
                hub,
                prefixes,
                calibration,
            }),
        }
    }
}
