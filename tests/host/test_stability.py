"""A short stability run as a test: hours in a minute. The ten minutes on record are in docs/stability.md."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent / "stability.py"
# The others have tests of their own; here it matters that they come one after the other under load.
FAULTS = "kill -9 of the server,kill -9 of PostgreSQL,hang of the server,stop of PostgreSQL,power cut"


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nobody_stranded(static_binary, tmp_path):
    report = tmp_path / "report.md"
    words = [
        sys.executable, SCRIPT, "--minutes", "0.7", "--seed", "7", "--pause", "2", "--idle", "5", "--faults", FAULTS,
        "--binary", static_binary, "--journal", tmp_path / "journals", "--report", report, "--show-journal",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    text = report.read_text()
    assert "| **acknowledged writes lost** | **0** of " in text
    assert "| **clients stranded** | **0** |" in text
    # Each kind struck, and the report says how it went.
    for kind in FAULTS.split(","):
        assert f"| {kind} | 1 | " in text


def test_a_lost_write_is_seen(tmp_path):
    """The accounting itself: what the service does not have, has changed, doubled or invented."""
    import json

    import stability

    journal = tmp_path / "client-0.jsonl"
    sums = {word: stability.digest(f"[{word}] text") for word in ("kept", "gone", "changed", "old", "undeleted", "twice")}
    entries = [{"op": "remember", "rows": [[f"id-{word}", sum, word]]} for word, sum in sums.items()]
    entries.append({"op": "update", "id": "id-old", "sum": sums["old"], "version": 2})
    entries.append({"op": "delete", "ids": ["id-undeleted"]})
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    stored = {f"id-{word}": {"id": f"id-{word}", "content": f"[{word}] text", "version": 1} for word in sums}
    del stored["id-gone"]
    stored["id-changed"]["content"] = "[changed] another text"
    stored["id-other"] = {"id": "id-other", "content": "[twice] text", "version": 1}
    stored["id-new"] = {"id": "id-new", "content": "[invented] text", "version": 1}

    class Service:
        def call(self, tool, **arguments):
            if tool == "recall":
                return {"hits": list(stored.values())}
            return {"memories": [stored[id] for id in arguments["ids"] if id in stored]}

    account = stability.settle_accounts(Service(), "tag", [journal], [])
    assert [problem.partition(":")[0] for problem in account.lost] == ["gone", "changed", "old", "undeleted"]
    assert account.doubled and all(problem.startswith("twice") for problem in account.doubled)
    assert [problem.partition(":")[0] for problem in account.unknown] == ["invented"]
    assert account.writes == 8 and account.live == 2
