"""Common code of the evaluation scripts: conversations as memories and questions, and the call of `eval`."""

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

# A line of a file: a memory, a question, or a result of the program.
Row = dict[str, Any]


def options() -> list[str]:
    """Returns the options after `--`, which are for `eval`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def flag(name: str) -> bool:
    """Returns whether a flag is given before `--`."""
    return name in sys.argv[1 : len(sys.argv) - len(options())]


def number_option(name: str) -> int | None:
    """Returns the number of an option `NAME=NUMBER` before `--`, or none."""
    for given in sys.argv[1 : len(sys.argv) - len(options())]:
        if given.startswith(f"{name}="):
            return int(given.removeprefix(f"{name}="))
    return None


def conversations() -> list[Row]:
    """Returns the conversations of the file in MEMORY_LOCOMO, or none if it is not set."""
    path = os.environ.get("MEMORY_LOCOMO")
    return json.loads(Path(path).read_text()) if path else []


def turns(conversation: Row) -> Iterator[Row]:
    """Yields the memories of a conversation."""
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
    """Returns the turn IDs of a question. Some entries have several, some irregular spacing or leading zeros."""
    found = {}
    for entry in entries:
        for session, turn in re.findall(r"D\s*:?\s*(\d+)\s*:\s*(\d+)", entry):
            found[f"D{int(session)}:{int(turn)}"] = None
    return list(found)


def questions(entries: Iterable[Row], known: set[str]) -> Iterator[Row]:
    """Yields the questions with evidence. Evidence that is not a turn of the conversation is ignored."""
    for entry in entries:
        expected = [turn for turn in evidence(entry.get("evidence") or []) if turn in known]
        if expected:
            yield {"query": entry["question"], "expected": expected, "group": CATEGORIES[entry["category"]]}


def read(path: Path) -> list[Row]:
    """Returns the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def report(memories: list[Row], asked: list[Row], settings: Mapping[str, str] | None = None) -> Row:
    """Returns the report of `eval` for these memories and questions."""
    program = os.environ.get("MEMORY_TEST_BINARY", REPOSITORY / "target/debug/cognitive-memory-mcp")
    # The program rejects unknown variables with its prefix, such as those of the tests.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_TEST", "MEMORY_LOCOMO", "MEMORY_LONGMEMEVAL"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, golden, output = (folder / f"{part}" for part in ("corpus.jsonl", "golden.jsonl", "report.json"))
        write(corpus, memories)
        write(golden, asked)
        command = [program, "eval", golden, "--corpus", corpus, "--output", output, *options()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ours | dict(settings or {}))
        return json.loads(output.read_text())


def progress(done: int, count: int, what: str) -> None:
    """Prints the progress on a terminal."""
    if sys.stderr.isatty():
        print(f"{done + 1} of {count}: {what}", file=sys.stderr)
