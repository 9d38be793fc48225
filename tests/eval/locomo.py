#!/usr/bin/env python3
"""Measures recall on conversations in the format of LoCoMo's locomo10.json, which is not part of this repository:

    MEMORY_LOCOMO=locomo10.json tests/eval/locomo.py [--json] [-- OPTION ...]

Each conversation is a separate corpus with one memory of kind dialogue per turn. Each question with evidence is one
recall, whose right answers are the turns of the evidence. The categories of questions are 1 multi-hop, 2 temporal,
3 open-domain, 4 single-hop and 5 adversarial. The metrics of `cognitive-memory-mcp eval` are averaged over the questions
of all conversations.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. Settings of the environment apply, such as the embedder.
Options after `--` are passed to `eval`.
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
    """Returns the report of one conversation."""
    memories = list(turns(sample["conversation"]))
    return report(memories, list(questions(sample["qa"], {memory["key"] for memory in memories})))


def pool(reports: list[Row], groups: list[str]) -> Row:
    """Returns the means over the questions of several reports."""
    parts = [report["groups"][group] for report in reports for group in groups if group in report["groups"]]
    count = sum(part["answerable"] for part in parts)
    means = {name: sum(part[key] * part["answerable"] for part in parts) / max(count, 1) for name, key in FIGURES.items()}
    return {"questions": count, **{name: round(100 * mean, 1) for name, mean in means.items()}}


def main() -> None:
    samples = conversations()
    if not samples:
        sys.exit("MEMORY_LOCOMO: expected the path of a file in the format of locomo10.json, but it is not set")
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
