//! Scripts without spaces between words, or with particles attached to words, whose words are found by n-grams.
//!
//! Han and Hiragana are split into single characters and pairs of neighbors. Katakana and Hangul words are indexed as a
//! whole and as pairs, so that a compound is found by its parts and a noun without its particle. Thai, Lao, Khmer and
//! Burmese are split into pairs of grapheme clusters. Documents and queries are split alike, so no dictionary is
//! needed.

/// How words of a script are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// Han and Hiragana: every character may be a word.
    Ideographic,
    /// Katakana: compounds without separators.
    Katakana,
    /// Hangul: spaces between words, but particles attached to nouns.
    Hangul,
    /// Thai, Lao, Khmer, Burmese: no spaces, and words of several grapheme clusters.
    SoutheastAsian,
    /// All other scripts, with spaces between words.
    Spaced,
}

impl Script {
    /// Returns the script of a character; marks and digits of a script belong to it.
    pub(super) fn of(c: char) -> Self {
        match c {
            '\u{30a0}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' => Self::Katakana,
            '\u{3005}'..='\u{3007}'
            | '\u{3040}'..='\u{309f}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Self::Ideographic,
            '\u{1100}'..='\u{11ff}'
            | '\u{3130}'..='\u{318f}'
            | '\u{a960}'..='\u{a97f}'
            | '\u{ac00}'..='\u{d7ff}' => Self::Hangul,
            '\u{0e00}'..='\u{0eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{a9e0}'..='\u{a9ff}' => Self::SoutheastAsian,
            _ => Self::Spaced,
        }
    }

    /// Returns whether combining marks of the script spell vowels and tones, so that removing them would create other
    /// words.
    pub(super) fn needs_marks(c: char) -> bool {
        Self::of(c) == Self::SoutheastAsian || matches!(c, '\u{0900}'..='\u{0dff}')
    }
}

/// Returns the runs of one script in a word, in order: `API서버` is split into `API` and `서버`.
pub(super) fn script_runs(word: &str) -> Vec<(Script, &str)> {
    let mut runs: Vec<(Script, &str)> = Vec::new();
    let mut start = 0;
    let mut current: Option<Script> = None;
    for (at, c) in word.char_indices() {
        let script = Script::of(c);
        // Marks that all scripts share continue the preceding run.
        let continues =
            current == Some(script) || (script == Script::Spaced && !c.is_alphanumeric());
        match current {
            Some(before) if !continues => {
                runs.push((before, &word[start..at]));
                (start, current) = (at, Some(script));
            }
            None => current = Some(script),
            Some(_) => {}
        }
    }
    runs.extend(current.map(|script| (script, &word[start..])));
    runs
}

/// Returns the pairs of neighboring characters of a word with more than two.
pub(super) fn character_pairs(word: &str) -> impl Iterator<Item = String> + '_ {
    let longer = word.chars().nth(2).is_some();
    let pairs = word
        .chars()
        .zip(word.chars().skip(1))
        .map(|(left, right)| String::from_iter([left, right]));
    pairs.filter(move |_| longer)
}

/// Korean particles, longest first; they follow a noun without a space.
const PARTICLES: &[&str] = &[
    "에게서",
    "으로서",
    "으로써",
    "이라는",
    "에서는",
    "에서도",
    "에게",
    "에서",
    "으로",
    "까지",
    "부터",
    "처럼",
    "보다",
    "하고",
    "이나",
    "이랑",
    "라는",
    "에는",
    "에도",
    "만큼",
    "마다",
    "조차",
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "의",
    "에",
    "도",
    "로",
    "와",
    "과",
    "만",
    "랑",
];

/// Returns a Korean noun of one syllable without its particle; longer nouns are found by pairs of syllables.
pub(super) fn syllable_before_particle(word: &str) -> Option<&str> {
    let particle = PARTICLES
        .iter()
        .find(|particle| word.len() > particle.len() && word.ends_with(**particle))?;
    let noun = &word[..word.len() - particle.len()];
    noun.chars().nth(1).is_none().then_some(noun)
}

/// Collects the grapheme clusters of a text without spaces, and returns their pairs.
#[derive(Debug, Default)]
pub(super) struct ClusterPairs<'t> {
    before: Option<&'t str>,
    paired: bool,
}

impl<'t> ClusterPairs<'t> {
    /// Adds the next cluster of a run.
    pub(super) fn push(&mut self, cluster: &'t str, words: &mut Vec<String>) {
        if let Some(before) = self.before.replace(cluster) {
            words.push(format!("{before}{cluster}"));
            self.paired = true;
        }
    }

    /// Ends the run; a single cluster is a word.
    pub(super) fn finish(&mut self, words: &mut Vec<String>) {
        let single = self.before.take().filter(|_| !self.paired);
        words.extend(single.map(str::to_owned));
        self.paired = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_split_into_runs_of_one_script() {
        use Script::{Hangul, Ideographic, Katakana, Spaced};
        assert_eq!(
            script_runs("API서버는"),
            [(Spaced, "API"), (Hangul, "서버는")]
        );
        assert_eq!(
            script_runs("データ基盤"),
            [(Katakana, "データ"), (Ideographic, "基盤")]
        );
        assert_eq!(script_runs("don't"), [(Spaced, "don't")]);
        assert_eq!(script_runs(""), []);
    }

    #[test]
    fn a_particle_is_removed_from_a_noun_of_one_syllable_only() {
        assert_eq!(syllable_before_particle("책을"), Some("책"));
        assert_eq!(syllable_before_particle("집에서는"), Some("집"));
        assert_eq!(syllable_before_particle("서버는"), None);
        assert_eq!(syllable_before_particle("은"), None);
    }
}
