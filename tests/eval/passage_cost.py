#!/usr/bin/env python3
"""Measures the cost of passages, with generated memories of about 2,000 characters, at growing sizes:

    tests/eval/passage_cost.py [--sizes N,N,...] [--questions N]
    MEMORY_EMBEDDER=local tests/eval/passage_cost.py --sizes 300

It prints one line of JSON for each size. Without MEMORY_EMBEDDER, the vectors come from tests/eval/embedding_endpoint.py and
are random, so that no model limits the indexing. With MEMORY_EMBEDDER=local, the model of MEMORY_MODEL_SOURCE computes them;
this measures its real rate.

The memories are stored in batches of 100. The service is restarted after the indexing, so that its resident memory and its
first question include the loading of the vectors. Every question is new, and one client asks them in turn.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. The data is in a temporary folder below TMPDIR. With MEMORY_TEST_POSTGRES, as
`tests/host/postgres -- COMMAND` sets it, the memories are stored in that database, which must be empty; the Python package
pg8000 must be installed.
"""

import argparse
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from common import REPOSITORY
from invented_text import Writer
from mcp_process import Call, CallFailed, McpProcess, Timing

BATCH = 100
# Seconds between two looks at the backlog, and the longest time without progress.
PERIOD, LONGEST_STANDSTILL = 2, 300
# Attempts to store a batch. The service asks for a repetition if the disk of a busy machine is slow; texts are stored once.
ATTEMPTS = 5


def batches(writer: Writer, count: int) -> Iterator[Call]:
    for begin in range(0, count, BATCH):
        items = [{"content": writer.long_memory()} for _ in range(min(BATCH, count - begin))]
        yield "remember", {"items": items}


def read_backlog(service: McpProcess) -> int | None:
    """Returns the number of memories that await an embedding, or none if the database did not answer in time."""
    try:
        return service.call("status", {})["structuredContent"]["index_backlog"]
    except CallFailed as failure:
        print(failure, file=sys.stderr)
        return None


def wait_for_embeddings(service: McpProcess) -> None:
    """Waits until no memory awaits an embedding. Fails if there is no progress."""
    least, since = None, time.monotonic()
    while (backlog := read_backlog(service)) != 0:
        if backlog is not None and (least is None or backlog < least):
            least, since = backlog, time.monotonic()
        elif time.monotonic() - since > LONGEST_STANDSTILL:
            sys.exit(f"{least} memories await an embedding, unchanged for {LONGEST_STANDSTILL} s; see {service.log}")
        if sys.stderr.isatty():
            print(f"\r{backlog} memories await an embedding ", end="", file=sys.stderr)
        time.sleep(PERIOD)


def sqlite_size(folder: Path) -> tuple[int, int]:
    """Returns the number of vectors and the bytes of the database file."""
    file = folder / "memory.db"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM embedding")
    connection.close()
    return count, file.stat().st_size


def postgres_size(url: str) -> tuple[int, int]:
    """Returns the number of vectors and the bytes of the database."""
    import pg8000.native

    parts = urllib.parse.urlsplit(url)
    connection = pg8000.native.Connection(
        parts.username, host=parts.hostname, port=parts.port, password=parts.password, database=parts.path.strip("/")
    )
    [[count]] = connection.run("SELECT count(*) FROM embedding")
    [[size]] = connection.run("SELECT pg_database_size(current_database())")
    connection.close()
    return count, size


def questions(service: McpProcess, count: int) -> Timing:
    writer = Writer(seed=2)
    return service.call_all(("recall", {"query": writer.question(), "limit": 10}) for _ in range(count))


def without_meaning(answer: dict) -> bool:
    """Returns whether an answer was found by words alone, although there is an embedder."""
    return any(note.startswith("Searched by words alone") for note in answer["structuredContent"].get("notes", []))


def wait_for_search(service: McpProcess) -> float:
    """Returns the seconds until a recall searches by meaning. Before, the vectors are read from the file."""
    begin = time.monotonic()
    while without_meaning(service.call("recall", {"query": Writer(seed=3).question()})):
        if time.monotonic() - begin > LONGEST_STANDSTILL:
            sys.exit(f"recall does not search by meaning {LONGEST_STANDSTILL} s after the start; see {service.log}")
    return time.monotonic() - begin


def settings(folder: Path, endpoint: str) -> dict[str, str]:
    """Returns the settings of the service."""
    own = {name: value for name, value in os.environ.items() if name.startswith(("MEMORY_EMBEDDER", "MEMORY_MODEL"))}
    if own.get("MEMORY_EMBEDDER") == "none":
        sys.exit("MEMORY_EMBEDDER: expected local or http, got none, with which there are no passages to measure")
    if not own:
        own = {"MEMORY_EMBEDDER": "http", "MEMORY_EMBEDDER_URL": endpoint, "MEMORY_MODEL": "random"}
    if url := os.environ.get("MEMORY_TEST_POSTGRES"):
        own["MEMORY_DATABASE_URL"] = url
    return own | {"HOME": str(folder), "MEMORY_DATA_DIR": str(folder), "MEMORY_LOG_LEVEL": "warn"}


def fill(program: str | Path, own: dict[str, str], folder: Path, writer: Writer, memories: int) -> dict:
    """Stores memories and waits for their embeddings."""
    with McpProcess([program, "stdio"], own, folder / "indexing.log") as service:
        wait_for_embeddings(service)
        begin = time.monotonic()
        repeated = sum(service.call_again(batch, ATTEMPTS, PERIOD) for batch in batches(writer, memories))
        stored = time.monotonic() - begin
        wait_for_embeddings(service)
        indexed = time.monotonic() - begin
        resident, processor = service.resident_megabytes(), service.processor_seconds()
    return {
        "added": memories,
        "indexing_processor_seconds": round(processor, 1),
        "repeated_batches": repeated,
        "seconds_until_stored": round(stored, 1),
        "seconds_until_indexed": round(indexed, 1),
        "resident_megabytes_after_indexing": round(resident),
    }


def ask(program: str | Path, own: dict[str, str], folder: Path, asked: int) -> dict:
    """Measures recall after a restart, by words and meaning and by words alone."""
    with McpProcess([program, "stdio"], own, folder / "asking.log") as service:
        waited = wait_for_search(service)
        both = questions(service, asked)
        if any(map(without_meaning, both.answers)):
            sys.exit("some questions were answered by words alone; repeat the measurement when the machine is less busy")
        resident = service.resident_megabytes()
    with McpProcess([program, "stdio"], own | {"MEMORY_EMBEDDER": "none"}, folder / "words.log") as service:
        service.call("recall", {"query": Writer(seed=3).question()})
        words = questions(service, asked)
    return {
        "resident_megabytes_after_questions": round(resident),
        "seconds_from_start_to_search_by_meaning": round(waited, 1),
        "recall_p50_ms": round(both.milliseconds(0.5), 1),
        "recall_p95_ms": round(both.milliseconds(0.95), 1),
        "recall_processor_ms": round(both.processor_milliseconds(), 1),
        "recall_by_words_p50_ms": round(words.milliseconds(0.5), 1),
        "recall_by_words_p95_ms": round(words.milliseconds(0.95), 1),
        "recall_by_words_processor_ms": round(words.processor_milliseconds(), 1),
    }


def measure(folder: Path, endpoint: str, sizes: list[int], asked: int) -> Iterator[dict]:
    """Yields the results of each size."""
    program = os.environ.get("MEMORY_TEST_BINARY", REPOSITORY / "target/debug/cognitive-memory-mcp")
    postgres = os.environ.get("MEMORY_TEST_POSTGRES")
    own, writer = settings(folder, endpoint), Writer(seed=1)
    for before, size in itertools.pairwise([0, *sizes]):
        filled = fill(program, own, folder, writer, size - before)
        vectors, stored = postgres_size(postgres) if postgres else sqlite_size(folder)
        yield {
            "database": "PostgreSQL" if postgres else "SQLite",
            "memories": size,
            "vectors": vectors,
            "database_megabytes": round(stored / 1e6),
            **filled,
            **ask(program, own, folder, asked),
            "load_average": round(os.getloadavg()[0], 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="25000,50000,100000", help="numbers of memories, ascending")
    parser.add_argument("--questions", type=int, default=50)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    command = [sys.executable, Path(__file__).with_name("embedding_endpoint.py"), "random"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as endpoint:
        try:
            address = endpoint.stdout.readline().strip()
            with tempfile.TemporaryDirectory(prefix="passage-cost-") as folder:
                for result in measure(Path(folder), address, sizes, options.questions):
                    print(json.dumps(result), flush=True)
        finally:
            endpoint.stdin.close()


if __name__ == "__main__":
    main()
