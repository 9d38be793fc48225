"""What the scripts beside this share: LoCoMo's conversations as memories and questions, and the program that measures."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CATEGORIES = {1: "1 multi-hop", 2: "2 temporal", 3: "3 open-domain", 4: "4 single-hop", 5: "5 adversarial"}

# A line of a file: a memory, a question, or what the program reports.
Row = dict[str, Any]


def options() -> list[str]:
    """What stands behind `--`, for `eval`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def flag(name: str) -> bool:
    """Whether a flag stands before `--`."""
    return name in sys.argv[1 : len(sys.argv) - len(options())]


def conversations() -> list[Row]:
    """The conversations of the file that MEMORY_LOCOMO names; none without it."""
    path = os.environ.get("MEMORY_LOCOMO")
    return json.loads(Path(path).read_text()) if path else []


def turns(conversation: Row) -> Iterator[Row]:
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


def evidence(entries: Iterable[str]) -> list[str]:
    """Turn ids of a question: some entries hold several, some have odd spacing or leading zeros."""
    found = {}
    for entry in entries:
        for session, turn in re.findall(r"D\s*:?\s*(\d+)\s*:\s*(\d+)", entry):
            found[f"D{int(session)}:{int(turn)}"] = None
    return list(found)


def questions(entries: Iterable[Row], known: set[str]) -> Iterator[Row]:
    """The questions that have evidence; what it names and nobody said does not count."""
    for entry in entries:
        expected = [turn for turn in evidence(entry.get("evidence") or []) if turn in known]
        if expected:
            yield {"query": entry["question"], "expected": expected, "group": CATEGORIES[entry["category"]]}


def read(path: Path) -> list[Row]:
    """The objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def report(memories: list[Row], asked: list[Row], settings: Mapping[str, str] | None = None) -> Row:
    """What `eval` reports of these questions, put to these memories."""
    program = os.environ.get("MEMORY_TEST_BINARY", REPOSITORY / "target/debug/cognitive-memory-mcp")
    # The program knows all names with its prefix; those of the tests are not among them.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_TEST", "MEMORY_LOCOMO"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, golden, output = (folder / f"{part}" for part in ("corpus.jsonl", "golden.jsonl", "report.json"))
        write(corpus, memories)
        write(golden, asked)
        command = [program, "eval", golden, "--corpus", corpus, "--output", output, *options()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ours | dict(settings or {}))
        return json.loads(output.read_text())


def progress(done: int, count: int, what: str) -> None:
    """Tells a person at a terminal what is measured."""
    if sys.stderr.isatty():
        print(f"{done + 1} of {count}: {what}", file=sys.stderr)
