"""The measurement scripts in tests/eval, with small inputs of our own."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request

import pytest

from service import PATIENCE, REPOSITORY, binary, clean_environment

EVAL = REPOSITORY / "tests/eval"
CONVERSATION = {
    "session_1_date_time": "1:56 pm on 8 May, 2023",
    "session_1": [
        {"speaker": "Ada", "dia_id": "D1:1", "text": "The greenhouse needs a new pump before July."},
        {"speaker": "Bruno", "dia_id": "D1:2", "text": "My sister moved to Lisbon last week."},
    ],
}
QUESTIONS = [
    {"question": "Where did Bruno's sister move?", "evidence": ["D1:2"], "category": 4},
    {"question": "What does the greenhouse need?", "evidence": ["D1:1"], "category": 4},
    {"question": "Which submarine did the dentist paint?", "evidence": ["D1:2"], "category": 2},
]


def run(folder, script: str, *arguments: str, **settings: str) -> str:
    """Returns the output of a script."""
    environment = os.environ | clean_environment(folder, settings) | {"MEMORY_TEST_BINARY": str(binary())}
    command = [sys.executable, EVAL / script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def endpoint():
    """Runs the endpoint for random vectors and yields its address."""
    command = [sys.executable, EVAL / "embedding_endpoint.py", "random"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def test_locomo_reports_categories_their_mean_and_the_hashes_of_the_data(tmp_path):
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([{"sample_id": "one", "conversation": CONVERSATION, "qa": QUESTIONS}]))
    report = json.loads(run(tmp_path, "locomo.py", "--json", MEMORY_LOCOMO=str(file)))
    groups = report["groups"]
    assert groups["4 single-hop"]["questions"] == 2 and groups["4 single-hop"]["R@10"] == 100.0, groups
    found, missed = groups["4 single-hop"]["nDCG@10"], groups["2 temporal"]["nDCG@10"]
    assert groups["mean of categories"]["nDCG@10"] == pytest.approx((found + missed) / 2, abs=0.1)
    assert groups["all"]["nDCG@10"] == pytest.approx((2 * found + missed) / 3, abs=0.1)
    assert len(report["data"]["file"]) == 64 and len(report["data"]["one"]) == 16, report["data"]


def test_the_cost_of_passages_is_measured_at_each_size(tmp_path):
    with endpoint() as address:
        settings = {"MEMORY_EMBEDDER": "http", "MEMORY_EMBEDDER_URL": address, "MEMORY_MODEL": "random"}
        output = run(tmp_path, "passage_cost.py", "--sizes", "2,3", "--questions", "2", **settings)
    first, second = (json.loads(line) for line in output.splitlines())
    assert (first["memories"], second["memories"]) == (2, 3)
    assert first["vectors"] >= 2 * 10 and second["vectors"] > first["vectors"], output
    assert second["recall_p95_ms"] >= second["recall_p50_ms"] > 0 and second["resident_megabytes_after_questions"] > 0


def test_random_vectors_are_unit_vectors_that_depend_on_the_text_alone():
    body = json.dumps({"model": "any", "input": ["one", "two", "one"]}).encode()
    headers = {"Content-Type": "application/json"}
    with (
        endpoint() as address,
        urllib.request.urlopen(urllib.request.Request(f"{address}/embeddings", body, headers), timeout=PATIENCE) as response,
    ):
        first, other, again = (item["embedding"] for item in json.load(response)["data"])
    assert first == again != other and len(first) == 384
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-3)


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(EVAL))
    import peers

    return peers


def test_hits_of_each_system_are_read_in_their_order(peers, tmp_path):
    ours, reference = peers.this_service("words"), peers.reference_server(tmp_path)
    assert ours.found({"structuredContent": {"hits": [{"id": "b"}, {"id": "a"}]}}) == ["b", "a"]
    entities = [{"name": f"note {number}"} for number in range(12)]
    assert reference.found({"structuredContent": {"entities": entities}}) == [f"note {number}" for number in range(10)]
    python = peers.memory_service(tmp_path)
    first, second = "a" * 64, "b" * 64
    text = f"Found 2 memories\n\n1. One\nHash: no\n   Hash: {first}\n   Created: x\n2. Two\n   Hash: {second}\n"
    assert python.found({"content": [{"type": "text", "text": text}]}) == [first, second]


def test_a_python_without_extensions_is_an_error_that_names_the_option(peers):
    with pytest.raises(SystemExit, match="--python: expected a Python whose sqlite3 can load extensions, got false"):
        peers.require_extensions("false")
