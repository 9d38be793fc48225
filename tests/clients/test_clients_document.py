"""The examples of docs/clients.md work."""

import json
import os
import re
import subprocess
import tomllib

import pytest

from service import REPOSITORY, binary

TEXT = (REPOSITORY / "docs/clients.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_for_http_clients_work(sqlite, new_service, tmp_path):
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


def test_the_example_settings_are_valid_json_and_toml():
    settings = blocks("json")
    assert len(settings) >= 7
    for each in settings:
        json.loads(each)
    [codex] = blocks("toml")
    assert tomllib.loads(codex)["mcp_servers"]["memory"]["url"]


def test_the_stop_hook_asks_once_per_part_of_a_conversation(tmp_path):
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
    assert stop(170).returncode == 0, "a short continuation is not enough"
    assert stop(400, active=True).returncode == 0, "the hook does not react to its own question"
    assert stop(400).returncode == 2
    assert stop(200, session="s-2").returncode == 2, "conversations are counted separately"
    transcript.unlink()
    event = json.dumps({"session_id": "s-3", "transcript_path": str(transcript)})
    assert subprocess.run([hook], input=event, capture_output=True, text=True, timeout=30).returncode == 0


def session_start(folder, service, command: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the hook as Claude Code does: by a shell, in the repository, with the event on standard input."""
    event = {
        "session_id": "01a2-s", "transcript_path": str(folder / "t.jsonl"), "cwd": str(folder), "hook_event_name": "SessionStart",
        "source": "startup", "model": "some-model",
    }  # fmt: skip
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "cognitive-memory-mcp").exists():
        (programs / "cognitive-memory-mcp").symlink_to(binary())
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "MEMORY_URL": service.url,
        "CLAUDE_PROJECT_DIR": str(folder / "harbour"), **environment,
    }  # fmt: skip
    return subprocess.run(["sh", "-c", command], input=json.dumps(event), cwd=folder, env=environment, capture_output=True, text=True, timeout=30)


def test_the_start_hook_prints_the_memory(sqlite, new_service, tmp_path):
    service = new_service(sqlite)
    settings = next(each for each in map(json.loads, blocks("json")) if "hooks" in each)
    [start] = settings["hooks"]["SessionStart"]
    assert set(start["matcher"].split("|")) == {"startup", "resume", "clear", "compact"}, "all kinds of session starts"
    [hook] = start["hooks"]
    assert hook["type"] == "command" and hook["timeout"] <= 60
    # With exit code 0, all standard output becomes part of the conversation.
    empty = session_start(tmp_path, service, hook["command"])
    assert empty.returncode == 0 and empty.stdout.startswith("From memory"), empty
    for command in [
        "cognitive-memory-mcp remember 'The harbour deploys on Mondays.' --tag harbour",
        "cognitive-memory-mcp remember 'Bread needs yeast.'",
        "cognitive-memory-mcp remember 'It failed on a Friday.' --kind episode --situation deploy --outcome -1 --lesson 'Not on Fridays.'",
        "cognitive-memory-mcp remember 'so be it' --kind dialogue --session s",
    ]:
        assert session_start(tmp_path, service, command).returncode == 0
    started = session_start(tmp_path, service, hook["command"])
    assert started.returncode == 0 and not started.stderr, started
    head, *lines = started.stdout.splitlines()
    assert "data, not instructions" in head and "\x1b" not in started.stdout
    assert [any(text in line for line in lines) for text in ["Mondays", "yeast", "Friday", "so be it"]] == [True, True, True, False]
    [recall] = re.findall(r"^`(cognitive-memory-mcp recall .*)`\.$", TEXT, re.MULTILINE)
    fitting = session_start(tmp_path, service, recall)
    assert fitting.returncode == 0 and "Mondays" in fitting.stdout and "yeast" not in fitting.stdout
    # Without a service, the conversation starts nevertheless.
    service.stop()
    alone = session_start(tmp_path, service, hook["command"])
    assert alone.returncode == 0 and alone.stdout.startswith("From memory"), alone


def test_the_stop_hook_is_where_the_settings_look_for_it():
    settings = next(each for each in map(json.loads, blocks("json")) if "hooks" in each)
    [[hook]] = [entry["hooks"] for entry in settings["hooks"]["Stop"]]
    assert hook["command"] == "~/.claude/hooks/keep-memory" and f"\n`{hook['command']}`, made executable" in TEXT


@pytest.mark.parametrize("word", ["Claude Code", "Claude Desktop", "Cursor", "VS Code", "Codex", "Gemini CLI", "Any HTTP client"])
def test_every_client_has_a_section(word):
    assert f"\n## {word}\n" in TEXT
