//! A Unigram vocabulary that needs 4 % of the memory of the one in `tokenizers`.
//!
//! `tokenizers` normalizes a text and splits it into words; this model divides each word into the pieces with the highest
//! total score. Both models return the same tokens, which the tests compare. The pieces are stored in a finite-state
//! transducer, because the trie of `tokenizers` has a hash table per node: 283 MB for the 250,002 pieces of XLM-RoBERTa.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fst::raw::Output;
use fst::{Map, MapBuilder, Streamer};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::{Model, Token};

/// By how much the score of an unknown character is below the lowest score of a piece.
const UNKNOWN_PENALTY: f64 = 10.0;
const MISSING_UNKNOWN: &str =
    "the text has a character without a piece, and the model has no unk_id for it";

/// The pieces of a vocabulary with their scores.
#[derive(Deserialize)]
#[serde(try_from = "UnigramFile")]
pub(crate) struct CompactUnigram {
    /// Maps a piece to its ID.
    ids: Map<Vec<u8>>,
    /// Score of each ID.
    scores: Vec<f64>,
    unknown: Option<u32>,
    unknown_score: f64,
    /// Whether unknown characters are divided into pieces of one byte.
    byte_fallback: bool,
}

/// The `model` of a `tokenizer.json`.
#[derive(Deserialize)]
struct UnigramFile {
    vocab: PieceList,
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

/// All pieces in one string, which needs a tenth of the memory of separate strings.
#[derive(Default)]
struct PieceList {
    text: String,
    ends: Vec<usize>,
    scores: Vec<f64>,
}

impl PieceList {
    fn add_piece(&mut self, piece: &str, score: f64) {
        self.text.push_str(piece);
        self.ends.push(self.text.len());
        self.scores.push(score);
    }

    fn read_piece(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.text[start..self.ends[id]]
    }

    /// Builds the transducer. The last of equal pieces is kept, as `tokenizers` does.
    fn map_to_ids(&self, count: u32) -> fst::Result<Map<Vec<u8>>> {
        let mut order: Vec<u32> = (0..count).collect();
        let by_piece = |a: &u32, b: &u32| self.read_piece(*a).cmp(self.read_piece(*b));
        order.sort_unstable_by(|a, b| match by_piece(a, b) {
            Ordering::Equal => b.cmp(a),
            other => other,
        });
        order.dedup_by(|a, b| by_piece(a, b).is_eq());
        let mut builder = MapBuilder::memory();
        for id in order {
            builder.insert(self.read_piece(id), u64::from(id))?;
        }
        Map::new(builder.into_inner()?)
    }
}

impl<'de> Deserialize<'de> for PieceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = PieceList;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of [piece, score]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PieceList, A::Error> {
                let mut pieces = PieceList::default();
                while let Some((piece, score)) = list.next_element::<(String, f64)>()? {
                    pieces.add_piece(&piece, score);
                }
                Ok(pieces)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

impl TryFrom<UnigramFile> for CompactUnigram {
    type Error = String;

    fn try_from(file: UnigramFile) -> Result<Self, String> {
        let pieces = file.vocab;
        let count = u32::try_from(pieces.scores.len())
            .map_err(|_| "vocab: more than 4,294,967,295 pieces".to_owned())?;
        let unknown = match file.unk_id.map(u32::try_from) {
            None => None,
            Some(Ok(id)) if id < count => Some(id),
            Some(_) => {
                return Err(format!(
                    "unk_id: expected a number below the {count} pieces of vocab, got {}",
                    file.unk_id.unwrap_or_default()
                ));
            }
        };
        let lowest = pieces.scores.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Self {
            ids: pieces
                .map_to_ids(count)
                .map_err(|error| error.to_string())?,
            scores: pieces.scores,
            unknown,
            unknown_score: lowest - UNKNOWN_PENALTY,
            byte_fallback: file.byte_fallback,
        })
    }
}

/// The last piece of the best path to a position of a word.
#[derive(Clone, Copy)]
struct Step {
    /// Total score of the path.
    score: f64,
    /// Position at which the piece starts. `None` if no path reaches this position.
    start: Option<u32>,
    id: u32,
}

impl Step {
    const START: Self = Self {
        score: 0.0,
        start: None,
        id: 0,
    };

    fn offer(&mut self, other: Self) {
        if self.start.is_none() || other.score > self.score {
            *self = other;
        }
    }
}

impl CompactUnigram {
    /// Calls `found` with the length and the ID of each piece at the beginning of `text`, the shortest first.
    fn find_prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let fst = self.ids.as_fst();
        let mut node = fst.root();
        let mut output = Output::zero();
        for (byte, length) in text.iter().zip(1..) {
            let Some(number) = node.find_input(*byte) else {
                return;
            };
            let transition = node.transition(number);
            output = output.cat(transition.out);
            node = fst.node(transition.addr);
            if node.is_final() {
                found(length, output.cat(node.final_output()).value() as u32);
            }
        }
    }

    /// Computes the best path to each position of `word` (Viterbi).
    fn find_steps(&self, word: &str) -> tokenizers::Result<Vec<Step>> {
        u32::try_from(word.len()).map_err(|_| "a text of more than 4 GiB")?;
        let mut steps = vec![Step::START; word.len() + 1];
        for (start, character) in word.char_indices() {
            let before = steps[start].score;
            let step = |score: f64, id| Step {
                score: before + score,
                start: Some(start as u32),
                id,
            };
            let width = character.len_utf8();
            let mut is_known = false;
            self.find_prefixes(&word.as_bytes()[start..], |length, id| {
                steps[start + length].offer(step(self.scores[id as usize], id));
                is_known |= length == width;
            });
            if !is_known {
                let unknown = self.unknown.ok_or(MISSING_UNKNOWN)?;
                steps[start + width].offer(step(self.unknown_score, unknown));
            }
        }
        Ok(steps)
    }

    /// Returns the positions of the best pieces of `word`. Consecutive unknown characters are one piece.
    fn divide_word(&self, word: &str) -> tokenizers::Result<Vec<Range<usize>>> {
        let steps = self.find_steps(word)?;
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut follows_unknown = false;
        let mut end = word.len();
        while let Some(start) = steps[end].start {
            let start = start as usize;
            let is_unknown = Some(steps[end].id) == self.unknown;
            match pieces.last_mut() {
                Some(piece) if is_unknown && follows_unknown => piece.start = start,
                _ => pieces.push(start..end),
            }
            follows_unknown = is_unknown;
            end = start;
        }
        pieces.reverse();
        Ok(pieces)
    }

    /// Returns the IDs of the bytes of an unknown piece if the vocabulary has all of them.
    fn find_byte_ids(&self, piece: &str) -> Option<Vec<(u32, String)>> {
        let id_of = |byte: u8| {
            let name = format!("<0x{byte:02X}>");
            self.token_to_id(&name).map(|id| (id, name))
        };
        piece.bytes().map(id_of).collect()
    }
}

impl Model for CompactUnigram {
    type Trainer = UnigramTrainer;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for range in self.divide_word(word)? {
            let piece = &word[range.clone()];
            let offsets = (range.start, range.end);
            if let Some(id) = self.token_to_id(piece) {
                tokens.push(Token::new(id, piece.to_owned(), offsets));
            } else if self.byte_fallback
                && let Some(bytes) = self.find_byte_ids(piece)
            {
                tokens.extend(
                    bytes
                        .into_iter()
                        .map(|(id, name)| Token::new(id, name, offsets)),
                );
            } else {
                let id = self.unknown.ok_or(MISSING_UNKNOWN)?;
                tokens.push(Token::new(id, piece.to_owned(), offsets));
            }
        }
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).map(|id| id as u32)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        let mut pieces = self.ids.stream();
        while let Some((piece, found)) = pieces.next() {
            if found == u64::from(id) {
                return String::from_utf8(piece.to_vec()).ok();
            }
        }
        None
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        let mut vocabulary = HashMap::with_capacity(self.ids.len());
        let mut pieces = self.ids.stream();
        while let Some((piece, id)) = pieces.next() {
            vocabulary.insert(String::from_utf8_lossy(piece).into_owned(), id as u32);
        }
        vocabulary
    }

    fn get_vocab_size(&self) -> usize {
        self.scores.len()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a compact vocabulary cannot be saved: copy tokenizer.json".into())
    }

    fn get_trainer(&self) -> UnigramTrainer {
        UnigramTrainer::default()
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::unigram::Unigram;

    use super::*;

    /// A reproducible sequence of numbers (SplitMix64).
    struct Numbers(u64);

    impl Numbers {
        fn next_below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((mixed ^ (mixed >> 31)) % end as u64) as usize
        }

        /// Returns up to `most` characters. Few different ones, so that pieces occur in texts.
        fn next_text(&mut self, most: usize) -> String {
            const CHARACTERS: &[char] = &[
                '▁', 'a', 'b', 'e', 'n', 'ä', 'ß', 'ж', 'и', 'α', 'ε', 'ש', 'ع', 'ی', 'क', '्', 'ष',
                'ก', '้', '漢', '字', 'か', 'ガ', '한', '국', '🎉', '👩', '\u{200d}', '\u{fe0f}',
                '1', '.', '\u{301}',
            ];
            let length = self.next_below(most + 1);
            (0..length)
                .map(|_| CHARACTERS[self.next_below(CHARACTERS.len())])
                .collect()
        }
    }

    /// Returns a random vocabulary with equal pieces and equal scores. Its first pieces are special or bytes.
    fn make_vocabulary(numbers: &mut Numbers, size: usize) -> Vec<(String, f64)> {
        let bytes = (0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), -30.0));
        let mut vocabulary = vec![("<s>".to_owned(), 0.0), ("<unk>".to_owned(), 0.0)];
        vocabulary.extend(bytes);
        while vocabulary.len() < size {
            let piece = numbers.next_text(4);
            vocabulary.push((piece, -(numbers.next_below(40) as f64) / 2.0));
        }
        vocabulary
    }

    fn build_compact(vocabulary: &[(String, f64)], byte_fallback: bool) -> CompactUnigram {
        let mut vocab = PieceList::default();
        for (piece, score) in vocabulary {
            vocab.add_piece(piece, *score);
        }
        let file = UnigramFile {
            vocab,
            unk_id: Some(1),
            byte_fallback,
        };
        CompactUnigram::try_from(file).unwrap()
    }

    #[test]
    fn tokens_equal_those_of_the_usual_model() {
        let mut numbers = Numbers(19);
        for byte_fallback in [false, true] {
            for size in [260, 300, 1_000, 20_000] {
                let vocabulary = make_vocabulary(&mut numbers, size);
                let usual = Unigram::from(vocabulary.clone(), Some(1), byte_fallback).unwrap();
                let compact = build_compact(&vocabulary, byte_fallback);
                for _ in 0..1_000 {
                    let text = numbers.next_text(40);
                    let tokens = compact.tokenize(&text).unwrap();
                    assert_eq!(tokens, usual.tokenize(&text).unwrap(), "{size} {text:?}");
                }
                assert_eq!(compact.get_vocab(), usual.get_vocab());
                assert_eq!(compact.get_vocab_size(), usual.get_vocab_size());
            }
        }
    }

    #[test]
    fn a_word_of_64_kib_has_the_tokens_of_the_usual_model() {
        let mut numbers = Numbers(20);
        let vocabulary = make_vocabulary(&mut numbers, 5_000);
        let usual = Unigram::from(vocabulary.clone(), Some(1), false).unwrap();
        let compact = build_compact(&vocabulary, false);
        let mut random = String::new();
        while random.len() < 64 * 1024 {
            random.push_str(&numbers.next_text(40));
        }
        for text in [random, "🎊".repeat(16 * 1024), "a".repeat(64 * 1024)] {
            assert_eq!(
                compact.tokenize(&text).unwrap(),
                usual.tokenize(&text).unwrap()
            );
        }
    }

    #[test]
    fn pieces_are_found_by_id() {
        let compact = build_compact(&make_vocabulary(&mut Numbers(21), 300), false);
        assert_eq!(compact.id_to_token(1).as_deref(), Some("<unk>"));
        assert_eq!(compact.token_to_id("<0x00>"), Some(2));
        assert_eq!(compact.id_to_token(300), None);
        assert!(compact.tokenize("").unwrap().is_empty());
    }

    #[test]
    fn damaged_vocabularies_are_refused_with_a_reason() {
        for (json, reason) in [
            (r#"{"type":"Unigram","unk_id":0}"#, "missing field `vocab`"),
            (
                r#"{"vocab":[["a",-1.0]],"unk_id":1}"#,
                "unk_id: expected a number below the 1 pieces",
            ),
            (
                r#"{"vocab":[],"unk_id":0}"#,
                "unk_id: expected a number below the 0 pieces",
            ),
            (
                r#"{"vocab":[["a"]],"unk_id":0}"#,
                "expected a tuple of size 2",
            ),
            (
                r#"{"vocab":{"a":1},"unk_id":0}"#,
                "expected an array of [piece, score]",
            ),
            (r#"{"vocab":[["a",-1.0],["b","#, "EOF while parsing"),
        ] {
            let error = serde_json::from_str::<CompactUnigram>(json).err().unwrap();
            assert!(error.to_string().contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn unknown_characters_need_an_unknown_piece() {
        let json = r#"{"vocab":[["a",-1.0]],"unk_id":null}"#;
        let compact: CompactUnigram = serde_json::from_str(json).unwrap();
        assert_eq!(compact.tokenize("aa").unwrap().len(), 2);
        let error = compact.tokenize("ab").unwrap_err();
        assert!(error.to_string().contains("unk_id"), "{error}");
    }
}
