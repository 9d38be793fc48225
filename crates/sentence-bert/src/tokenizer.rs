//! Reading of `tokenizer.json`: a Unigram vocabulary becomes compact, all else is the work of `tokenizers`.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    TokenizerImpl,
};

use super::unigram::CompactUnigram;

type CompactTokenizer = TokenizerImpl<
    CompactUnigram,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// The tokenizer of a model.
pub(crate) enum ModelTokenizer {
    Compact(Box<CompactTokenizer>),
    Usual(Box<Tokenizer>),
}

/// The type of vocabulary in a file. All other fields are skipped.
#[derive(Deserialize)]
struct FileKind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    /// Old files state no type.
    #[serde(rename = "type", default)]
    kind: String,
}

impl ModelTokenizer {
    /// Reads a file. Its padding and truncation settings are ignored, because they reflect the use case of its author.
    pub(crate) fn read_file(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let file: FileKind = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let tokenizer = match file.model.kind.as_str() {
            "Unigram" => CompactTokenizer::from_bytes(&bytes).and_then(|mut tokenizer| {
                tokenizer.with_padding(None).with_truncation(None)?;
                Ok(Self::Compact(Box::new(tokenizer)))
            }),
            _ => Tokenizer::from_bytes(&bytes).and_then(|mut tokenizer| {
                tokenizer.with_padding(None).with_truncation(None)?;
                Ok(Self::Usual(Box::new(tokenizer)))
            }),
        };
        tokenizer.map_err(|error| error.to_string())
    }

    /// Returns the token IDs of a text, with the tokens around each text if `framed`.
    pub(crate) fn encode_text(&self, text: &str, framed: bool) -> Result<Vec<u32>, String> {
        let encoding = match self {
            Self::Compact(tokenizer) => tokenizer.encode_fast(text, framed),
            Self::Usual(tokenizer) => tokenizer.encode_fast(text, framed),
        };
        let encoding = encoding.map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// Returns the lines of the golden sets in over ten languages, and texts that are hard to divide.
    fn read_texts() -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for name in [
            "memories",
            "queries",
            "scripts-memories",
            "scripts-queries",
            "cross-memories",
            "cross-queries",
        ] {
            let path = repository().join(format!("tests/golden/{name}.jsonl"));
            texts.extend(
                std::fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        }
        let hard = [
            "",
            " ",
            "\n\t  \u{3000}",
            "<s> </s><unk>  <mask>x<pad>",
            "▁▁a ▁",
            "ﬁnance Ｆｕｌｌ ½ ①",
            "e\u{301}\u{302}\u{303}",
            "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🇫🇷",
            "\u{0}\u{7}\u{200b}\u{feff}\u{fffd}",
            "مرحبا 世界 שלום мир 안녕 สวัสดี नमस्ते",
            "a  b   c",
            "<0x41>",
            "\u{ad}soft\u{ad}hyphen",
            "ÅÅ ﷺ ㍿",
        ];
        texts.extend(hard.map(str::to_owned));
        texts.push("漢字かな".repeat(4 * 1024));
        texts.push("🎉".repeat(2 * 1024));
        texts.push("é́ ".repeat(2 * 1024));
        texts
    }

    #[test]
    fn a_unigram_file_gives_the_ids_of_the_usual_tokenizer() {
        let path = repository().join("tests/data/models/xlm-roberta-prompts/tokenizer.json");
        let compact = ModelTokenizer::read_file(&path).unwrap();
        assert!(matches!(compact, ModelTokenizer::Compact(_)));
        let usual = ModelTokenizer::Usual(Box::new(Tokenizer::from_file(&path).unwrap()));
        for text in read_texts() {
            for framed in [false, true] {
                let ids = compact.encode_text(&text, framed).unwrap();
                assert_eq!(ids, usual.encode_text(&text, framed).unwrap(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_truncated_file_is_refused_with_the_position() {
        let path = repository().join("tests/data/models/xlm-roberta-prompts/tokenizer.json");
        let bytes = std::fs::read(path).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 3] {
            std::fs::write(file.path(), &bytes[..length]).unwrap();
            let error = ModelTokenizer::read_file(file.path()).err().unwrap();
            assert!(error.contains("EOF while parsing"), "{length}: {error}");
        }
        std::fs::write(
            file.path(),
            r#"{"model":{"type":"Unigram","vocab":[],"unk_id":3}}"#,
        )
        .unwrap();
        let error = ModelTokenizer::read_file(file.path()).err().unwrap();
        assert!(
            error.contains("unk_id: expected a number below the 0 pieces"),
            "{error}"
        );
    }
}
