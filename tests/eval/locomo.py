#!/usr/bin/env python3
"""Measures recall on conversations in the format of LoCoMo's locomo10.json, which is not part of this repository:

    MEMORY_LOCOMO=locomo10.json tests/eval/locomo.py [--json] [-- OPTION ...]

Each conversation is a separate corpus with one memory of kind dialogue per turn. Each question with evidence is one
recall, whose right answers are the turns of the evidence. The categories of questions are 1 multi-hop, 2 temporal,
3 open-domain, 4 single-hop and 5 adversarial. The metrics of `cognitive-memory-mcp eval` are averaged over the questions
of all conversations. The row "mean of categories" is the unweighted mean of the five categories, with which LMEB
(arXiv 2603.12572) reports nDCG@10.

The first lines name the data: SHA-256 of the file, and the first digits of SHA-256 of each conversation with its questions
(as JSON with sorted keys), so that a part of the file can be compared with the whole.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. Settings of the environment apply, such as the embedder.
Options after `--` are passed to `eval`.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from common import CATEGORIES, Row, conversations, flag, progress, questions, report, turns

METRICS = {
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
    means = {name: sum(part[key] * part["answerable"] for part in parts) / max(count, 1) for name, key in METRICS.items()}
    return {"questions": count, **{name: round(100 * mean, 1) for name, mean in means.items()}}


def mean_of_categories(rows: list[Row]) -> Row:
    """Returns the unweighted means of the categories that have questions."""
    rows = [row for row in rows if row["questions"]]
    means = {name: round(sum(row[name] for row in rows) / max(len(rows), 1), 1) for name in METRICS}
    return {"questions": sum(row["questions"] for row in rows), **means}


def data_hashes(samples: list[Row]) -> dict[str, str]:
    """Returns the hash of the file, and short hashes of its conversations with their questions."""
    hashes = {"file": hashlib.sha256(Path(os.environ["MEMORY_LOCOMO"]).read_bytes()).hexdigest()}
    for place, sample in enumerate(samples, 1):
        data = json.dumps({"conversation": sample["conversation"], "qa": sample["qa"]}, sort_keys=True)
        hashes[sample.get("sample_id", f"conversation {place}")] = hashlib.sha256(data.encode()).hexdigest()[:16]
    return hashes


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
    categories = mean_of_categories(list(rows.values()))
    rows |= {"categories 1-4": pool(reports, every[:4]), "all": pool(reports, every), "mean of categories": categories}
    hashes = data_hashes(samples)
    if flag("--json"):
        print(json.dumps({"data": hashes, "groups": rows}, indent=2))
        return
    columns = ["questions", *METRICS]
    print("\n".join(f"{name}: {value}" for name, value in hashes.items()))
    print(f"{len(reports)} conversations, {sum(report['memories'] for report in reports)} memories\n")
    print(f"{'':20}" + "".join(f"{name:>10}" for name in columns))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[column]:>10}" for column in columns))


if __name__ == "__main__":
    main()
