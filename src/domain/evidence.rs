//! How sure one can be that something stored answers a question, without reading it.
//!
//! Five things tell: how near the nearest meaning is and whether it stands out, how much of the question's weight the
//! best memory and what is around it cover, whether the question names somebody or something that is nowhere stored (for
//! most words there are others, for names there are none), and how many memories there are: among more of them more are
//! near by chance. The constants were fitted to questions about notes and about conversations, all of them and parts of
//! 20 to 300, and to questions that were put to the wrong memories; see `docs/recall.md`.
//!
//! Pure. Texts are not read: whoever asks of a known person what nobody ever told gets no warning from this.

use unicode_segmentation::UnicodeSegmentation as _;

use super::stop_words;

/// Below this confidence perhaps nothing answers.
const UNSURE: f64 = 0.4;
/// Below this one nothing seems to answer.
const DOUBTFUL: f64 = 0.15;
/// Below this one nearly all questions are about something else.
const STRANGE: f64 = 0.05;
/// Numbers of memories between which confidence was fitted.
const FITTED: (u64, u64) = (20, 1_000);
/// Where their number neither adds nor takes.
const USUAL: f64 = 600.0;
/// English function words that are German words, too: German gives all nouns a capital letter.
const SHARED: [&str; 7] = ["am", "an", "her", "in", "so", "was", "will"];
/// Names in English, but not of anything that could be stored by its name.
const NO_NAMES: [&str; 31] = [
    "april",
    "august",
    "december",
    "english",
    "february",
    "french",
    "friday",
    "german",
    "i",
    "i'd",
    "i'll",
    "i'm",
    "i've",
    "italian",
    "january",
    "july",
    "june",
    "march",
    "may",
    "monday",
    "mr",
    "mrs",
    "ms",
    "november",
    "october",
    "saturday",
    "september",
    "spanish",
    "sunday",
    "thursday",
    "tuesday",
];

/// About a question and a memory, or of a question and all memories.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// Where there are cosines of the known model.
    pub nearness: Option<Nearness>,
    /// Share of the question's weight that is covered.
    pub coverage: f64,
    /// Whether the question names what nothing stored names.
    pub stranger: bool,
    /// How many memories are in scope.
    pub memories: u64,
}

/// How near a memory is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearness {
    /// Its cosine.
    pub cosine: f64,
    /// That of the third nearest memory: among any texts some are near, an answer is nearer.
    pub third: f64,
}

impl Evidence {
    /// That something answers, from 0 to 1.
    #[must_use]
    pub fn confidence(self) -> f64 {
        let coverage = self.coverage.clamp(0.0, 1.0);
        let seen = match self.nearness {
            Some(Nearness { cosine, third }) => {
                5.0 * cosine + 6.0 * (cosine - third).max(0.0) + 5.0 * coverage - 5.3
            }
            None => 8.0 * coverage - 3.7,
        };
        let by_chance = 0.25 * (self.memories.clamp(FITTED.0, FITTED.1) as f64 / USUAL).ln();
        let evidence = seen - by_chance - if self.stranger { 3.0 } else { 0.0 };
        1.0 / (1.0 + (-evidence).exp())
    }
}

/// Whether perhaps nothing answers.
#[must_use]
pub fn unsure(confidence: f64) -> bool {
    confidence < UNSURE
}

/// Whether nothing seems to answer.
#[must_use]
pub fn doubtful(confidence: f64) -> bool {
    confidence < DOUBTFUL
}

/// Whether the question is almost certainly about something else.
#[must_use]
pub fn strange(confidence: f64) -> bool {
    confidence < STRANGE
}

/// Words of an English question that are names by their form: with a capital letter where none is due. In a language
/// that gives all nouns one, or in a title, the form tells nothing.
#[must_use]
pub fn proper_names(question: &str) -> Vec<&str> {
    let bare = |word: &str| word.to_lowercase().replace('\u{2019}', "'");
    let words: Vec<&str> = question.unicode_words().collect();
    let english = |word: &str| stop_words::ENGLISH.binary_search(&word).is_ok();
    let telling = |word: &&str| {
        let word = bare(word);
        english(&word) && SHARED.binary_search(&word.as_str()).is_err()
    };
    let capital = |word: &str| word.starts_with(char::is_uppercase);
    let sentence = words.iter().any(telling)
        && words
            .iter()
            .any(|word| word.starts_with(char::is_lowercase));
    if !sentence {
        return Vec::new();
    }
    let names = words.iter().enumerate().filter_map(|(at, word)| {
        let name = word
            .strip_suffix("'s")
            .or_else(|| word.strip_suffix("\u{2019}s"));
        // The first word has a capital letter anyway.
        let due = at == 0 && name.is_none();
        let name = name.unwrap_or(word);
        let folded = bare(name);
        let common = english(&folded) || NO_NAMES.binary_search(&folded.as_str()).is_ok();
        (capital(name) && !due && !common).then_some(name)
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(cosine: f64, third: f64, coverage: f64) -> Evidence {
        Evidence {
            nearness: Some(Nearness { cosine, third }),
            coverage,
            stranger: false,
            memories: 600,
        }
    }

    #[test]
    fn confidence_grows_with_nearness_and_coverage() {
        let one = near(0.5, 0.4, 0.5).confidence();
        assert!((one - 1.0 / (1.0 + (-0.3_f64).exp())).abs() < 1e-12);
        let among = |memories| {
            Evidence {
                memories,
                ..near(0.5, 0.4, 0.5)
            }
            .confidence()
        };
        assert!(
            among(100) > one && one > among(900),
            "among more memories more are near by chance"
        );
        assert!(
            among(0) == among(20) && among(1_000) == among(1_000_000),
            "no further than was measured"
        );
        assert!(near(0.6, 0.4, 0.5).confidence() > one && near(0.5, 0.4, 0.6).confidence() > one);
        assert!(
            near(0.5, 0.45, 0.5).confidence() < one,
            "what stands out is more than what is among many"
        );
        let words = |coverage: f64| {
            Evidence {
                coverage,
                memories: 600,
                ..Evidence::default()
            }
            .confidence()
        };
        assert!((words(2.0) - 1.0 / (1.0 + (-4.3_f64).exp())).abs() < 1e-12);
        assert!(
            doubtful(words(0.2))
                && !strange(words(0.2))
                && strange(words(0.0))
                && !doubtful(words(0.3))
        );
        assert!(unsure(words(0.4)) && !doubtful(words(0.4)) && !unsure(words(0.5)));
        assert!(
            strange(near(0.3, 0.28, 0.1).confidence())
                && !doubtful(near(0.45, 0.3, 0.25).confidence())
        );
    }

    #[test]
    fn whom_nobody_knows_is_a_stranger() {
        let known = near(0.5, 0.4, 0.4);
        let stranger = Evidence {
            stranger: true,
            ..known
        };
        assert!(!doubtful(known.confidence()) && doubtful(stranger.confidence()));
        // Near enough, the name may be written in another way.
        assert!(!doubtful(
            Evidence {
                stranger: true,
                ..near(0.9, 0.5, 0.9)
            }
            .confidence()
        ));
    }

    #[test]
    fn names_have_a_capital_letter_where_none_is_due() {
        for (question, names) in [
            (
                "What did Melanie and her kids do in July 2023?",
                vec!["Melanie"],
            ),
            (
                "Which pizza does Ada\u{2019}s brother order on Friday?",
                vec!["Ada"],
            ),
            ("Ada's shoe size is what?", vec!["Ada"]),
            ("Who paid for the trip to New York?", vec!["New", "York"]),
            ("Melanie called about the tent", vec![]),
            ("what is I'm doing", vec![]),
            ("Wann hat die Werkstatt offen?", vec![]),
            ("Was kostet die Unterkunft in Wien?", vec![]),
            ("How To Reset The Router", vec![]),
            ("Router Password", vec![]),
            ("quando parte il treno per Milano", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(proper_names(question), names, "{question}");
        }
    }

    #[test]
    fn lists_are_sorted() {
        assert!(SHARED.is_sorted() && NO_NAMES.is_sorted());
    }
}
