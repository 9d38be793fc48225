#!/usr/bin/env python3
"""Measures recall on the conversations of a file in the form of LoCoMo's locomo10.json, which is not part of this tree:

    MEMORY_LOCOMO=locomo10.json tests/eval/locomo.py [--json] [-- OPTION ...]

Each conversation is a corpus of its own, one memory of kind dialogue a turn; each question with evidence is one recall,
right are the turns of its evidence. Questions are by category: 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop,
5 adversarial. The figures are those of `cognitive-memory-mcp eval`, means over the questions of all conversations.

MEMORY_TEST_BINARY names another program than target/debug/cognitive-memory-mcp. Settings of the environment hold, such
as the embedder; options behind `--` go to `eval`.
"""

import json
import sys

from common import CATEGORIES, Row, conversations, flag, progress, questions, report, turns

FIGURES = {
    "P@5": "precision_at_5",
    "R@5": "recall_at_5",
    "hit@5": "hit_at_5",
    "P@10": "precision_at_10",
    "R@10": "recall_at_10",
    "hit@10": "hit_at_10",
    "MRR": "mrr",
    "nDCG@10": "ndcg_at_10",
}


def measure(sample: Row) -> Row:
    """The report of one conversation."""
    memories = list(turns(sample["conversation"]))
    return report(memories, list(questions(sample["qa"], {memory["key"] for memory in memories})))


def pool(reports: list[Row], groups: list[str]) -> Row:
    """Means over the questions of several reports."""
    parts = [report["groups"][group] for report in reports for group in groups if group in report["groups"]]
    count = sum(part["answerable"] for part in parts)
    means = {name: sum(part[key] * part["answerable"] for part in parts) / max(count, 1) for name, key in FIGURES.items()}
    return {"questions": count, **{name: round(100 * mean, 1) for name, mean in means.items()}}


def main() -> None:
    samples = conversations()
    if not samples:
        sys.exit("MEMORY_LOCOMO: the path of a file in the form of locomo10.json is expected")
    reports = []
    for place, sample in enumerate(samples):
        progress(place, len(samples), "conversations")
        reports.append(measure(sample))
    every = list(CATEGORIES.values())
    rows = {name: pool(reports, [name]) for name in every}
    rows |= {"categories 1-4": pool(reports, every[:4]), "all": pool(reports, every)}
    if flag("--json"):
        print(json.dumps(rows, indent=2))
        return
    columns = ["questions", *FIGURES]
    print(f"{len(reports)} conversations, {sum(report['memories'] for report in reports)} memories\n")
    print(f"{'':16}" + "".join(f"{name:>10}" for name in columns))
    for name, row in rows.items():
        print(f"{name:16}" + "".join(f"{row[column]:>10}" for column in columns))


if __name__ == "__main__":
    main()
