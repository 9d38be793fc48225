//! Chunks of tokens of a text.

use std::path::Path;

use super::tokenizer::ModelTokenizer;

/// Number of tokens that neighboring chunks share, so that a sentence is complete in one of them.
const OVERLAP: usize = 32;
/// Minimum number of tokens; a model with fewer is refused.
const LEAST_TOKENS: usize = 8;
/// Maximum number of chunks of a text. The rest of the text is not embedded.
const MAX_CHUNKS: usize = 64;
/// Maximum number of characters per token that are tokenized. Tokens are seldom longer.
const CHARACTERS_A_TOKEN: usize = 16;

/// Divides texts into chunks of tokens.
pub(crate) struct Chunker {
    tokenizer: ModelTokenizer,
    /// Tokens before and after each chunk: `[CLS]` and `[SEP]`.
    before: Vec<u32>,
    after: Vec<u32>,
    max_tokens: usize,
    /// Whether texts are converted to lower case first, which some models require in addition to their tokenizer.
    lower: bool,
}

impl Chunker {
    /// Reads `tokenizer.json`.
    pub(crate) fn load(folder: &Path, max_tokens: usize, lower: bool) -> Result<Self, String> {
        let tokenizer = ModelTokenizer::read_file(&folder.join("tokenizer.json"))?;
        let frame = tokenizer.encode_text("", true)?;
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

    /// Divides a text into chunks, at most `most` and at least one, each with the prompt.
    pub(crate) fn split_text(
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
        let tokens = self.encode_text(&format!("{prompt}{}", &text[..end]))?;
        let frame = self.before.len() + self.after.len();
        // The first chunk already contains the prompt.
        let mut prompt = if prompt.is_empty() {
            Vec::new()
        } else {
            self.encode_text(prompt)?
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

    fn encode_text(&self, text: &str) -> Result<Vec<u32>, String> {
        match self.lower {
            true => self.tokenizer.encode_text(&text.to_lowercase(), false),
            false => self.tokenizer.encode_text(text, false),
        }
    }

    /// Divides a text into all of its chunks.
    pub(crate) fn split_all(&self, prompt: &str, text: &str) -> Result<Vec<Vec<u32>>, String> {
        self.split_text(prompt, text, MAX_CHUNKS)
    }
}
