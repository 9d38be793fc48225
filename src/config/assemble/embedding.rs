//! The settings of embedding, and the rules between them.

use std::path::Path;

use secrecy::SecretString;

use super::Reader;
use crate::config::setting as table;
use crate::config::settings::{Embedding, Prefixes};

/// Takes an address without its last slash.
fn address(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest))
            if !rest.is_empty() && !rest.contains(char::is_whitespace) =>
        {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(String::new()),
    }
}

impl Reader<'_> {
    pub(super) fn embedding(&mut self, data_dir: &Path) -> Option<Embedding> {
        let kind = self.choice(&table::EMBEDDER, &["local", "http", "none"]);
        let model = self.parse(&table::MODEL, |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
            if text.len() > 200 || !text.chars().all(fits) || text.split('/').any(|part| part.starts_with('.')) {
                return Err(
                    "Letters, digits and `._-/:@+` are expected, and no part that begins with a dot.".to_owned()
                );
            }
            Ok(text.to_owned())
        });
        let dir = self
            .path(&table::MODEL_DIR)
            .unwrap_or_else(|| data_dir.join("models"));
        if !self.is_set(&table::MODEL_DIR) {
            self.worked_out
                .insert(table::MODEL_DIR.name, dir.display().to_string());
        }
        let source = self.path(&table::MODEL_SOURCE);
        let named = self.parse(&table::MODEL_HUB, address);
        let hub = named.or_else(|| {
            self.sources
                .env_text("HF_ENDPOINT")
                .and_then(|text| address(text).ok())
        });
        let url = self.parse(&table::EMBEDDER_URL, address);
        let key = self.parse(&table::EMBEDDER_KEY, |text| match text.trim() {
            key if key.chars().all(|c| c.is_ascii_graphic()) => Ok(SecretString::from(key)),
            _ => Err("It has characters that no header can have.".to_owned()),
        });
        let mut prefix = |setting| {
            self.parse(setting, |text| match text {
                text if text.len() > 500 || text.chars().any(char::is_control) => {
                    Err("At most 500 bytes are expected, without control characters.".to_owned())
                }
                text => Ok(text.to_owned()),
            })
        };
        let prefixes = Prefixes {
            query: prefix(&table::QUERY_PREFIX),
            passage: prefix(&table::PASSAGE_PREFIX),
        };
        let broken = [
            &table::MODEL_DIR,
            &table::MODEL_SOURCE,
            &table::MODEL_HUB,
            &table::EMBEDDER_URL,
            &table::EMBEDDER_KEY,
        ];
        let broken = broken
            .into_iter()
            .chain([&table::QUERY_PREFIX, &table::PASSAGE_PREFIX]);
        if broken.into_iter().any(|setting| self.is_broken(setting)) {
            return None;
        }
        match (kind?, url) {
            ("none", _) => Some(Embedding::None),
            ("http", Some(url)) => Some(Embedding::Http {
                model: model?,
                url,
                key,
                prefixes,
            }),
            ("http", None) => {
                self.report(
                    &table::EMBEDDER_URL,
                    "Set it, since MEMORY_EMBEDDER is http.",
                );
                None
            }
            (_, Some(_)) => {
                // Somebody thinks of an endpoint; the texts would go to a model of this process.
                self.report(
                    &table::EMBEDDER_URL,
                    "Set MEMORY_EMBEDDER=http too, or remove it: nothing else uses it.",
                );
                None
            }
            _ => Some(Embedding::Local {
                model: model?,
                dir,
                source,
                hub,
                prefixes,
            }),
        }
    }
}
