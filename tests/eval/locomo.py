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
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CATEGORIES = {1: "1 multi-hop", 2: "2 temporal", 3: "3 open-domain", 4: "4 single-hop", 5: "5 adversarial"}
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


def turns(conversation):
    """The memories of a conversation."""
    numbers = sorted(int(match[1]) for name in conversation if (match := re.fullmatch(r"session_(\d+)", name)))
    for number in numbers:
        date = datetime.strptime(conversation[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y")
        at = date.replace(tzinfo=UTC).isoformat()
        for turn, said in enumerate(conversation[f"session_{number}"] or [], 1):
            text = said["text"]
            if caption := said.get("blip_caption"):
                text = f"{text} [image: {caption}]"
            yield {
                "key": said["dia_id"],
                "kind": "dialogue",
                "content": text,
                "speaker": said["speaker"],
                "session": f"session_{number}",
                "turn": turn,
                "occurred_at": at,
            }


def evidence(entries):
    """Turn ids of a question: some entries hold several, some have odd spacing or leading zeros."""
    found = {}
    for entry in entries:
        for session, turn in re.findall(r"D\s*:?\s*(\d+)\s*:\s*(\d+)", entry):
            found[f"D{int(session)}:{int(turn)}"] = None
    return list(found)


def questions(entries, known):
    """The questions that have evidence; what it names and nobody said does not count."""
    for entry in entries:
        expected = [turn for turn in evidence(entry.get("evidence") or []) if turn in known]
        if expected:
            yield {"query": entry["question"], "expected": expected, "group": CATEGORIES[entry["category"]]}


def measure(sample, folder, options):
    """The report of one conversation."""
    memories = list(turns(sample["conversation"]))
    asked = list(questions(sample["qa"], {memory["key"] for memory in memories}))
    files = {"corpus": memories, "golden": asked}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    program = os.environ.get("MEMORY_TEST_BINARY", REPOSITORY / "target/debug/cognitive-memory-mcp")
    command = [program, "eval", folder / "golden.jsonl", "--corpus", folder / "corpus.jsonl", *options]
    output = folder / "report.json"
    # The program knows all names with its prefix; those of the tests are not among them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_TEST", "MEMORY_LOCOMO"))}
    subprocess.run([*command, "--output", output], check=True, stdout=subprocess.DEVNULL, env=environment)
    return json.loads(output.read_text())


def pool(reports, groups):
    """Means over the questions of several reports."""
    parts = [report["groups"][group] for report in reports for group in groups if group in report["groups"]]
    count = sum(part["answerable"] for part in parts)
    means = {name: sum(part[key] * part["answerable"] for part in parts) / max(count, 1) for name, key in FIGURES.items()}
    return {"questions": count, **{name: round(100 * mean, 1) for name, mean in means.items()}}


def main():
    arguments = sys.argv[1:]
    options = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    path = os.environ.get("MEMORY_LOCOMO")
    if not path:
        sys.exit("MEMORY_LOCOMO: the path of a file in the form of locomo10.json is expected")
    reports = []
    for sample in json.loads(Path(path).read_text()):
        with tempfile.TemporaryDirectory() as folder:
            reports.append(measure(sample, Path(folder), options))
    every = list(CATEGORIES.values())
    rows = {name: pool(reports, [name]) for name in every}
    rows |= {"categories 1-4": pool(reports, every[:4]), "all": pool(reports, every)}
    if "--json" in arguments:
        print(json.dumps(rows, indent=2))
        return
    columns = ["questions", *FIGURES]
    print(f"{len(reports)} conversations, {sum(report['memories'] for report in reports)} memories\n")
    print(f"{'':16}" + "".join(f"{name:>10}" for name in columns))
    for name, row in rows.items():
        print(f"{name:16}" + "".join(f"{row[column]:>10}" for column in columns))


if __name__ == "__main__":
    main()
