"""Calls as models and clients send them, over the wire, on both databases: calls.jsonl, one call per line.

    name       the special property of the call
    given      earlier calls, [tool, arguments]; $1 is the first ID that they stored, @1 its short form
    tool, arguments
    answer     required parts of the structured answer
    stored     all memories of the project afterwards, oldest first
    then       [tool, arguments, answer] of a later call
    absent     paths that the answer must not contain (in the first stored memory, if there is `stored`)
    notes      parts of the notes; a repaired call begins with a note about the repair
    refused    the field in the error; nothing is stored, unless `stored` lists the memories of earlier calls
    message    parts of the error
"""

import json
import pathlib

import pytest

import wire

CALLS = [json.loads(line) for line in pathlib.Path(__file__).with_name("calls.jsonl").read_text().splitlines()]
# Terms of the implementation, which clients do not know.
FOREIGN = ["a sequence", "a map", "f64", "usize", "i64", "struct ", "unknown variant", "unknown field", "invalid type", "serde"]


class Project:
    """A separate project, called with plain JSON-RPC."""

    def __init__(self, service) -> None:
        self.service = service
        self.authorization = f"Bearer {next(service.unused)}"
        self.ids: list[str] = []

    def fill(self, value):
        text = json.dumps(value)
        for place, id in enumerate(self.ids, 1):
            text = text.replace(f"${place}", id).replace(f"@{place}", id[-8:])
        return json.loads(text)

    def call(self, tool: str, arguments) -> dict:
        body = wire.request("tools/call", {"name": tool, "arguments": self.fill(arguments)})
        answer = wire.send(self.service, body=body, authorization=self.authorization)
        assert answer.status == 200, answer
        assert "result" in answer.json, answer
        return answer.json["result"]

    def succeed(self, tool: str, arguments) -> tuple[dict, str]:
        result = self.call(tool, arguments)
        text = result["content"][0]["text"]
        assert not result.get("isError"), f"{tool} refused {arguments}: {text}"
        return result["structuredContent"], text

    def stored(self) -> list[dict]:
        """Returns every memory, oldest first."""
        answer, _ = self.succeed("recall", {"limit": 100, "max_chars": 1_000_000, "include_outdated": True})
        assert "next_cursor" not in answer
        ids = [hit["id"] for hit in reversed(answer["hits"])]
        return self.succeed("get", {"ids": ids})[0]["memories"] if ids else []


def check(expected, found, path: str = "answer") -> None:
    """Checks that `found` contains everything that is expected. Lists must have the same length."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert isinstance(found, dict) and name in found, f"{path}.{name} is missing in {found}"
            check(value, found[name], f"{path}.{name}")
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(expected) == len(found), f"{path}: {expected} is not {found}"
        for index, value in enumerate(expected):
            check(value, found[index], f"{path}[{index}]")
    else:
        assert expected == found, f"{path}: {expected!r} is not {found!r}"


def lookup(value: dict, path: str):
    for name in path.split("."):
        value = value.get(name, {})
    return value


def test_the_file_has_many_calls_of_every_tool():
    assert len(CALLS) >= 150 and len({call["name"] for call in CALLS}) == len(CALLS)
    tools = {call["tool"] for call in CALLS}
    assert tools == {"remember", "recall", "get", "update", "forget", "focus", "link", "explore", "review", "status"}
    assert all("refused" in call or "answer" in call or "stored" in call for call in CALLS)


@pytest.mark.parametrize("call", CALLS, ids=[call["name"] for call in CALLS])
def test_a_call_does_what_was_meant_or_explains_its_refusal(shared, call):
    project = Project(shared)
    for tool, arguments in call.get("given", []):
        answer, _ = project.succeed(tool, arguments)
        project.ids += [memory["id"] for memory in answer.get("memories", [])]
    if "refused" in call:
        refused(project, call)
        return
    answer, text = project.succeed(call["tool"], call["arguments"])
    # Memories of the call itself have IDs as well.
    if call["tool"] == "remember":
        project.ids += [memory["id"] for memory in answer["memories"]]
    check(project.fill(call.get("answer", {})), answer)
    notes = answer.get("notes", [])
    for part in call.get("notes", []):
        assert any(part in note for note in notes), f"no note on {part}: {notes}"
        assert text.startswith("Note: "), text
    stored = project.stored() if "stored" in call else []
    if "stored" in call:
        check(project.fill(call["stored"]), stored, "stored")
    for path in call.get("absent", []):
        assert not lookup(stored[0] if stored else answer, path), f"{path} must be absent"
    if "then" in call:
        tool, arguments, expected = call["then"]
        check(project.fill(expected), project.succeed(tool, arguments)[0])


def refused(project: Project, call: dict) -> None:
    result = project.call(call["tool"], call["arguments"])
    assert result.get("isError"), f"accepted: {result}"
    error, text = result["structuredContent"]["error"], result["content"][0]["text"]
    assert error["code"] == "invalid_argument" and error["field"] == call["refused"], error
    for part in call.get("message", []):
        assert part in error["message"] and part in text, error["message"]
    for word in FOREIGN:
        assert word not in text, text
    read_only = call["tool"] in ("recall", "get", "explore", "status")
    assert ("Nothing was stored" in text) == (not read_only), text
    if "given" not in call or "stored" in call:
        check(call.get("stored", []), project.stored(), "stored")


def prompt(shared, arguments) -> dict:
    body = wire.request("prompts/get", {"name": "reflect", "arguments": arguments})
    return wire.send(shared, body=body, authorization=f"Bearer {next(shared.unused)}").json


@pytest.mark.parametrize("arguments", [
    {"outcome": "-0.5", "lesson": None, "memory": "", "runId": "r1"},
    {"outcome": -0.5, "runId": "r1"},
    '{"outcome": "-0.5", "runId": "r1"}',
], ids=["unset", "a number", "JSON text"])  # fmt: skip
def test_arguments_of_prompts_are_repaired_like_those_of_tools(shared, arguments):
    text = prompt(shared, arguments)["result"]["messages"][0]["content"]["text"]
    assert "Outcome: -0.5" in text and text.startswith("Note: ") and "ignored: runId" in text


def test_a_misspelt_argument_of_a_prompt_is_refused(shared):
    error = prompt(shared, {"leson": "x"})["error"]
    assert error["code"] == -32602 and "leson: unknown argument; did you mean lesson?" in error["message"], error


def test_a_prefix_of_a_tool_name_is_ignored(backend, new_service):
    service = new_service(backend, MEMORY_TOOL_PREFIX="memory_")
    listed = wire.send(service, body=wire.request("tools/list")).json["result"]["tools"]
    assert len(listed) == 10 and all(tool["name"].startswith("memory_") for tool in listed)
    for name in ("memory_status", "status"):
        assert wire.send(service, body=wire.call(name, {})).json["result"]["structuredContent"]["memories"] == 0


def test_large_arguments_are_answered_with_a_small_error(shared):
    """Arguments as large as the body limit allows are answered, and the error stays small."""
    project = Project(shared)
    for arguments in [
        {f"field{n}": n for n in range(100_000)},
        {"items": [[]] * 400},
        {"items": [{"content": "x", "tags": [None] * 150_000}]},
        {"items": "[" * 2_000_000},
        {"items": "[" + "1," * 1_000_000 + "1]"},
    ]:
        result = project.call("remember", arguments)
        assert result["isError"] and len(json.dumps(result)) < 30_000
    assert project.stored() == []
