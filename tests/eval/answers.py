#!/usr/bin/env python3
"""Measures how often the service reports that no memory answers a question, as a table in Markdown:

    [MEMORY_LOCOMO=locomo10.json] tests/eval/answers.py [--json] [-- OPTION ...]

The corpora are the golden set and each conversation of a file in the format of LoCoMo's locomo10.json. Each corpus gets
its own questions, those of the other corpora, and those of tests/golden/strangers.jsonl. Without MEMORY_LOCOMO, the rows
that need the file are omitted. The report counts as given if there is no hit, or a note that no memory seems to answer, as
`cognitive-memory-mcp eval` counts it. The number in brackets includes notes that perhaps no memory answers. An answerable
question counts only if a right answer is among the ten hits. The parts of the golden set are random, with a fixed seed.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. Settings of the environment apply; if they name an embedder,
everything is measured a second time without it. Options after `--` are passed to `eval`.
"""

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from common import REPOSITORY, Row, conversations, flag, progress, questions, read, report, turns

SEED = 1
GOLDEN = REPOSITORY / "tests/golden"
ANSWERED = "answered, and a right answer is among the ten"
# The rows of the table by heading. Rows that need LoCoMo's conversations are omitted without them.
TABLE = {
    ANSWERED: ["golden set", "a half of it", "a twelfth of it", "LoCoMo"],
    "about something else": [
        "LoCoMo's questions, put to the golden set",
        'the same without their names ("she")',
        "the golden set's questions, put to LoCoMo",
        "of the world, of other homes and firms, put to LoCoMo",
        "of the world, put to the golden set",
    ],
    "near strangers": [
        "LoCoMo's about speakers of other conversations",
        "LoCoMo's about namesakes of its own speakers",
        "LoCoMo's of other conversations, without their names",
        "golden set: unanswerable",
        "a half of it: without the answer",
        "a twelfth of it: without the answer",
        "of other homes and firms, put to the golden set",
    ],
}


@dataclass
class Count:
    """The questions of a row, those with the report that no memory answers, and those with the weaker note."""

    number: int = 0
    told: int = 0
    doubted: int = 0


@dataclass
class Corpus:
    """Memories and their questions. The group of a question is its row."""

    name: str
    memories: list[Row]
    asked: list[Row] = field(default_factory=list)

    def own(self, row: str, own: Iterable[Row]) -> None:
        """Adds questions with their expected answers."""
        self.asked += [{**question, "group": row} for question in own]

    def strange(self, row: str, texts: Iterable[str]) -> None:
        """Adds questions that no memory of the corpus answers."""
        self.asked += [{"query": text, "expected": [], "group": row} for text in texts]


def texts(asked: Iterable[Row]) -> list[str]:
    return [question["query"] for question in asked]


def naming(names: Iterable[str]) -> re.Pattern[str]:
    """Returns a pattern that finds these names in a question."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names))) or '(?!)'})\b")


def speakers(corpora: Iterable[Corpus]) -> set[str]:
    return {memory["speaker"] for corpus in corpora for memory in corpus.memories}


def part(memories: list[Row], keep: Callable[[Row], bool]) -> list[Row]:
    """Returns the selected memories without references to other memories."""
    kept = [dict(memory) for memory in memories if keep(memory)]
    keys = {memory["key"] for memory in kept}
    for memory in kept:
        for name in ("sources", "supersedes"):
            if name in memory:
                memory[name] = [key for key in memory[name] if key in keys]
    return kept


def part_of(row: str, name: str, memories: list[Row], asked: list[Row]) -> Corpus:
    """Returns a part of the golden set with the questions that it answers, and those that only the rest answers.

    Questions that both answer in part are omitted."""
    corpus = Corpus(name, memories)
    keys = {memory["key"] for memory in memories}
    answerable = [question for question in asked if question["expected"]]
    corpus.own(row, (question for question in answerable if keys.issuperset(question["expected"])))
    gone = (question for question in answerable if keys.isdisjoint(question["expected"]))
    corpus.own(f"{row}: without the answer", ({**question, "expected": []} for question in gone))
    return corpus


def parts(row: str, count: int, memories: list[Row], asked: list[Row]) -> list[Corpus]:
    """Splits the golden set into `count` random parts. Conversations are not split."""

    def unit(memory: Row) -> str:
        return memory.get("session") or memory["key"]

    units = sorted({unit(memory) for memory in memories})
    random.Random(SEED).shuffle(units)
    of = {name: place % count for place, name in enumerate(units)}
    kept = (part(memories, lambda memory, place=place: of[unit(memory)] == place) for place in range(count))
    return [part_of(row, f"part {place} of {count} of the golden set", some, asked) for place, some in enumerate(kept, 1)]


def notes(memories: list[Row], asked: list[Row], strangers: list[Row]) -> Corpus:
    """Returns the golden set with its questions."""
    corpus = Corpus("the golden set", memories)
    corpus.own("golden set", (question for question in asked if question["expected"]))
    corpus.own("golden set: unanswerable", (question for question in asked if not question["expected"]))
    for group, row in (("world", "of the world"), ("elsewhere", "of other homes and firms")):
        corpus.own(f"{row}, put to the golden set", (question for question in strangers if question["group"] == group))
    return corpus


def talks(samples: list[Row]) -> list[Corpus]:
    """Returns the conversations with their own questions."""
    corpora = []
    for number, sample in enumerate(samples, 1):
        corpus = Corpus(f"conversation {number}", list(turns(sample["conversation"])))
        corpus.own("LoCoMo", questions(sample["qa"], {memory["key"] for memory in corpus.memories}))
        corpora.append(corpus)
    return corpora


def exchange(golden: Corpus, spoken: list[Corpus]) -> None:
    """Adds the questions of the conversations to the golden set, and those of each conversation to the others."""
    own = {corpus.name: texts(corpus.asked) for corpus in spoken}
    everyone = naming(speakers(spoken))

    def nameless(asked: list[str]) -> list[str]:
        return [everyone.sub("she", text) for text in asked]

    asked = [text for each in own.values() for text in each]
    golden.strange("LoCoMo's questions, put to the golden set", asked)
    golden.strange('the same without their names ("she")', nameless(asked))
    for corpus in spoken:
        elsewhere = naming(speakers(spoken) - speakers([corpus]))
        asked = [text for name, each in own.items() if name != corpus.name for text in each]
        named = [text for text in asked if everyone.search(text)]
        corpus.strange("LoCoMo's about speakers of other conversations", (text for text in named if elsewhere.search(text)))
        corpus.strange("LoCoMo's about namesakes of its own speakers", (text for text in named if not elsewhere.search(text)))
        corpus.strange("LoCoMo's of other conversations, without their names", nameless(asked))


def everything(samples: list[Row]) -> list[Corpus]:
    """Returns all corpora."""
    memories, asked, strangers = (read(GOLDEN / f"{name}.jsonl") for name in ("memories", "queries", "strangers"))
    golden, spoken = notes(memories, asked, strangers), talks(samples)
    if spoken:
        exchange(golden, spoken)
    for corpus in spoken:
        corpus.strange("the golden set's questions, put to LoCoMo", texts(asked))
        corpus.strange("of the world, of other homes and firms, put to LoCoMo", texts(strangers))
    some = [*parts("a half of it", 2, memories, asked), *parts("a twelfth of it", 12, memories, asked)]
    return [golden, *some, *spoken]


def count(counts: dict[str, Count], asked: list[Row]) -> None:
    """Adds the questions of a report to their rows."""
    for question in asked:
        # If no right answer was found, the report that there is none misleads nobody.
        if question["expected"] and not any(hit["right"] for hit in question["came"]):
            continue
        row = counts.setdefault(question["group"], Count())
        row.number += 1
        row.told += question["told_nothing"]
        row.doubted += question["doubted"]


def measure(every: list[Corpus], settings: dict[str, str]) -> tuple[str, dict[str, Count]]:
    """Returns the name of a column and the counts of its rows."""
    counts: dict[str, Count] = {}
    column = "words alone"
    for place, corpus in enumerate(every):
        progress(place, len(every), corpus.name + (", by words alone" if settings else ""))
        found = report(corpus.memories, corpus.asked, settings)
        count(counts, found["questions"])
        if found.get("model"):
            column = "words and meaning"
    return column, counts


def share(row: str, counted: Count) -> str:
    """Formats the shares of a row in percent. Shares of answered questions are small and get a decimal."""
    told, doubted = (100 * count / max(counted.number, 1) for count in (counted.told, counted.doubted))
    return f"{told:.{int(row in TABLE[ANSWERED])}f} ({doubted:.0f})"


def markdown(columns: dict[str, dict[str, Count]]) -> Iterable[str]:
    yield f"| questions | number | {' | '.join(columns)} |"
    yield "|---" * (2 + len(columns)) + "|"
    for heading, rows in TABLE.items():
        yield f"| **{heading}** |" + " |" * (1 + len(columns))
        for row in rows:
            counts = [column[row] for column in columns.values() if row in column]
            if counts:
                numbers = " / ".join(dict.fromkeys(str(counted.number) for counted in counts))
                yield f"| {row} | {numbers} | {' | '.join(share(row, counted) for counted in counts)} |"


def main() -> None:
    samples = conversations()
    every = everything(samples)
    columns = dict([measure(every, {})])
    if "words alone" not in columns:
        columns |= [measure(every, {"MEMORY_EMBEDDER": "none"})]
    if flag("--json"):
        rows = {column: {row: vars(counted) for row, counted in counts.items()} for column, counts in columns.items()}
        print(json.dumps(rows, indent=2))
        return
    print("\n".join(markdown(columns)))
    if not samples:
        print("\nMEMORY_LOCOMO is not set: the rows that need LoCoMo's conversations are omitted.")


if __name__ == "__main__":
    main()
