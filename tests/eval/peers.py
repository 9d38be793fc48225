#!/usr/bin/env python3
"""Compares this service with two other memory servers on one machine, as tables in Markdown:

    tests/eval/peers.py [--model FOLDER] [--python PYTHON] [--rounds N] [--notes N] [--environments FOLDER] [--json]

The peers are installed with pip and npm, in the versions below, into a temporary folder or into --environments. Each
system runs as a child process, is called over stdio, and keeps its data in an empty folder.

Speed: every round starts each system in turn. A system stores the same notes, one by one with one call and then with eight
calls in flight, and is asked the same questions, each of them once. The tables have the median of the rounds and their range.
`random vectors` means that both systems get the same vectors from tests/eval/embedding_endpoint.py; the questions then have
no meaning, and the time of a model is excluded.

Recall: the contents of the 604 memories of the golden set are stored without any other value, and the questions of the
groups below are asked. R@10 is the share of the right memories among the first ten hits. With --model, a folder with
all-MiniLM-L6-v2, the systems that search by meaning get the vectors of that model from the same endpoint.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. PYTHON runs the peer that is written in Python; its sqlite3
must be able to load extensions. Node 20 or newer and npm must be installed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import REPOSITORY, Row, read
from invented_text import Writer
from mcp_process import Call, McpProcess

PYTHON_PEER = "mcp-memory-service==12.4.0"
NODE_PEER = "@modelcontextprotocol/server-memory@2026.8.31"
ENDPOINT_PACKAGES = ["numpy==2.4.6", "safetensors==0.8.0", "tokenizers==0.23.3"]

# Groups of the golden set whose questions need neither dates nor sessions, nor a model of another language.
GROUPS = ("keyword", "question", "paraphrase", "identifier", "name", "typo", "multi")
HITS = 10
IN_FLIGHT = 8
# Time limit of an installation in seconds.
INSTALL_LIMIT = 1200


@dataclass
class System:
    """A server, how to start it, and how to call it."""

    name: str
    search: str
    installed: Path
    command: list[str | Path]
    # Returns the settings for a folder with data and the address of an endpoint.
    settings: Callable[[Path, str], dict[str, str]]
    # Returns the call that stores the note with this number.
    store: Callable[[int, str], Call]
    # Returns the call that searches.
    find: Callable[[str], Call]
    # Returns the ID of a stored note from the answer.
    stored: Callable[[Row], str]
    # Returns the IDs of the hits from the answer, best first.
    found: Callable[[Row], list[str]]
    # Returns whether every note can be found by its vector.
    settled: Callable[[McpProcess], bool] = lambda _: True

    def uses_vectors(self) -> bool:
        return self.search != "words"


# ---------------------------------------------------------------------------------------------------- systems


def text_of(answer: Row) -> str:
    return "\n".join(block["text"] for block in answer["content"])


def this_service(search: str) -> System:
    program = Path(os.environ.get("MEMORY_TEST_BINARY", REPOSITORY / "target/debug/cognitive-memory-mcp")).resolve()

    def settings(folder: Path, endpoint: str) -> dict[str, str]:
        embedder = {"MEMORY_EMBEDDER": "none"}
        if search != "words":
            embedder = {"MEMORY_EMBEDDER": "http", "MEMORY_EMBEDDER_URL": endpoint, "MEMORY_MODEL": "all-MiniLM-L6-v2"}
        return embedder | {"MEMORY_DATA_DIR": str(folder), "MEMORY_LOG_LEVEL": "warn"}

    def settled(process: McpProcess) -> bool:
        return not process.call("status", {})["structuredContent"]["index_backlog"]

    def found(answer: Row) -> list[str]:
        content = answer["structuredContent"]
        if any(note.startswith("Searched by words alone") for note in content.get("notes", [])):
            sys.exit(f"{program}: a question was answered by words alone, because the endpoint did not answer in time")
        return [hit["id"] for hit in content["hits"]]

    return System(
        name="cognitive-memory-mcp",
        search=search,
        installed=program,
        command=[program, "stdio"],
        settings=settings,
        store=lambda _, text: ("remember", {"items": [{"content": text}]}),
        find=lambda question: ("recall", {"query": question, "limit": HITS}),
        stored=lambda answer: answer["structuredContent"]["memories"][0]["id"],
        found=found,
        settled=settled if search != "words" else lambda _: True,
    )


def memory_service(environment: Path, mode: str = "semantic") -> System:
    """Returns the peer with a search mode: `semantic` is its default, `hybrid` combines vectors with words."""

    def settings(folder: Path, endpoint: str) -> dict[str, str]:
        return {
            "MCP_MEMORY_SQLITE_PATH": str(folder / "memory.db"),
            "MCP_EXTERNAL_EMBEDDING_URL": f"{endpoint}/embeddings",
            "MCP_EXTERNAL_EMBEDDING_MODEL": "all-MiniLM-L6-v2",
            # By default, texts that resemble stored ones are refused.
            "MCP_SEMANTIC_DEDUP_ENABLED": "false",
        }

    return System(
        name="mcp-memory-service",
        search="vectors" if mode == "semantic" else f"vectors, {mode} mode",
        installed=environment,
        command=[environment / "bin/memory-server"],
        settings=settings,
        store=lambda _, text: ("memory_store", {"content": text}),
        find=lambda question: ("memory_search", {"query": question, "limit": HITS, "mode": mode}),
        stored=lambda answer: re.search(r"hash: ([0-9a-f]{64})", text_of(answer))[1],
        found=lambda answer: re.findall(r"^ *Hash: ([0-9a-f]{64})$", text_of(answer), re.MULTILINE),
    )


def reference_server(environment: Path) -> System:
    program = environment / "node_modules/@modelcontextprotocol/server-memory/dist/index.js"

    def store(number: int, text: str) -> Call:
        return "create_entities", {"entities": [{"name": f"note {number}", "entityType": "note", "observations": [text]}]}

    return System(
        name="server-memory",
        search="words",
        installed=environment,
        command=["node", program],
        settings=lambda folder, _: {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")},
        store=store,
        find=lambda question: ("search_nodes", {"query": question}),
        stored=lambda answer: answer["structuredContent"]["entities"][0]["name"],
        found=lambda answer: [entity["name"] for entity in answer["structuredContent"]["entities"]][:HITS],
    )


# ---------------------------------------------------------------------------------------------------- installation


def run(*command: str | Path) -> None:
    done = subprocess.run(command, timeout=INSTALL_LIMIT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def python_environment(python: str, folder: Path, packages: list[str]) -> Path:
    """Installs packages into an environment without pip, so that its size is that of the packages."""
    if not (folder / "complete").exists():
        run(python, "-m", "venv", "--clear", "--without-pip", folder)
        run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", *packages)
        (folder / "complete").touch()
    return folder


def node_environment(folder: Path, package: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "complete").exists():
        run("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--prefix", folder, package)
        (folder / "complete").touch()
    return folder


def require_extensions(python: str) -> None:
    """Ends the program if the sqlite3 of this Python cannot load extensions."""
    probe = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)"
    if subprocess.run([python, "-c", probe], capture_output=True).returncode:
        sys.exit(
            f"--python: expected a Python whose sqlite3 can load extensions, got {python}, whose sqlite3 cannot. "
            "Name another one, such as /usr/bin/python3 of Debian."
        )


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files) / 1e6


# ---------------------------------------------------------------------------------------------------- measurement


@contextlib.contextmanager
def endpoint(python: str | Path, source: str) -> Iterator[str]:
    """Runs an endpoint for embeddings and returns its address."""
    command = [python, Path(__file__).with_name("embedding_endpoint.py"), source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextlib.contextmanager
def started(system: System, address: str) -> Iterator[McpProcess]:
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        own = system.settings(folder, address) | {"HOME": name}
        with McpProcess(system.command, own, folder / "server.log") as process:
            yield process


def wait_until_settled(system: System, process: McpProcess) -> None:
    while not system.settled(process):
        time.sleep(0.2)


def measure_speed(system: System, address: str, notes: int, asked: int) -> dict[str, float]:
    """Returns the metrics of one round."""
    writer = Writer(seed=1)
    texts = [writer.note() for _ in range(2 * notes)]
    questions = [system.find(writer.question()) for _ in range(2 * asked + 1)]
    stores = [system.store(number, text) for number, text in enumerate(texts)]
    begin = time.perf_counter()
    with started(system, address) as process:
        process.call(*questions.pop())
        first_answer = time.perf_counter() - begin
        idle, tools = process.resident_megabytes(), process.list_tools()
        begin = time.perf_counter()
        alone = process.call_all(stores[:notes])
        wait_until_settled(system, process)
        searchable = notes / (time.perf_counter() - begin)
        together = process.call_all(stores[notes:], IN_FLIGHT)
        wait_until_settled(system, process)
        searches = process.call_all(questions[:asked])
        concurrent = process.call_all(questions[asked:], IN_FLIGHT)
        return {
            "start to first answer, ms": 1000 * first_answer,
            "stores per second, one call in flight": alone.per_second(),
            "until found by vector: notes per second": searchable,
            "store, p50, ms": alone.milliseconds(0.5),
            "store, processor time, ms": alone.processor_milliseconds(),
            "stores per second, eight calls in flight": together.per_second(),
            "searches per second, one call in flight": searches.per_second(),
            "search, p50, ms": searches.milliseconds(0.5),
            "search, p95, ms": searches.milliseconds(0.95),
            "search, processor time, ms": searches.processor_milliseconds(),
            "searches per second, eight calls in flight": concurrent.per_second(),
            "resident memory at the start, MB": idle,
            "resident memory at the end, MB": process.resident_megabytes(),
            "number of tools": len(tools),
            "characters of the list of tools": len(json.dumps(tools, ensure_ascii=False, separators=(",", ":"))),
        }


def measure_recall(system: System, address: str) -> dict[str, float]:
    """Returns R@10 by group in percent."""
    memories = read(REPOSITORY / "tests/golden/memories.jsonl")
    asked = [one for one in read(REPOSITORY / "tests/golden/queries.jsonl") if one["group"] in GROUPS]
    with started(system, address) as process:
        answers = process.call_all(system.store(number, memory["content"]) for number, memory in enumerate(memories)).answers
        ids = {memory["key"]: system.stored(answer) for memory, answer in zip(memories, answers, strict=True)}
        wait_until_settled(system, process)
        found = [system.found(answer) for answer in process.call_all(system.find(one["query"]) for one in asked).answers]
    shares: dict[str, list[float]] = {group: [] for group in (*GROUPS, "all")}
    for question, hits in zip(asked, found, strict=True):
        right = {ids[key] for key in question["expected"]}
        share = 100 * len(right & set(hits[:HITS])) / len(right)
        shares[question["group"]].append(share)
        shares["all"].append(share)
    return {f"{group} ({len(values)})": statistics.mean(values) for group, values in shares.items()}


# ---------------------------------------------------------------------------------------------------- tables


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or isinstance(value, int) else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def median_and_range(values: list[float]) -> str:
    if min(values) == max(values):
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def table(head: str, columns: dict[str, dict[str, str]]) -> str:
    rows = next(iter(columns.values()))
    lines = [f"| {head} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {row} | {' | '.join(column[row] for column in columns.values())} |" for row in rows]
    return "\n".join(lines)


def machine() -> dict[str, str | int]:
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    program = this_service("words").installed
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "load average": round(os.getloadavg()[0], 1),
        "this service": f"{version}, sha256 {hashlib.sha256(program.read_bytes()).hexdigest()}",
        "peers": f"{PYTHON_PEER}, {NODE_PEER}",
        "node": node,
    }


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of all-MiniLM-L6-v2; without it, no recall by meaning is measured")
    parser.add_argument("--python", default=sys.executable, help="Python of the peer; default: the one that runs this script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--notes", type=int, default=1000, help="notes of each of the two phases that store")
    parser.add_argument("--questions", type=int, default=200, help="questions of each of the two phases that search")
    parser.add_argument("--environments", type=Path, help="keeps the installed peers here; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    require_extensions(options.python)
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        report = compare(options, (options.environments or Path(temporary)).resolve())
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print("\n".join(f"- {name}: {value}" for name, value in report["machine"].items()))
    print("\n" + table("speed and size", report["speed"]))
    print("\n" + table("R@10, percent", report["recall"]))


def compare(options: argparse.Namespace, folder: Path) -> Row:
    progress("installing the peers")
    python_peer = python_environment(options.python, folder / "python", [PYTHON_PEER])
    node_peer = node_environment(folder / "node", NODE_PEER)
    systems = [this_service("words"), reference_server(node_peer), this_service("vectors"), memory_service(python_peer)]
    about = machine()
    rounds: dict[str, list[dict[str, float]]] = {}
    with endpoint(sys.executable, "random") as address:
        for place in range(options.rounds):
            for system in systems:
                progress(f"speed, round {place + 1} of {options.rounds}: {system.name}, {system.search}")
                name = f"{system.name}, {'random vectors' if system.uses_vectors() else 'words'}"
                rounds.setdefault(name, []).append(measure_speed(system, address, options.notes, options.questions))
    sizes = [megabytes(system.installed) for system in systems]
    speed = {
        name: {row: median_and_range([one[row] for one in each]) for row in each[0]} | {"installed, MB": number(size)}
        for (name, each), size in zip(rounds.items(), sizes, strict=True)
    }
    recall = compare_recall([*systems, memory_service(python_peer, "hybrid")], options.model, folder)
    return {"machine": about, "speed": speed, "recall": recall}


def compare_recall(systems: list[System], model: str | None, folder: Path) -> dict[str, dict[str, str]]:
    """Returns R@10 by system and group. Systems that search by meaning are omitted without a model."""
    source, python = "random", Path(sys.executable)
    if model:
        source, python = model, python_environment(sys.executable, folder / "endpoint", ENDPOINT_PACKAGES) / "bin/python"
    else:
        systems = [system for system in systems if not system.uses_vectors()]
    recall = {}
    with endpoint(python, source) as address:
        for system in systems:
            progress(f"recall: {system.name}, {system.search}")
            name = f"{system.name}, {system.search.replace('vectors', 'all-MiniLM-L6-v2')}"
            recall[name] = {group: f"{share:.1f}" for group, share in measure_recall(system, address).items()}
    return recall


if __name__ == "__main__":
    main()
