"""A short stability run, and unit tests of its accounting. docs/stability.md has a recorded run of ten minutes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent / "stability/run"
# Other tests examine the remaining kinds one by one; this one injects faults in sequence under load.
FAULTS = "kill -9 of the server,kill -9 of PostgreSQL,hang of the server,stop of PostgreSQL,power cut"


@pytest.mark.timeout(600)
def test_a_run_with_faults_loses_no_write_and_strands_no_client(static_binary, tmp_path):
    report = tmp_path / "report.md"
    words = [
        sys.executable, SCRIPT, "--minutes", "0.7", "--seed", "7", "--pause", "2", "--idle", "5", "--faults", FAULTS,
        "--binary", static_binary, "--journal", tmp_path / "journals", "--report", report, "--show-journal",
    ]  # fmt: skip
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    text = report.read_text()
    assert "| **acknowledged writes lost** | **0** of " in text
    assert "| **clients stranded** | **0** |" in text
    for kind in FAULTS.split(","):
        assert f"| {kind} | 1 | " in text, "every kind is injected and reported"


def test_the_accounting_finds_lost_changed_doubled_and_unknown_memories(tmp_path):
    from stability.accounting import settle_accounts
    from stability.workload import content_digest

    markers = ("kept", "gone", "changed", "old", "undeleted", "twice")
    digests = {marker: content_digest(f"[{marker}] text") for marker in markers}
    entries = [{"op": "remember", "rows": [[f"id-{marker}", digest, marker]]} for marker, digest in digests.items()]
    entries.append({"op": "update", "id": "id-old", "digest": digests["old"], "version": 2})
    entries.append({"op": "delete", "ids": ["id-undeleted"]})
    journal = tmp_path / "client-0.jsonl"
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    stored = {f"id-{marker}": {"id": f"id-{marker}", "content": f"[{marker}] text", "version": 1} for marker in markers}
    del stored["id-gone"]
    stored["id-changed"]["content"] = "[changed] another text"
    stored["id-other"] = {"id": "id-other", "content": "[twice] text", "version": 1}
    stored["id-new"] = {"id": "id-new", "content": "[invented] text", "version": 1}

    class StoredMemories:
        def call(self, tool, **arguments):
            if tool == "recall":
                return {"hits": list(stored.values())}
            return {"memories": [stored[id] for id in arguments["ids"] if id in stored]}

    account = settle_accounts(StoredMemories(), "tag", [journal], [])
    assert [problem.partition(":")[0] for problem in account.lost] == ["gone", "changed", "old", "undeleted"]
    assert account.doubled and all(problem.startswith("twice") for problem in account.doubled)
    assert [problem.partition(":")[0] for problem in account.unknown] == ["invented"]
    assert account.writes == 8 and account.live == 2


def test_the_outcome_of_a_pending_operation_may_be_stored_or_missing(tmp_path):
    from stability.accounting import settle_accounts
    from stability.workload import content_digest

    journal = tmp_path / "client-0.jsonl"
    row = ["id-purging", content_digest("[purging] text"), "purging"]
    journal.write_text(json.dumps({"op": "remember", "rows": [row]}) + "\n")
    pending = [
        {"tool": "forget", "arguments": {"ids": ["id-purging"], "mode": "purge"}, "markers": None},
        {"tool": "remember", "arguments": {"items": []}, "markers": ["unanswered"]},
    ]

    class StoredMemories:
        def call(self, tool, **_):
            return {"hits": [{"id": "id-unanswered", "content": "[unanswered] text"}], "memories": []}

    account = settle_accounts(StoredMemories(), "tag", [journal], pending)
    assert account.problems() == [] and account.stored == 1
