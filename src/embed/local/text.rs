//! From text to tokens, in chunks that the model takes.

use std::path::Path;

use tokenizers::Tokenizer;

/// Tokens that two neighbouring chunks share, so that no sentence is torn apart for both.
const OVERLAP: usize = 32;
/// A model that takes fewer is none for sentences.
const LEAST_TOKENS: usize = 8;
/// Most chunks of a text; what lies behind is still found by its words.
const MAX_CHUNKS: usize = 64;
/// Characters beyond which no chunk begins, whatever the tokens. A word piece is seldom longer.
const CHARACTERS_A_TOKEN: usize = 16;

/// Cuts texts into tokens.
pub(super) struct Chunker {
    tokenizer: Tokenizer,
    /// What stands before and after each chunk: `[CLS]` and `[SEP]`.
    before: Vec<u32>,
    after: Vec<u32>,
    max_tokens: usize,
    /// Texts are made lower case first: some models say so apart from their tokenizer.
    lower: bool,
}

impl Chunker {
    /// Reads `tokenizer.json`. The padding and truncation it carries are those of its author's use, not of the model.
    pub(super) fn load(folder: &Path, max_tokens: usize, lower: bool) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))
            .map_err(|error| error.to_string())?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        let frame = tokenizer
            .encode("", true)
            .map_err(|error| error.to_string())?
            .get_ids()
            .to_vec();
        let (before, after) = frame.split_at(frame.len().min(1));
        if max_tokens < frame.len() + LEAST_TOKENS {
            return Err(format!("{max_tokens} tokens are too few for this model"));
        }
        Ok(Self {
            before: before.to_vec(),
            after: after.to_vec(),
            tokenizer,
            max_tokens,
            lower,
        })
    }

    /// The chunks of a text, at most `most` of them and at least one, each behind the prompt.
    pub(super) fn chunks(
        &self,
        prompt: &str,
        text: &str,
        most: usize,
    ) -> Result<Vec<Vec<u32>>, String> {
        let most = most.clamp(1, MAX_CHUNKS);
        let end = text
            .char_indices()
            .nth(most * self.max_tokens * CHARACTERS_A_TOKEN)
            .map_or(text.len(), |(at, _)| at);
        let tokens = self.tokens(&format!("{prompt}{}", &text[..end]))?;
        let frame = self.before.len() + self.after.len();
        // The first chunk has it already.
        let mut prompt = if prompt.is_empty() {
            Vec::new()
        } else {
            self.tokens(prompt)?
        };
        prompt.truncate((self.max_tokens - frame) / 2);
        let mut chunks = Vec::new();
        let mut start = 0;
        loop {
            let again: &[u32] = if start == 0 { &[] } else { &prompt };
            let room = self.max_tokens - frame - again.len();
            let end = (start + room).min(tokens.len());
            chunks.push([&self.before, again, &tokens[start..end], &self.after].concat());
            if end == tokens.len() || chunks.len() == most {
                return Ok(chunks);
            }
            start = end - OVERLAP.min(room / 4);
        }
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoded = match self.lower {
            true => self.tokenizer.encode_fast(text.to_lowercase(), false),
            false => self.tokenizer.encode_fast(text, false),
        };
        Ok(encoded
            .map_err(|error| error.to_string())?
            .get_ids()
            .to_vec())
    }

    /// All chunks of a text.
    pub(super) fn all(&self, prompt: &str, text: &str) -> Result<Vec<Vec<u32>>, String> {
        self.chunks(prompt, text, MAX_CHUNKS)
    }
}
