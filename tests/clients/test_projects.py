"""Projects are isolated: two clients make random calls of every tool, with IDs, names and cursors of each other's project
as arguments. All stored texts contain a mark of their project, which must not occur in answers to the other one."""

import itertools
import json
import random
import re

import pytest
from wire import call, request, send

TOKENS = {"red": "token-of-project-red", "blue": "token-of-project-blue"}
WORDS = ["meeting", "garden", "release", "coffee", "train"]
CALLS = 400
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Caller:
    """A client of one project, which collects the IDs, names and cursors of its answers."""

    def __init__(self, service, name: str, dice: random.Random) -> None:
        self.service, self.name, self.dice = service, name, dice
        self.mark = f"canary{name}"
        self.ids: list[str] = []
        self.cursors: list[str] = []
        self.texts: list[str] = []

    def call(self, tool: str, arguments: dict) -> str:
        answer = send(self.service, body=call(tool, arguments), Authorization=f"Bearer {TOKENS[self.name]}")
        assert answer.status == 200, answer
        result = answer.json.get("result", {})
        assert result.get("structuredContent", {}).get("error", {}).get("code") != "internal", (tool, arguments, answer)
        text = json.dumps(answer.json)
        if not result.get("isError"):
            # An answer may repeat IDs of the request, for example missing ones.
            given = UUID.findall(json.dumps(arguments))
            found = UUID.findall(json.dumps(result.get("structuredContent")))
            self.ids += [id for id in dict.fromkeys(found) if id not in self.ids and id not in given]
            cursor = (result.get("structuredContent") or {}).get("next_cursor")
            self.cursors += [cursor] if cursor else []
        return text


class Arguments:
    """Returns random arguments that match the schema of a tool, with IDs, names and cursors of both projects."""

    def __init__(self, own: Caller, other: Caller, dice: random.Random, reads: bool) -> None:
        self.own, self.other, self.dice, self.reads = own, other, dice, reads

    def text(self) -> str:
        word = self.dice.choice(WORDS)
        text = f"{word} {self.own.mark} {self.dice.randrange(40)}"
        self.own.texts.append(text)
        return text

    def id(self) -> str:
        pool = self.dice.choice([self.own.ids, self.other.ids, self.other.ids]) or ["01900000-0000-7000-8000-000000000000"]
        return self.dice.choice(pool[-60:])

    def value(self, name: str, schema: dict, root: dict):
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        for several in ("anyOf", "oneOf"):
            if several in schema:
                schema = self.dice.choice([each for each in schema[several] if each.get("type") != "null"])
                return self.value(name, schema, root)
        if "enum" in schema:
            return self.dice.choice(schema["enum"])
        kind = schema.get("type", "object")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "array":
            items = schema.get("items", {"type": "string"})
            return [self.value(name, items, root) for _ in range(self.dice.randrange(1, 4))]
        if kind == "object":
            return self.object(schema, root) if "properties" in schema else {"note": self.text()}
        if kind == "boolean":
            return self.dice.random() < 0.5
        if kind == "integer":
            return self.dice.choice([1, 2, 5, 20])
        if kind == "number":
            return self.dice.choice([0, 0.5, 1])
        if re.search(r"(^|_)ids?$|sources|supersedes|^memory$", name):
            return self.id()
        if name == "cursor":
            return self.dice.choice((self.own.cursors + self.other.cursors) or ["none"])
        if re.search(r"occurred_at|valid|since|until|before|after|as_of|(^|_)(at|from|to)$", name) and self.dice.random() < 0.7:
            return self.dice.choice(["2026-01-01", "2030-01-01T00:00:00Z"])
        if name in ("session", "speaker", "tags", "idempotency_key", "type", "project"):
            # Names that both projects use.
            return f"{name}-{self.dice.randrange(3)}"
        if name in ("query", "entity", "entities", "name") and self.dice.random() < 0.5:
            # A name that contains the other mark, but was stored by this project, is no leak.
            return self.dice.choice([*WORDS, self.other.mark] if self.reads else WORDS)
        return self.text()

    def object(self, schema: dict, root: dict, eager: float = 0.35) -> dict:
        wanted = schema.get("required", [])
        return {
            name: self.value(name, field, root) for name, field in schema.get("properties", {}).items()
            if name in wanted or self.dice.random() < eager
        }  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_random_calls_of_every_tool_return_nothing_of_another_project(new_service, backend, seed):
    service = new_service(backend, tokens=TOKENS)
    dice = random.Random(seed)
    callers = {name: Caller(service, name, dice) for name in TOKENS}
    listed = send(service, body=request("tools/list"), Authorization=f"Bearer {TOKENS['red']}")
    tools = {tool["name"]: tool["inputSchema"] for tool in listed.json["result"]["tools"]}
    readers = {tool["name"] for tool in listed.json["result"]["tools"] if tool["annotations"].get("readOnlyHint")}
    assert len(tools) >= 10 and "recall" in readers
    for caller in callers.values():
        for number in range(10):
            content = f"{WORDS[number % 5]} {caller.mark} start {number}"
            caller.call("remember", {"items": [{"content": content, "tags": ["tags-0"], "session": "session-0"}]})
        assert len(caller.ids) == 10
        # Entities with the same names in both projects.
        relations = [
            {"from": one, "to": two, "type": "near", "properties": {"note": f"{caller.mark} relation"}}
            for one, two in itertools.pairwise(WORDS)
        ]
        entities = [{"name": word, "properties": {"note": f"{caller.mark} entity"}} for word in WORDS]
        assert '"isError": true' not in caller.call("link", {"entities": entities, "relations": relations})
        caller.call("remember", {"items": [{"content": f"{caller.mark} mentions", "entities": WORDS}]})
        caller.call("focus", {"action": "add", "session": "session-0", "content": f"{caller.mark} in mind"})
    done: dict[str, int] = dict.fromkeys(tools, 0)
    for _ in range(CALLS):
        own, other = dice.sample(list(callers.values()), 2)
        tool = dice.choice(list(tools))
        made = Arguments(own, other, dice, tool in readers)
        arguments = made.object(tools[tool], tools[tool])
        if tool == "remember" and dice.random() < 0.6:
            arguments = {"items": [{"content": made.text(), "tags": ["tags-1"]}]} | (
                {"idempotency_key": f"idempotency_key-{dice.randrange(30)}"} if dice.random() < 0.5 else {}
            )
        if tool == "recall" and dice.random() < 0.6:
            arguments = {"query": dice.choice([*WORDS, other.mark])} | ({"explain": True} if dice.random() < 0.5 else {})
        answer = own.call(tool, arguments)
        ok = '"isError": true' not in answer and '"error"' not in answer
        done[tool] += ok
        said = json.dumps(arguments)
        if other.mark in answer:
            # An error may repeat the arguments, but nothing else.
            assert other.mark in said, (tool, arguments, answer)
            assert f"{other.mark} " not in answer.replace(said, ""), (tool, arguments, answer)
        leaked = (set(UUID.findall(answer)) & set(other.ids)) - set(UUID.findall(said))
        assert not leaked, (tool, arguments, leaked, answer)
    assert sum(count > 0 for count in done.values()) >= len(tools) - 2, f"too few calls succeeded: {done}"
    # At the end, each project contains only its own memories.
    for name, caller in callers.items():
        other = callers["blue" if name == "red" else "red"]
        for query in [*WORDS, other.mark]:
            answer = caller.call("recall", {"query": query, "limit": 100, "max_chars": 100_000})
            assert other.mark not in answer
        for word in WORDS:
            for tool, arguments in [
                ("explore", {"mode": "neighbours", "name": word}),
                ("explore", {"mode": "path", "name": WORDS[0], "to": word}),
                ("explore", {"mode": "suggest", "name": word}),
                ("explore", {"mode": "list"}),
                ("get", {"entities": [word]}),
                ("focus", {"action": "list", "session": "session-0"}),
                ("review", {"action": "list"}),
            ]:
                assert other.mark not in caller.call(tool, arguments), (tool, arguments)
        bearer = {"Authorization": f"Bearer {TOKENS[name]}"}
        for method, params in [
            ("prompts/get", {"name": "session_start"}),
            ("resources/read", {"uri": "memory://recent"}),
            ("resources/read", {"uri": f"memory://{other.ids[0]}"}),
            *(
                ("completion/complete", {"ref": {"type": "ref/resource", "uri": "memory://{id}"}, "argument": {"name": "id", "value": value}})
                for value in ("", other.ids[0][:8])
            ),
        ]:
            answer = send(service, body=request(method, params), **bearer)
            assert answer.status == 200 and other.mark not in answer.text, (method, params, answer)
            assert not set(UUID.findall(answer.text)) & set(other.ids) - set(UUID.findall(str(params))), (method, params, answer)
        for start in range(0, len(other.ids), 50):
            answer = caller.call("get", {"ids": other.ids[start : start + 50], "history": True, "include_deleted": True})
            assert other.mark not in answer and '"memories": [{' not in answer
