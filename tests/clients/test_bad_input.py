"""Invalid input: an error of a tool names field, value and expectation and has a stable code, and nothing is stored.
An error of the protocol is a JSON-RPC error."""

import json

import mcp
import pytest

import wire

ID = "01a2079a-0434-77bb-8d85-348159f597e4"
NOTE = {"content": "Fine"}
EPISODE = {"content": "x", "kind": "episode", "situation": "s", "outcome": 0, "lesson": "l"}


def deep(levels: int):
    return {"a": deep(levels - 1)} if levels else 1


def item(**fields) -> dict:
    return {"items": [NOTE, NOTE | fields]}


# Name, tool, arguments, field, parts of the message: from the value, and from the expectation.
CASES = [
    # remember: shapes
    ("no items", "remember", {}, "items", ["items"]),
    ("items is an object", "remember", {"items": {}}, "items[0].content", ["required"]),
    ("an item is a text", "remember", {"items": ["hello"]}, "items[0]", ["hello"]),
    ("empty batch", "remember", {"items": []}, "items", ["at least one"]),
    ("too many items", "remember", {"items": [{"content": str(n)} for n in range(501)]}, "items", ["501", "500"]),
    ("no content", "remember", {"items": [NOTE, {"kind": "note"}]}, "items[1].content", ["content"]),
    ("content is a number", "remember", item(content=5), "items[1].content", ["5", "string"]),
    ("10,000 items", "remember", {"items": [{"content": str(n)} for n in range(10_000)]}, "items", ["10000", "500"]),
    ("content is null", "remember", item(content=None), "items[1].content", ["null", "string"]),
    ("unknown field", "remember", item(contents="x"), "items[1].contents", ["contents", "content"]),
    ("unknown argument", "remember", {"items": [NOTE], "itemz": "x"}, "itemz", ["did you mean items?"]),
    ("unknown kind", "remember", item(kind="thing"), "items[1].kind", ["thing", "note", "episode"]),
    # remember: texts
    ("empty content", "remember", item(content=""), "items[1].content", ['""', "visible"]),
    ("blank content", "remember", item(content=" \n\t "), "items[1].content", ["visible"]),
    ("NUL in content", "remember", item(content="a\0b"), "items[1].content", ["a\\0b", "NUL"]),
    ("content too long", "remember", item(content="é" * 32_769), "items[1].content", ["65538", "65536"]),
    ("NUL in a tag", "remember", item(tags=["ok", "a\0"]), "items[1].tags[1]", ["NUL"]),
    ("empty tag", "remember", item(tags=[""]), "items[1].tags[0]", ['""', "visible"]),
    ("long tag", "remember", item(tags=["t" * 129]), "items[1].tags[0]", ["129", "128"]),
    ("many tags", "remember", item(tags=[str(n) for n in range(33)]), "items[1].tags", ["33", "32"]),
    ("long session", "remember", item(session="s" * 257), "items[1].session", ["257", "256"]),
    ("blank speaker", "remember", item(speaker=" "), "items[1].speaker", ["visible"]),
    ("long key", "remember", {"items": [NOTE], "idempotency_key": "k" * 257}, "idempotency_key", ["257", "256"]),
    # remember: numbers
    ("importance above", "remember", item(importance=1.1), "items[1].importance", ["1.1", "0", "1"]),
    ("importance below", "remember", item(importance=-0.1), "items[1].importance", ["-0.1"]),
    ("importance is a text", "remember", item(importance="high"), "items[1].importance", ["high"]),
    ("importance is NaN", "remember", item(importance="NaN"), "items[1].importance", ["NaN"]),
    ("negative turn", "remember", item(kind="dialogue", session="s", turn=-1), "items[1].turn", ["-1", "0"]),
    ("turn is a fraction", "remember", item(kind="dialogue", session="s", turn=1.5), "items[1].turn", ["1.5"]),
    ("turn without session", "remember", item(kind="dialogue", turn=1), "items[1].session", ["conversation"]),
    ("turn of a note", "remember", item(turn=1, session="s"), "items[1].turn", ["1", "dialogue"]),
    # remember: times
    ("no time", "remember", item(occurred_at="someday"), "items[1].occurred_at", ["someday", "2026-03-01"]),
    ("impossible day", "remember", item(occurred_at="2025-02-30"), "items[1].occurred_at", ["2025-02-30"]),
    ("the future", "remember", item(occurred_at="2190-01-01"), "items[1].occurred_at", ["2190-01-01", "future"]),
    ("year 12", "remember", item(occurred_at="0012-01-01"), "items[1].occurred_at", ["1970"]),
    ("valid_until", "remember", item(valid_until="soon"), "items[1].valid_until", ["soon"]),
    ("before 1970", "remember", item(occurred_at="1969-12-31T23:59:59Z"), "items[1].occurred_at", ["1969-12-31", "1970"]),
    ("valid until before 1970", "remember", item(valid_until="1969-12-31"), "items[1].valid_until", ["1969-12-31", "1970"]),
    ("time is a number", "remember", item(occurred_at=1700000000), "items[1].occurred_at", ["1700000000", "string"]),
    # remember: metadata
    ("metadata is a list", "remember", item(metadata=[1]), "items[1].metadata", ["array", "object"]),
    ("metadata too deep", "remember", item(metadata=deep(9)), "items[1].metadata", ["8"]),
    ("metadata 20 deep", "remember", item(metadata=deep(20)), "items[1].metadata", ["8"]),
    ("metadata too large", "remember", item(metadata={"a": "x" * 16_384}), "items[1].metadata", ["16384"]),
    ("NUL in metadata", "remember", item(metadata={"a": {"b": "\0"}}), "items[1].metadata", ["NUL"]),
    # remember: episodes, IDs
    ("episode without outcome", "remember", {"items": [EPISODE | {"outcome": None}]}, "items[0].outcome", ["-1 (failed) to 1"]),
    ("episode without lesson", "remember", {"items": [EPISODE | {"lesson": None}]}, "items[0].lesson", ["visible"]),
    ("outcome above", "remember", {"items": [EPISODE | {"outcome": 2}]}, "items[0].outcome", ["2", "-1", "1"]),
    ("lesson of a note", "remember", item(lesson="x"), "items[1].lesson", ["episode"]),
    ("source is no id", "remember", item(sources=[ID, "first"]), "items[1].sources[1]", ["first", "ID"]),
    ("superseded is no id", "remember", item(supersedes=["42"]), "items[1].supersedes[0]", ["42", "ID"]),
    ("many sources", "remember", item(sources=[ID] * 201), "items[1].sources", ["201", "200"]),
    # recall
    ("limit 0", "recall", {"limit": 0}, "limit", ["0", "1 to 100"]),
    ("limit 101", "recall", {"limit": 101}, "limit", ["101", "1 to 100"]),
    ("negative limit", "recall", {"limit": -1}, "limit", ["-1"]),
    ("limit is a text", "recall", {"limit": "ten"}, "limit", ["ten"]),
    ("huge limit", "recall", {"limit": 10**30}, "limit", ["1"]),
    ("max_chars 99", "recall", {"max_chars": 99}, "max_chars", ["99", "100"]),
    ("NUL in the query", "recall", {"query": "a\0b"}, "query", ["NUL"]),
    ("query is a list", "recall", {"query": ["a"]}, "query", ["array", "string"]),
    ("cursor", "recall", {"cursor": "nonsense"}, "cursor", ["nonsense", "next_cursor"]),
    ("unknown kind in recall", "recall", {"kinds": ["note", "thing"]}, "kinds[1]", ["thing", "note"]),
    ("since", "recall", {"since": "a while ago"}, "since", ["a while ago"]),
    ("until", "recall", {"until": "9999-01-01"}, "until", ["9999-01-01"]),
    ("since after until", "recall", {"since": "2026-02-02", "until": "2026-01-01"}, "until", ["2026-01-01"]),
    ("min_importance", "recall", {"min_importance": 3}, "min_importance", ["3"]),
    ("a misspelt filter", "recall", {"tgas": ["a"]}, "tgas", ["did you mean tags?"]),
    # get, update, forget, status
    ("get without ids", "get", {}, "ids", ["ids"]),
    ("get of nothing", "get", {"ids": []}, "ids", ["at least one"]),
    ("get of no id", "get", {"ids": [ID, "nope"]}, "ids[1]", ["nope", "id"]),
    ("get of too many", "get", {"ids": [ID] * 201}, "ids", ["201", "200"]),
    ("update without id", "update", {"content": "x"}, "id", ["id"]),
    ("update of no id", "update", {"id": "x", "content": "y"}, "id", ["x"]),
    ("update of nothing", "update", {"id": ID}, "update", ["at least one"]),
    ("update to empty", "update", {"id": ID, "content": " "}, "content", ["visible"]),
    ("version 0", "update", {"id": ID, "content": "x", "expected_version": 0}, "expected_version", ["0", "1"]),
    ("feedback", "update", {"id": ID, "feedback": "good"}, "feedback", ["good", "helpful"]),
    ("long reason", "update", {"id": ID, "content": "x", "reason": "r" * 2001}, "reason", ["2001", "2000"]),
    ("10,000 ids", "forget", {"ids": [ID] * 10_000}, "ids", ["10000", "200"]),
    ("10,000 ids to read", "get", {"ids": [ID] * 10_000}, "ids", ["10000", "200"]),
    ("metadata 20 deep in update", "update", {"id": ID, "metadata": deep(20)}, "metadata", ["8"]),
    ("event before 1970", "update", {"id": ID, "occurred_at": "1969-12-31"}, "occurred_at", ["1970"]),
    ("a look at before 1970", "recall", {"as_of": "1969-12-31"}, "as_of", ["1970"]),
    ("a relation to itself", "remember", item(relations=[{"from": "Zo\u00eb", "type": "is", "to": "ZOE\u0308"}]), "items[1].relations[0].to", ["another entity"]),
    ("focus on nothing", "focus", {"action": "add", "content": " "}, "content", ["visible"]),
    ("focus of no id", "focus", {"action": "touch", "id": "nope"}, "id", ["nope"]),
    ("review of no id", "review", {"action": "list", "id": "nope"}, "id", ["nope"]),
    ("future event", "update", {"id": ID, "occurred_at": "2180-01-01"}, "occurred_at", ["future"]),
    ("forget nothing", "forget", {"ids": []}, "ids", ["at least one"]),
    ("forget in no mode", "forget", {"ids": [ID], "mode": "erase"}, "mode", ["erase", "purge"]),
]  # fmt: skip


@pytest.mark.parametrize("tool, arguments, field, shown", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_a_refusal_names_field_value_and_expectation(memory, tool, arguments, field, shown):
    error = await memory.refused(tool, **arguments)
    assert error["code"] == "invalid_argument"
    assert error["field"] == field
    for part in [field, *shown]:
        assert part in error["message"], error["message"]
    assert len(error["message"]) < 500 and "\0" not in error["text"]
    assert (await memory.status())["memories"] == 0, "nothing was stored"


@pytest.mark.parametrize("position", [0, 250, 499])
async def test_a_batch_with_one_bad_item_stores_nothing(memory, position):
    items = [{"content": f"Item {n}"} for n in range(500)]
    items[position]["importance"] = 7
    error = await memory.refused("remember", items=items, idempotency_key="batch")
    assert error["field"] == f"items[{position}].importance"
    assert (await memory.status())["memories"] == 0
    # The idempotency key can still be used.
    items[position]["importance"] = 0.7
    output, _ = await memory.answer("remember", {"items": items, "idempotency_key": "batch"})
    assert output["created"] == 500


async def test_a_batch_with_an_unknown_source_stores_nothing(memory):
    error = await memory.refused("remember", items=[NOTE, {"content": "x", "sources": [ID]}])
    assert error["code"] == "not_found" and ID in error["message"]
    [turn] = await memory.remember({"kind": "dialogue", "content": "a", "session": "s", "turn": 1})
    error = await memory.refused("remember", items=[NOTE, {"kind": "dialogue", "content": "b", "session": "s", "turn": 1}])
    assert error["code"] == "turn_exists" and turn in error["message"]
    assert (await memory.status())["memories"] == 1


async def test_an_unknown_id_is_named(memory):
    await memory.remember(NOTE)
    assert (await memory.get(ID))["missing"] == [ID]
    for tool, arguments in [
        ("update", {"id": ID, "content": "x"}),
        *(("forget", {"ids": [ID], "mode": mode}) for mode in ("delete", "restore", "purge")),
        ("remember", {"items": [NOTE, {"content": "x", "supersedes": [ID]}]}),
        *(("focus", {"action": action, "id": ID}) for action in ("touch", "drop", "promote")),
        ("focus", {"action": "promote", "id": ID, "memory": True}),
        ("review", {"action": "candidates", "id": ID}),
    ]:
        error = await memory.refused(tool, **arguments)
        assert error["code"] == "not_found" and ID in error["message"]


async def test_names_that_differ_in_case_or_unicode_form_are_equal(memory):
    spellings = ["Zo\u00eb M\u00fcller", "ZOE\u0308 MU\u0308LLER", " zo\u00eb  m\u00fcller "]
    await memory.remember(*({"content": f"Text {n}", "entities": [name]} for n, name in enumerate(spellings)))
    await memory.call("link", entities=[{"name": name} for name in spellings])
    listed = (await memory.call("explore", mode="list"))["entities"]
    assert [entity["name"] for entity in listed] == [spellings[0]], "the first spelling is kept"
    assert len((await memory.get(entities=spellings))["memories"]) == 3


async def test_an_overlong_query_is_cut_with_a_note(memory):
    await memory.remember({"content": "needle"})
    output = await memory.recall("needle " * 20_000, max_chars=1000)
    assert len(output["hits"]) == 1 and "first 10000 characters" in output["notes"][0]


# ------------------------------------------------------------------------------------------------ the protocol


async def test_an_unknown_tool_is_a_protocol_error(memory):
    with pytest.raises(mcp.MCPError) as caught:
        await memory.result("remembr", {})
    assert caught.value.code == -32602 and "remembr" in caught.value.message and "remember" in caught.value.message


PROTOCOL_FAULTS = [
    ("not JSON", '{"jsonrpc": "2.0", ', -32700),
    ("empty", "", -32700),
    ("not UTF-8", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700),
    ("a text", '"ping"', -32600),
    ("an empty list", "[]", -32600),
    ("no method", '{"jsonrpc": "2.0", "id": 1}', -32600),
    ("another JSON-RPC", '{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
    ("id is an object", '{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
    ("unknown method", wire.request("memories/burn"), -32601),
    ("no tool name", wire.request("tools/call", {"arguments": {}}), -32602),
    ("tool name is a number", wire.request("tools/call", {"name": 5}), -32602),
    ("arguments are a list", wire.request("tools/call", {"name": "recall", "arguments": ["x"]}), -32602),
]  # fmt: skip


@pytest.mark.parametrize("body, code", [case[1:] for case in PROTOCOL_FAULTS], ids=[case[0] for case in PROTOCOL_FAULTS])
def test_a_protocol_error_is_a_json_rpc_error(shared, body, code):
    answer = wire.send(shared, body=body, authorization=f"Bearer {next(shared.unused)}")
    assert answer.headers.get("content-type", "").startswith("application/json"), answer
    error = answer.json["error"]
    assert answer.json["jsonrpc"] == "2.0" and error["code"] == code and len(error["message"]) > 10, error
    assert answer.status in (200, 400)


def test_a_body_above_the_limit_is_refused(backend, new_service):
    service = new_service(backend, MEMORY_MAX_BODY_BYTES="100000")
    fits = wire.call("remember", {"items": [{"content": "x" * 50_000}]})
    assert wire.send(service, body=fits).json["result"]["isError"] is False
    answer = wire.send(service, body=wire.call("remember", {"items": [{"content": "x" * 60_000}, {"content": "y" * 60_000}]}))
    assert answer.status == 413
    assert json.loads(wire.send(service, body=wire.call("status", {})).text)["result"]["structuredContent"]["memories"] == 1
