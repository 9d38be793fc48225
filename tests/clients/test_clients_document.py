"""docs/clients.md: what stands there works."""

import json
import os
import re
import subprocess
import tomllib

import pytest

from service import REPOSITORY

TEXT = (REPOSITORY / "docs/clients.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_for_any_http_client(sqlite, new_service, tmp_path):
    service = new_service(sqlite)
    answers = []
    commands = blocks("sh test")
    assert len(commands) == 3
    for command in commands:
        command = command.replace("http://127.0.0.1:8765", service.base)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    remembered, recalled = (json.loads(answer)["result"]["structuredContent"] for answer in answers[:2])
    assert remembered["created"] == 1
    assert [hit["content"] for hit in recalled["hits"]] == ["Ada prefers tea over coffee."]
    assert "Ada prefers tea over coffee." in answers[2]


def test_the_settings_can_be_read():
    settings = blocks("json")
    assert len(settings) >= 7
    for each in settings:
        json.loads(each)
    [codex] = blocks("toml")
    assert tomllib.loads(codex)["mcp_servers"]["memory"]["url"]


def test_the_hook_asks_once_for_each_stretch(tmp_path):
    [text] = blocks("sh hook")
    hook = tmp_path / "keep-memory"
    hook.write_text(text)
    hook.chmod(0o755)
    transcript = tmp_path / "transcript of today.jsonl"

    def stop(lines: int, session: str = "s-1", active: bool = False) -> subprocess.CompletedProcess:
        transcript.write_text("{}\n" * lines)
        event = {"session_id": session, "transcript_path": str(transcript), "hook_event_name": "Stop", "stop_hook_active": active}
        return subprocess.run(
            [hook], input=json.dumps(event), capture_output=True, text=True, timeout=30,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        )  # fmt: skip

    assert stop(10).returncode == 0
    asked = stop(160)
    assert asked.returncode == 2 and "remember" in asked.stderr and not asked.stdout
    assert stop(170).returncode == 0, "not again for so little"
    assert stop(400, active=True).returncode == 0, "never in answer to itself"
    assert stop(400).returncode == 2
    assert stop(200, session="s-2").returncode == 2, "each conversation for itself"
    transcript.unlink()
    event = json.dumps({"session_id": "s-3", "transcript_path": str(transcript)})
    assert subprocess.run([hook], input=event, capture_output=True, text=True, timeout=30).returncode == 0


@pytest.mark.parametrize("word", ["Claude Code", "Claude Desktop", "Cursor", "VS Code", "Codex", "Gemini CLI", "Any HTTP client"])
def test_every_client_has_its_place(word):
    assert f"\n## {word}\n" in TEXT
