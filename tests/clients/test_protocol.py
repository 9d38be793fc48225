"""JSON-RPC as clients send it: batches of revision 2025-03-26, incomplete handshakes, text that was cut inside a character,
and errors with the ID of their request."""

import json

import pytest

import wire
from wire import call, request, send

pytestmark = pytest.mark.anyio


@pytest.fixture
def service(sqlite, new_service):
    return new_service(sqlite)


def notification(method: str = "notifications/initialized") -> dict:
    return {"jsonrpc": "2.0", "method": method}


# ------------------------------------------------------------------------------------------------ batches


def batch(service, *messages, **headers):
    body = json.dumps([json.loads(message) if isinstance(message, str) else message for message in messages])
    return send(service, body=body, **headers)


@pytest.mark.parametrize("version", [{}, {"mcp_protocol_version": "2025-03-26"}])
def test_a_batch_is_executed_in_order(service, version):
    answer = batch(
        service,
        request("ping", id="first"),
        call("remember", {"items": [{"content": "Stored by a batch"}]}) ,
        notification(),
        request("tools/call", {"name": "recall", "arguments": {"query": "batch"}}, id=3),
        **version,
    )
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    first, stored, found = answer.json
    assert (first["id"], first["result"]) == ("first", {})
    assert (stored["id"], stored["result"]["structuredContent"]["created"]) == (1, 1)
    assert found["id"] == 3 and found["result"]["structuredContent"]["hits"][0]["content"] == "Stored by a batch"


def test_a_batch_without_requests_has_no_answer(service):
    answer = batch(service, notification(), notification("notifications/cancelled"))
    assert (answer.status, answer.text) == (202, "")
    answer = batch(service, {"jsonrpc": "2.0", "id": 1, "result": {}})
    assert (answer.status, answer.text) == (202, "")


def test_messages_of_a_batch_fail_independently(service):
    answer = batch(
        service, request("ping"), 5, [], {"jsonrpc": "2.0", "id": 2}, wire.initialize("2025-03-26"), request("memories/burn", id=4)
    )
    errors = [(each["id"], each.get("error", {}).get("code")) for each in answer.json]
    assert errors == [(1, None), (None, -32600), (None, -32600), (2, -32600), (1, -32600), (4, -32601)]


def test_the_size_of_a_batch_is_limited(service):
    answer = batch(service)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
    answer = batch(service, *[request("ping", id=n) for n in range(51)])
    assert answer.status == 400 and "50" in answer.json["error"]["message"]
    assert len(batch(service, *[request("ping", id=n) for n in range(50)]).json) == 50


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", "2026-07-28"])
def test_later_revisions_have_no_batches(service, version):
    answer = batch(service, request("ping"), mcp_protocol_version=version)
    assert answer.status == 400 and answer.json["error"]["code"] == -32600 and version in answer.json["error"]["message"]


# ------------------------------------------------------------------------------------------------ the handshake


@pytest.mark.parametrize(
    "changes",
    [
        {"capabilities": None},
        {"capabilities": []},
        {"capabilities": {"roots": None, "sampling": True}},
        {"clientInfo": {"name": "x"}},
        {"clientInfo": {"name": "x", "version": None}},
        {"clientInfo": None},
        {"protocolVersion": None},
        {"_meta": None},
    ],
    ids=str,
)
def test_an_incomplete_handshake_is_accepted(service, changes):
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}} | changes
    for given in (params, {name: value for name, value in params.items() if value is not None}):
        answer = send(service, body=request("initialize", given, id=0))
        assert answer.status == 200 and answer.json["id"] == 0, answer
        assert answer.json["result"]["serverInfo"]["name"] == "cognitive-memory-mcp", answer


@pytest.mark.parametrize("params, field", [({"protocolVersion": 5}, "protocolVersion"), ("x", "params"), ([1], "params")])
def test_an_invalid_handshake_is_refused_with_the_field(service, params, field):
    answer = send(service, body=json.dumps({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params}))
    error = answer.json["error"]
    assert answer.json["id"] == "i" and error["code"] == -32602 and field in error["message"], answer


def test_a_revision_without_a_handshake_has_no_initialize(service):
    answer = send(service, body=request("initialize", {"_meta": wire.meta()}), mcp_protocol_version="2026-07-28", mcp_method="initialize")
    assert answer.status == 404 and answer.json["error"]["code"] == -32601, answer


@pytest.mark.parametrize("arguments", [None, [], "", "{}"])
def test_missing_and_empty_arguments_are_equal(service, arguments):
    answer = send(service, body=call("status", arguments))
    assert answer.json["result"]["isError"] is False, answer


@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/list", "ping"])
@pytest.mark.parametrize("params", [None, [], {"_meta": None}, {"cursor": None}])
def test_missing_and_empty_params_are_equal(service, method, params):
    answer = send(service, body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    assert "result" in answer.json, answer


def test_a_known_method_with_wrong_params_is_not_called_unknown(service):
    for method in ("tools/call", "prompts/get", "resources/read"):
        answer = send(service, body=request(method, {"cursor": 5, "name": 5, "uri": 5}))
        assert answer.json["error"]["code"] == -32602 and "unknown method" not in answer.text, answer


# ------------------------------------------------------------------------------------------------ text


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("cut", ["cut \\ud83d", "\\ude00 cut", "cut \\ud83d\\ud83d\\ude00"])
async def test_text_cut_inside_an_emoji_is_stored_with_a_note(service, cut, size):
    text = cut + " and more" + "." * size
    body = (
        '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"remember","arguments":{"items":[{"content":"%s"}]}}}' % text
        if size < 60_000
        else '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"remember","arguments":{"items":[{"content":"%s"},{"content":"%s"}]}}}'
        % (cut + " and more", "." * 60_000 + " x")
    )
    answer = send(service, body=body)
    stored = answer.json["result"]
    assert answer.json["id"] == 7 and stored["isError"] is False, answer
    assert any("U+FFFD" in note for note in stored["structuredContent"]["notes"]) and "U+FFFD" in stored["content"][0]["text"]
    found = send(service, body=call("recall", {"query": "cut and more"})).json["result"]["structuredContent"]["hits"]
    assert any("\ufffd" in hit["content"] and "cut" in hit["content"] for hit in found)


def test_complete_surrogate_pairs_are_kept(service):
    answer = send(service, body=call("remember", {"items": [{"content": "whole \U0001f600 and \\ud83d as text"}]}))
    assert "notes" not in answer.json["result"]["structuredContent"] or "U+FFFD" not in answer.text
    found = send(service, body=call("recall", {"query": "whole text"})).json["result"]["structuredContent"]["hits"]
    assert found[0]["content"] == "whole \U0001f600 and \\ud83d as text"


@pytest.mark.parametrize(
    "body, id",
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\xff"}}', 1),
        (b'{"jsonrpc":"2.0","params":{"id":5,"a":"\xc3"},"method":"x","id":"last"}', "last"),
        (b'{"jsonrpc":"2.0","id":"cut","method":"tools/call","params":{"na', "cut"),
        (b'{"jsonrpc":"2.0","id":3,"method":"x",}', 3),
        (b'{"jsonrpc":"1.0","id":4,"method":"x"}', 4),
        (b'{"id":5,"method":"x"}', 5),
        (b'{"jsonrpc":"2.0","id":6}', 6),
        (b'{"jsonrpc":"2.0","id":6.5,"method":"ping"}', 6.5),
        (b"\xef\xbb\xbf" + b'{"jsonrpc":"2.0","id":8,"method":"nope"}', 8),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None),
        (b"no JSON", None),
        (b"", None),
    ],
)
def test_an_error_has_the_id_of_its_request(service, body, id):
    answer = send(service, body=body)
    assert answer.json["error"]["code"] < 0 and answer.json["id"] == id, answer


def test_notifications_may_have_an_empty_id(service):
    answer = send(service, body='{"jsonrpc":"2.0","id":null,"method":"notifications/initialized"}')
    assert (answer.status, answer.text) == (202, "")
