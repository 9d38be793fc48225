"""Texts of an invented language, for measurements that depend on the length of texts and not on their meaning."""

import itertools
import random

# Number of different words. A text uses the first ones most often.
VOCABULARY = 20_000
# Least number of characters of a long text.
LONG_TEXT = 2_000


class Writer:
    """Writes texts with the words of an invented language, distributed by Zipf's law."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        syllables = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
        words = random.Random(0)
        self.words = ["".join(words.choices(syllables, k=words.randint(1, 4))) for _ in range(VOCABULARY)]
        self.shares = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def sentence(self, least: int, most: int) -> str:
        words = self.source.choices(self.words, cum_weights=self.shares, k=self.source.randint(least, most))
        return " ".join(words).capitalize()

    def note(self) -> str:
        """Returns a text of 6 to 40 words."""
        return self.sentence(6, 40) + "."

    def long_memory(self) -> str:
        """Returns paragraphs of five sentences, of about 2,000 characters."""
        sentences: list[str] = []
        length = 0
        while length < LONG_TEXT:
            sentences.append(self.sentence(8, 20) + ".")
            length += len(sentences[-1]) + 1
        return "\n\n".join(" ".join(sentences[place : place + 5]) for place in range(0, len(sentences), 5))

    def question(self) -> str:
        return self.sentence(6, 10) + "?"
