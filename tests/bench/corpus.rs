//! Generated text with the statistics of real notes: word frequencies by Zipf's law, lengths of 6 to 40 words. The
//! same seed gives the same text.

/// A small random number generator (xorshift64*), so that a run can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Number of different words of the corpus.
pub(crate) const VOCABULARY: f64 = 60_000.0;

/// Returns the word of a rank: pronounceable, and without a common ending that a stemmer would remove.
pub(crate) fn word(mut rank: usize) -> String {
    const ONSET: [&str; 16] = [
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z", "br", "kr", "tr",
    ];
    const CORE: [&str; 5] = ["a", "e", "i", "o", "u"];
    let mut word = String::new();
    loop {
        word.push_str(ONSET[rank % 16]);
        word.push_str(CORE[rank / 16 % 5]);
        rank /= 80;
        if rank == 0 {
            word.push('k');
            return word;
        }
    }
}

/// Draws the rank of a word according to Zipf's law.
pub(crate) fn any_rank(random: &mut Random) -> usize {
    // Inverse of the cumulative Zipf distribution with exponent 1, approximated by the logarithm.
    VOCABULARY.powf(random.unit()) as usize - 1
}

fn any_word(random: &mut Random) -> String {
    word(any_rank(random))
}

/// Returns the text of one memory.
pub(crate) fn memory(random: &mut Random) -> String {
    let words: Vec<String> = (0..6 + random.below(35))
        .map(|_| any_word(random))
        .collect();
    words.join(" ")
}

/// Returns a question: some words of a generated text.
pub(crate) fn question(random: &mut Random) -> String {
    let words: Vec<String> = (0..4 + random.below(5)).map(|_| any_word(random)).collect();
    words.join(" ")
}
