"""Hostile and odd requests: every one gets a well-formed answer that blames the caller in JSON terms, never the service."""

import json
import re
import socket

import pytest

import wire
from service import PATIENCE

ACCEPTED, REFUSED, EITHER = "accepted", "refused", "either"
# Words of the implementation, which no client understands.
FOREIGN_WORDS = re.compile(
    r"\b(struct|u64|i64|usize|f64|serde|sqlx|rusqlite|sqlstate|panicked|unwrap|expected (a |an )?(sequence|map)|"
    r"invalid type|unknown variant|a defect|internal error)\b|syntax error", re.IGNORECASE)


@pytest.fixture
def service(backend, new_service):
    return new_service(backend)


def structured(answer: wire.Answer) -> dict:
    result = answer.json["result"]
    assert not result.get("isError"), answer
    return result["structuredContent"]


def check(name: str, answer: wire.Answer, expected: str) -> None:
    assert answer.status < 500, (name, answer)
    body = answer.json
    assert body.get("jsonrpc") == "2.0" or "error" in body, (name, answer)
    refused = "error" in body or body["result"].get("isError", False)
    if expected != EITHER:
        assert refused == (expected == REFUSED), (name, answer)
    text = json.dumps(body.get("error") or (body["result"].get("content") if refused else ""))
    assert not FOREIGN_WORDS.search(text), (name, answer)
    if refused and "result" in body:
        assert ":" in text, (name, "names no field", answer)


def item(**fields) -> tuple[str, dict]:
    return "remember", {"items": [{"content": "The pelican nests high."} | fields]}


ID = "$id"
CALLS = [
    # Numbers in odd forms.
    ("a limit with blanks", ("recall", {"limit": " 5 "}), EITHER),
    ("a limit of full-width digits", ("recall", {"limit": "５"}), EITHER),
    ("a limit with an exponent", ("recall", {"limit": 1e1}), ACCEPTED),
    ("a limit as a truth value", ("recall", {"limit": True}), REFUSED),
    ("a fraction as limit", ("recall", {"limit": 2.5}), REFUSED),
    ("a negative limit", ("recall", {"limit": -1}), REFUSED),
    ("a limit beyond 64 bits", ("recall", {"limit": 2**64}), REFUSED),
    ("a limit of 400 digits", ("recall", {"limit": "9" * 400}), REFUSED),
    ("max_chars zero", ("explore", {"max_chars": 0}), REFUSED),
    ("max_chars below its least", ("focus", {"max_chars": 99}), REFUSED),
    ("max_chars above its most", ("review", {"action": "list", "max_chars": 1_000_001}), REFUSED),
    ("max_chars as text", ("explore", {"mode": "list", "max_chars": "100"}), ACCEPTED),
    ("max_chars null", ("focus", {"max_chars": None}), ACCEPTED),
    ("max_chars as a list", ("review", {"action": "list", "max_chars": [500, 600]}), REFUSED),
    ("max_chars under another name", ("explore", {"mode": "list", "maxCharacters": 500}), ACCEPTED),
    ("importance in percent", item(importance="70%"), EITHER),
    ("infinite importance", item(importance="Infinity"), REFUSED),
    ("importance of another sign", item(importance=-0.0), ACCEPTED),
    ("a version beyond 64 bits", ("update", {"id": ID, "content": "x", "expected_version": 2**63}), REFUSED),
    ("version zero", ("update", {"id": ID, "content": "x", "expected_version": 0}), REFUSED),
    # IDs.
    ("an ID in braces", ("get", {"ids": ["{%s}" % ID]}), EITHER),
    ("an ID as URN", ("get", {"ids": ["urn:uuid:" + ID]}), EITHER),
    ("an ID in capitals", ("get", {"ids": [ID.upper()]}), EITHER),
    ("an ID with blanks", ("get", {"ids": [f" {ID} "]}), EITHER),
    ("an ID with a wildcard", ("get", {"ids": ["%"]}), REFUSED),
    ("an ID with an underscore", ("get", {"ids": ["________"]}), REFUSED),
    ("an ID with a quote", ("get", {"ids": ["' OR 1=1 --"]}), REFUSED),
    ("201 IDs", ("get", {"ids": [ID] * 201}), REFUSED),
    ("one ID 200 times", ("get", {"ids": [ID] * 200}), ACCEPTED),
    ("forgetting nothing", ("forget", {"ids": []}), REFUSED),
    ("forgetting one ID twice", ("forget", {"ids": [ID, ID]}), ACCEPTED),
    # Times.
    ("a day that does not exist", ("recall", {"since": "2026-02-30"}), REFUSED),
    ("a month that does not exist", ("recall", {"since": "2026-13"}), REFUSED),
    ("a leap second", ("recall", {"since": "2016-12-31T23:59:60Z"}), EITHER),
    ("hour 24", ("recall", {"since": "2026-01-01T24:00:00Z"}), EITHER),
    ("a zone beyond the day", ("recall", {"since": "2026-01-01T00:00:00+25:00"}), REFUSED),
    ("year 0", item(occurred_at="0000-01-01"), EITHER),
    ("a year of six digits", item(occurred_at="+275760-09-13T00:00:00Z"), REFUSED),
    ("a time before all", ("recall", {"as_of": "-0001-01-01T00:00:00Z"}), REFUSED),
    ("seconds since 1970", ("recall", {"since": 1764000000}), EITHER),
    ("an ISO week", ("recall", {"since": "2026-W05"}), EITHER),
    ("German words", ("recall", {"since": "letzte Woche"}), ACCEPTED),
    ("a time as object", ("recall", {"since": {"date": "2026-01-01"}}), REFUSED),
    ("two points in time", ("recall", {"as_of": "2026-01-01", "valid_at": "2026-01-01"}), REFUSED),
    ("a period that ends before it begins", ("recall", {"since": "2026-02-01", "until": "2026-01-01"}), EITHER),
    # Text.
    ("NUL in a text", item(content="a\0b"), REFUSED),
    ("half an emoji", item(content="half \ud83d"), ACCEPTED),
    ("a text of combining marks", item(content="a" + "\u0301" * 5_000), ACCEPTED),
    ("a text of line breaks", item(content="a" + "\n" * 30_000 + "b"), ACCEPTED),
    ("a right-to-left override in a text", item(content="total \u202e001 euros"), ACCEPTED),
    ("escape sequences", item(content="\x1b[2J\x1b]0;title\x07 red"), ACCEPTED),
    ("a text one byte too long", item(content="x" * 65_537), REFUSED),
    ("a text that is as long as possible", item(content="x" * 65_536), ACCEPTED),
    ("a tag of line breaks", item(tags=["\n"]), REFUSED),
    ("33 tags", item(tags=[f"tag {n}" for n in range(33)]), REFUSED),
    ("a tag one byte too long", item(tags=["ü" * 64 + "x"]), REFUSED),
    ("a tag of zero width", item(tags=["\u200b"]), REFUSED),
    ("a session of zero width", item(session="\ufeff"), REFUSED),
    # Metadata.
    ("a prototype as key", item(metadata={"__proto__": {"x": 1}, "constructor": 1}), ACCEPTED),
    ("an empty key", item(metadata={"": 1}), EITHER),
    ("NUL in a key", item(metadata={"a\0": 1}), REFUSED),
    ("NUL in a value", item(metadata={"a": ["\0"]}), REFUSED),
    ("numbers at the limits", item(metadata={"a": [2**63 - 1, 2**64 - 1, -(2**63), 1e308, 5e-324]}), ACCEPTED),
    ("an integer beyond 64 bits", item(metadata={"a": 2**70}), EITHER),
    ("eight levels", item(metadata=json.loads('{"a":' * 8 + "1" + "}" * 8)), ACCEPTED),
    ("nine levels", item(metadata=json.loads('{"a":' * 9 + "1" + "}" * 9)), REFUSED),
    ("half an emoji in a key", item(metadata={"\udc00": "\ud800"}), EITHER),
    ("metadata as text", item(metadata='{"a": 1}'), ACCEPTED),
    ("metadata as a list", item(metadata=[["a", 1]]), REFUSED),
    ("metadata as text in text", item(metadata=json.dumps(json.dumps({"a": 1}))), EITHER),
    # Queries.
    ("operators of a word index", ("recall", {"query": 'NEAR("a b", 2) OR content:x* AND NOT ^y'}), ACCEPTED),
    ("an open quotation mark", ("recall", {"query": '"'}), ACCEPTED),
    ("wildcards", ("recall", {"query": "% _ * ? \\ [a-z]"}), ACCEPTED),
    ("a query of emoji", ("recall", {"query": "🦩🦩🦩"}), ACCEPTED),
    ("a query of stop words", ("recall", {"query": "the of and to a in"}), ACCEPTED),
    ("a query of 60,000 words", ("recall", {"query": "pelican " * 60_000}), ACCEPTED),
    ("a query of one long word", ("recall", {"query": "x" * 100_000}), ACCEPTED),
    ("a query with NUL", ("recall", {"query": "a\0b"}), EITHER),
    ("a query as a number", ("recall", {"query": 42}), EITHER),
    ("a query as a list", ("recall", {"query": ["pelican", "heron"]}), EITHER),
    ("a cursor of somebody else", ("recall", {"cursor": "AAAAAAAAAAAAAAAA"}), REFUSED),
    ("a cursor of line breaks", ("recall", {"cursor": "\n\n"}), EITHER),
    ("a cursor as object", ("get", {"ids": [ID], "cursor": {"a": 1}}), REFUSED),
    ("a tag that is a wildcard", ("recall", {"tags": ["%"]}), ACCEPTED),
    ("a kind that does not exist", ("recall", {"kinds": ["memory"]}), EITHER),
    # The graph.
    ("a relation to itself", ("link", {"relations": [{"from": "Ada", "type": "knows", "to": " ADA "}]}), REFUSED),
    ("a relation to itself by folding", ("link", {"relations": [{"from": "Straße", "type": "is", "to": "STRASSE"}]}), REFUSED),
    ("a period that ends first", ("link", {"relations": [
        {"from": "Ada", "type": "knows", "to": "Bo", "valid_from": "2026-02-01", "valid_to": "2026-01-01"}]}), REFUSED),
    ("a weight of more than everything", ("link", {"relations": [{"from": "Ada", "type": "knows", "to": "Bo", "weight": 1.01}]}), REFUSED),
    ("properties that are null", ("link", {"entities": [{"name": "Ada", "properties": None}]}), ACCEPTED),
    ("properties with NUL", ("link", {"entities": [{"name": "Ada", "properties": {"a": "\0"}}]}), REFUSED),
    ("an entity named by an ID", ("link", {"entities": [{"name": ID}]}), REFUSED),
    ("a type of blanks", ("link", {"entities": [{"name": "Ada", "type": "  "}]}), EITHER),
    ("a prefix with wildcards", ("explore", {"mode": "list", "name": "%_\\"}), ACCEPTED),
    ("a prefix with NUL", ("explore", {"mode": "list", "name": "\0"}), REFUSED),
    ("no path", ("explore", {"name": "Nobody", "to": "Nowhere"}), REFUSED),
    ("depth zero", ("explore", {"name": "Ada", "depth": 0}), REFUSED),
    # Working memory and reviews.
    ("an item without a text", ("focus", {"action": "add"}), REFUSED),
    ("an item of another session", ("focus", {"action": "drop", "id": ID, "session": "other"}), REFUSED),
    ("a page of another list", ("focus", {"archived": True, "cursor": "AAAA"}), REFUSED),
    ("a memory that replaces itself", ("review", {"action": "judge", "keep": ID, "replace": ID, "judgement": "duplicate"}), REFUSED),
    ("a judgement that does not exist", ("review", {"action": "judge", "keep": ID, "replace": ID, "judgement": "same"}), REFUSED),
    ("candidates of an unknown entity", ("review", {"action": "candidates", "entity": "Nobody"}), REFUSED),
    # Arguments as a whole.
    ("arguments as a list", ("recall", ["pelican"]), REFUSED),
    ("arguments as a number", ("recall", 7), REFUSED),
    ("a list in a list", ("remember", {"items": [[{"content": "x"}]]}), EITHER),
    ("items as text in text", ("remember", {"items": json.dumps([json.dumps({"content": "a text in a text"})])}), EITHER),
    ("an item that is null", ("remember", {"items": [None]}), REFUSED),
    ("501 items", ("remember", {"items": [{"content": f"number {n}"} for n in range(501)]}), REFUSED),
    ("a field of a thousand names", ("recall", {f"field{n}": n for n in range(1_000)}), EITHER),
]


def test_odd_arguments_get_an_answer_that_a_client_understands(service):
    names = [name for name, *_ in CALLS]
    assert len(CALLS) >= 100 and len(set(names)) == len(names)
    for name, (tool, arguments), expected in CALLS:
        stored = structured(wire.send(service, body=wire.call(*item(content=f"a memory for {name}"))))
        id = stored["memories"][0]["id"]
        text = json.dumps(arguments).replace(json.dumps(ID.upper())[1:-1], id.upper()).replace(ID, id)
        check(name, wire.send(service, body=wire.call(tool, json.loads(text))), expected)
    assert structured(wire.send(service, body=wire.call("status", {})))["memories"] > 100


MESSAGES = {
    "no object": "7",
    "nothing": "",
    "text after the message": wire.request("ping") + "}",
    "two messages": wire.request("ping") + wire.request("ping"),
    "a byte order mark": "\ufeff" + wire.request("ping"),
    "no version": '{"id":1,"method":"ping"}',
    "another version": '{"jsonrpc":"1.0","id":1,"method":"ping"}',
    "a method that is a number": '{"jsonrpc":"2.0","id":1,"method":5}',
    "an unknown method": '{"jsonrpc":"2.0","id":1,"method":"tools/unknown"}',
    "params that are a list": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
    "no name": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}',
    "a name that is a number": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}',
    "an unknown tool": wire.call("recal", {}),
    "an ID of null": '{"jsonrpc":"2.0","id":null,"method":"ping"}',
    "an ID with a fraction": '{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    "an ID that is an object": '{"jsonrpc":"2.0","id":{},"method":"ping"}',
    "a long ID": json.dumps({"jsonrpc": "2.0", "id": "x" * 100_000, "method": "ping"}),
    "a number that is too large": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":{"limit":1e400}}}',
    "not a number": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":{"limit":NaN}}}',
    "a key twice": '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    "an empty batch": "[]",
    "a batch in a batch": f"[[{wire.request('ping')}]]",
    "a batch of 51": "[" + ",".join([wire.request("ping")] * 51) + "]",
    "a comment": "/* hello */ " + wire.request("ping"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_odd_messages_get_a_well_formed_answer(sqlite, new_service, name):
    service = new_service(sqlite)
    answer = wire.send(service, body=MESSAGES[name])
    assert answer.status < 500 and answer.text, answer
    answers = answer.json if isinstance(answer.json, list) else [answer.json]
    for each in answers:
        assert each["jsonrpc"] == "2.0" and ("result" in each or each["error"]["message"]), answer
        assert not FOREIGN_WORDS.search(json.dumps(each.get("error", ""))), answer
    assert wire.send(service, body=wire.request("ping")).status == 200


BODY = wire.request("ping").encode()
HEADS = {
    "two lengths": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a negative length": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "a length with a sign": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\n",
    "a length beyond 64 bits": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "a length and chunks": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    "no host": b"POST /mcp HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two hosts": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a folded header": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a header without a name": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    "500 headers": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "a header of 100 kB": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "a path of 100 kB": b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path upwards": b"GET /mcp/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an escaped path": b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
    "a trace": b"TRACE /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: secret\r\n\r\n",
    "a method that does not exist": b"BREW /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}


@pytest.mark.parametrize("name", HEADS)
def test_odd_heads_are_refused_and_the_connection_ends(sqlite, new_service, name):
    service = new_service(sqlite)
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stream:
        stream.sendall(HEADS[name])
        stream.shutdown(socket.SHUT_WR)
        try:
            while piece := stream.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    status = int(received.split(b" ", 2)[1]) if received else 400
    assert 200 <= status < 500, received[:500]
    assert b"secret" not in received and b"root:" not in received
    assert wire.send(service, body=wire.request("ping")).status == 200
