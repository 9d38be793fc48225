"""The reader for LongMemEval, with two questions of our own in its format."""

import json
import os
import subprocess
import sys

from service import PATIENCE, REPOSITORY, binary, clean_environment

SAMPLE = REPOSITORY / "tests/data/longmemeval-sample.json"


def run(tmp_path, settings: dict[str, str]) -> subprocess.CompletedProcess:
    environment = clean_environment(tmp_path, settings) | {"MEMORY_TEST_BINARY": str(binary())}
    command = [sys.executable, REPOSITORY / "tests/eval/longmemeval.py", "--json"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=4 * PATIENCE)


def test_turns_and_sessions_are_measured(tmp_path):
    done = run(tmp_path, {"MEMORY_LONGMEMEVAL": str(SAMPLE)})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["left_out"] == 1, "the question that nothing answers"
    row = report["groups"]["single-session-user"]
    assert row == report["groups"]["all"]
    assert row["questions"] == 1 and row["turns R@1"] == row["sessions all@1"] == 100.0, row


def test_a_missing_file_is_an_error(tmp_path):
    done = run(tmp_path, {})
    assert done.returncode == 1 and "MEMORY_LONGMEMEVAL: expected the path" in done.stderr, done.stderr
