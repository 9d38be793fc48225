//! Words and phrases that show whether a text is about the past or reports a change, in English, German, French, Spanish,
//! Italian, Portuguese and Dutch.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Phrases of one meaning. Most are single words, which are looked up: searching a text for each of a hundred phrases takes
/// longer than the rest of a comparison.
pub(super) struct PhraseList {
    words: HashSet<&'static str>,
    longer: Vec<&'static str>,
}

impl PhraseList {
    fn new(phrases: &[&'static str]) -> Self {
        let (longer, words): (Vec<_>, Vec<_>) = phrases
            .iter()
            .copied()
            .partition(|phrase| phrase.contains(' '));
        Self {
            words: words.into_iter().collect(),
            longer,
        }
    }

    /// Returns the rest of a text that begins with one of the phrases and a space.
    fn strip_from<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (word, rest) = text.split_once(' ')?;
        if self.words.contains(word) {
            return Some(rest);
        }
        let mut rests = self
            .longer
            .iter()
            .filter_map(|phrase| text.strip_prefix(phrase));
        rests.find(|rest| rest.starts_with(' '))
    }
}

/// Phrases of questions about the first state.
static FIRST: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "first",
        "at first",
        "original",
        "originally",
        "initial",
        "initially",
        "in the beginning",
        "to begin with",
        "start out",
        "started out",
        "start with",
        "started with",
        "oldest",
        "ursprünglich",
        "ursprüngliche",
        "ursprünglichen",
        "zuerst",
        "anfangs",
        "anfänglich",
        "am anfang",
        "zu beginn",
        "erste",
        "ersten",
        "erster",
        "erstes",
        "au début",
        "initialement",
        "à l origine",
        "al principio",
        "inicialmente",
        "originalmente",
        "all inizio",
        "inizialmente",
        "in origine",
        "no início",
        "no começo",
        "aanvankelijk",
        "oorspronkelijk",
        "in het begin",
    ])
});
/// Phrases of questions about the state before the present one.
static PREVIOUS: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "before",
        "previous",
        "previously",
        "former",
        "formerly",
        "used to",
        "earlier",
        "old",
        "older",
        "vorher",
        "vorherige",
        "vorherigen",
        "vorheriger",
        "vorheriges",
        "früher",
        "frühere",
        "früheren",
        "früherer",
        "früheres",
        "bisher",
        "bisherige",
        "bisherigen",
        "bisheriger",
        "bisheriges",
        "davor",
        "vor",
        "alte",
        "alten",
        "alter",
        "altes",
        "ehemalige",
        "ehemaligen",
        "ehemaliger",
        "ehemals",
        "zuvor",
        "avant",
        "auparavant",
        "précédent",
        "précédente",
        "ancien",
        "ancienne",
        "antes",
        "anterior",
        "anteriormente",
        "antiguo",
        "antigua",
        "prima",
        "precedente",
        "precedentemente",
        "vecchio",
        "vecchia",
        "antigo",
        "antiga",
        "voorheen",
        "vroeger",
        "vorige",
        "eerder",
        "oude",
    ])
});
/// Words directly before an event or a time of which the state before is wanted.
static BEFORE: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "before", "vor dem", "vor der", "vor den", "avant", "antes de", "prima di", "voor",
    ])
});
/// Phrases for the beginning of a year.
static YEAR_START: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "start of",
        "beginning of",
        "early",
        "new year",
        "anfang",
        "beginn",
        "jahresanfang",
        "neujahr",
        "début",
        "nouvel an",
        "principios de",
        "comienzos de",
        "año nuevo",
        "inizio",
        "capodanno",
        "início",
        "começo",
        "ano novo",
        "begin",
        "nieuwjaar",
    ])
});
/// Other words of questions about the past.
static PAST: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "was",
        "were",
        "did",
        "had",
        "once",
        "back then",
        "at the time",
        "history",
        "historical",
        "damals",
        "war",
        "waren",
        "hatte",
        "hatten",
        "galt",
        "était",
        "étaient",
        "avait",
        "era",
        "eran",
        "estaba",
        "tenía",
        "erano",
        "aveva",
        "estava",
        "tinha",
    ])
});
/// Phrases of notes that report a change.
static CHANGE: LazyLock<PhraseList> = LazyLock::new(|| {
    PhraseList::new(&[
        "now",
        "no longer",
        "anymore",
        "any more",
        "moved",
        "moves",
        "change",
        "changed",
        "changes",
        "new",
        "switch",
        "switched",
        "switches",
        "replace",
        "replaced",
        "replaces",
        "instead",
        "as of",
        "since",
        "from now on",
        "used to",
        "until",
        "update",
        "updated",
        "took over",
        "migrated",
        "migration",
        "renamed",
        "raised",
        "lowered",
        "upgrade",
        "upgraded",
        "became",
        "jetzt",
        "nun",
        "neu",
        "neue",
        "neuen",
        "neuer",
        "neues",
        "nicht mehr",
        "kein",
        "umgezogen",
        "gewechselt",
        "geändert",
        "statt",
        "ab sofort",
        "seit",
        "inzwischen",
        "mittlerweile",
        "ersetzt",
        "umgestellt",
        "verlegt",
        "maintenant",
        "désormais",
        "ne plus",
        "nouveau",
        "nouvelle",
        "remplacé",
        "depuis",
        "ahora",
        "nuevo",
        "nueva",
        "ya no",
        "cambió",
        "desde",
        "adesso",
        "ora",
        "nuovo",
        "nuova",
        "non più",
        "cambiato",
        "agora",
        "novo",
        "nova",
        "já não",
        "mudou",
        "nu",
        "nieuw",
        "nieuwe",
        "niet meer",
        "verhuisd",
        "sinds",
    ])
});

/// Returns the phrases of notes that report a change.
pub(super) fn list_change_phrases() -> &'static PhraseList {
    &CHANGE
}

/// Words of a text in lower case, with one space before and after each.
pub(super) struct NormalText(String);

impl NormalText {
    pub(super) fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words = lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty());
        let mut normal = String::from(" ");
        for word in words {
            normal.push_str(word);
            normal.push(' ');
        }
        Self(normal)
    }

    pub(super) fn contains_any(&self, phrases: &PhraseList) -> bool {
        let mut words = self.0.split(' ');
        let mut longer = phrases.longer.iter();
        words.any(|word| phrases.words.contains(word))
            || longer.any(|phrase| self.contains_phrase(phrase))
    }

    /// Compares whole words, without allocating a string for each phrase.
    fn contains_phrase(&self, phrase: &str) -> bool {
        self.0.match_indices(phrase).any(|(start, _)| {
            let end = start + phrase.len();
            self.0[..start].ends_with(' ') && self.0[end..].starts_with(' ')
        })
    }

    pub(super) fn asks_for_first(&self) -> bool {
        self.contains_any(&FIRST)
    }

    pub(super) fn asks_for_previous(&self) -> bool {
        self.contains_any(&PREVIOUS)
    }

    pub(super) fn asks_before(&self) -> bool {
        self.contains_any(&BEFORE)
    }

    pub(super) fn names_start_of_year(&self) -> bool {
        self.contains_any(&YEAR_START)
    }

    /// Returns the text after the first word for "before".
    pub(super) fn find_text_after_before(&self) -> Option<&str> {
        let rests = self.0.match_indices(' ').map(|(at, _)| &self.0[at + 1..]);
        rests.filter_map(|rest| BEFORE.strip_from(rest)).next()
    }

    /// Ignores the first word, because "was" begins German questions about the present.
    pub(super) fn asks_about_past(&self) -> bool {
        let after_first = self
            .0
            .trim_start()
            .find(' ')
            .map_or("", |end| &self.0[end + 1..]);
        Self(after_first.to_owned()).contains_any(&PAST)
    }
}
