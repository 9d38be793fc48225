"""Limits of the transport: size, depth and number of values of a body, memory use, connections, and slow peers."""

import concurrent.futures
import json
import pathlib
import resource
import socket
import time

import pytest

import wire
from service import PATIENCE, Service, http_get, wait_until

MIB = 1024 * 1024
BODY_LIMIT = 4 * MIB
# MemoryMax= of the shipped units.
MEMORY_MAX = 1024 * MIB
# Additional memory of one request.
MEMORY_OF_REQUEST = 64 * MIB


@pytest.fixture
def service(sqlite, new_service):
    return new_service(sqlite)


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


def attack(unit: str, size: int = BODY_LIMIT) -> str:
    """Returns a body of the largest size that repeats a small nested value."""
    head = '{"jsonrpc":"2.0","id":"attack","method":"x","params":{"a":['
    count = (size - len(head) - 3) // (len(unit) + 1)
    return head + ",".join([unit] * count) + "]}}"


ATTACKS = {
    "nested objects": attack(nested('{"a":', "}", 55)),
    "nested lists": attack(nested("[", "]", 55)),
    "deeper than the limit": attack(nested('{"a":', "}", 100)),
    "empty objects": attack("{}"),
    "empty lists": attack("[]"),
    "numbers": attack("1"),
    "one-key objects": attack('{"a":1}'),
    "arguments of a tool": attack('{"a":{}}').replace(
        '"method":"x","params":{"a":[', '"method":"tools/call","params":{"name":"remember","arguments":{"items":['
    ) + "}",
    "a batch": "[" + ",".join(['{"a":{}}'] * (BODY_LIMIT // 9)) + "]",
}


# ------------------------------------------------------------------------------------------------ memory


def status_value(service: Service, name: str) -> int:
    """Returns a value of /proc/PID/status in bytes."""
    text = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def reset_peak(service: Service) -> int:
    """Resets the peak of the resident memory to its current value."""
    pathlib.Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    return status_value(service, "VmHWM")


def peak_of(service: Service, work) -> int:
    """Returns by how many bytes the work raised the peak of the resident memory."""
    idle = reset_peak(service)
    work()
    return status_value(service, "VmHWM") - idle


def words(size: int, seed: int) -> str:
    """Returns text of different words, which all have to be indexed."""
    text, number = [], seed * 1_000_003
    length = 0
    while length < size:
        number = (number * 6364136223846793005 + 1442695040888963407) % 2**64
        word = f"w{number >> 40:x}"
        text.append(word)
        length += len(word) + 1
    return " ".join(text)[:size]


def largest_value(schema: dict, budget: int, seed: int = 1):
    """Returns the largest value that matches a schema, within about this number of bytes."""
    schema = next(iter(schema.get("anyOf", [])), schema)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "array":
        count = min(schema.get("maxItems", 200), 200)
        return [largest_value(schema.get("items", {}), budget // count, seed * 1000 + n) for n in range(count)]
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: largest_value(field, budget // max(len(fields), 1), seed) for name, field in fields.items()}
    if kind == "integer":
        return schema.get("maximum", 1)
    if kind == "number":
        return schema.get("maximum", 1)
    if kind == "boolean":
        return True
    return words(min(budget, 60_000), seed)


def calls_of(service: Service, ids: list[str]) -> dict[str, str]:
    """Returns the largest request for every listed tool, prompt and resource. The service may accept or refuse it; the test
    measures its memory."""
    calls = {}
    room = BODY_LIMIT - 64 * 1024
    for tool in wire.send(service, body=wire.request("tools/list")).json["result"]["tools"]:
        name, schema = tool["name"], tool["inputSchema"]
        calls[f"{name}, by its schema"] = wire.call(name, largest_value(schema, room // 2))
        for field, kind in schema.get("properties", {}).items():
            if kind.get("type") == "string" or "string" in str(kind.get("type")):
                calls[f"{name}, a large {field}"] = wire.call(name, {field: words(room, 7)})
        if "ids" in schema.get("properties", {}):
            calls[f"{name}, many IDs"] = wire.call(name, {"ids": ids[:200]})
    calls["remember, large texts"] = wire.call(
        "remember", {"items": [{"content": words(64_000, seed)} for seed in range(1, 64)]}
    )
    calls["remember, many items"] = wire.call(
        "remember",
        {"items": [{"content": words(7_000, seed), "tags": [f"t{seed}"], "entities": [f"E{seed}"]} for seed in range(1, 501)]},
    )
    calls["remember, many relations"] = wire.call(
        "remember",
        {"items": [
            {"content": f"Item {n}", "relations": [{"from": f"A{n} {m}", "type": "knows", "to": f"B{n} {m}"} for m in range(40)]}
            for n in range(500)
        ]},
    )  # fmt: skip
    # JSON text instead of a value is parsed as well.
    small = '{"a":1},' * (room // 12)
    calls["remember, many items as text"] = wire.call("remember", {"items": f"[{small[:-1]}]"})
    metadata = "{" + ",".join(f'"k{n}":{{"a":1}}' for n in range(500)) + "}"
    # Above the limit, and at the limit.
    for count in [400, 59]:
        calls[f"remember, many metadata as text, {count}"] = wire.call(
            "remember", {"items": [{"content": f"Item {n}", "metadata": metadata} for n in range(count)]}
        )
    calls["get, with history"] = wire.call("get", {"ids": ids[:200], "history": True})
    calls["recall, everything"] = wire.call("recall", {"query": words(9_000, 1), "limit": 100})
    for prompt in wire.send(service, body=wire.request("prompts/list")).json["result"]["prompts"]:
        given = {argument["name"]: words(20_000, 3) for argument in prompt.get("arguments", [])}
        calls[f"prompt {prompt['name']}"] = wire.request("prompts/get", {"name": prompt["name"]})
        calls[f"prompt {prompt['name']}, large"] = wire.request("prompts/get", {"name": prompt["name"], "arguments": given})
    for resource_ in wire.send(service, body=wire.request("resources/list")).json["result"]["resources"]:
        calls[f"resource {resource_['uri']}"] = wire.request("resources/read", {"uri": resource_["uri"]})
    return calls | {f"attack: {name}": body for name, body in ATTACKS.items()}


def send_large(service: Service, body: str) -> wire.Answer:
    """A time limit above the request timeout of the service, for a busy machine."""
    return wire.send(service, body=body, patience=4 * PATIENCE)


def fill(service: Service) -> list[str]:
    """Stores memories of the largest size, and returns their IDs."""
    ids = []
    for batch in range(20):
        items = [{"content": words(60_000, 1000 + batch * 10 + n), "tags": ["filled"]} for n in range(10)]
        answer = send_large(service, wire.call("remember", {"items": items}))
        listed = answer.json["result"]["structuredContent"].get("memories", [])
        ids += [memory["id"] for memory in listed if "id" in memory]
    return ids


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_memory_of_one_request_is_bounded(service, figure):
    ids = fill(service)
    peaks = {}
    for name, body in calls_of(service, ids).items():
        # The first request may fill caches, so the second one is measured.
        peaks[name] = min(peak_of(service, lambda body=body: send_large(service, body)) for _ in range(2))
    largest = sorted(peaks.items(), key=lambda item: -item[1])[:5]
    for name, peak in largest:
        figure(f"memory of one request above idle: {peak / MIB:.0f} MiB: {name}")
    assert not {name: peak // MIB for name, peak in peaks.items() if peak > MEMORY_OF_REQUEST}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_memory_of_many_requests_is_bounded(service, figure):
    ids = fill(service)
    calls = calls_of(service, ids)
    largest = [name for name in calls if "large" in name or "many" in name or "attack" in name or "history" in name]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        reset_peak(service)
        for name in largest:
            answers = list(pool.map(lambda _, body=calls[name]: send_large(service, body), range(64)))
            assert {answer.status for answer in answers} <= {200, 400, 413, 503}, name
            for answer in answers:
                if answer.status == 503:
                    assert answer.headers["retry-after"] and "try again" in answer.text, answer
        mixed = [body for body in calls.values()]
        list(pool.map(lambda body: send_large(service, body), mixed))
    peak = status_value(service, "VmHWM")
    figure(f"memory of the service with 64 requests at once: {peak / MIB:.0f} MiB")
    assert peak < MEMORY_MAX
    assert wire.send(service, body=wire.request("ping")).status == 200


@pytest.mark.parametrize("name", ATTACKS)
def test_a_body_of_small_nested_values_is_refused_before_it_is_parsed(service, name):
    peak = peak_of(service, lambda: wire.send(service, body=ATTACKS[name]))
    answer = wire.send(service, body=ATTACKS[name])
    assert answer.status == 413 and "at most" in answer.json["error"]["message"], answer
    assert answer.json["id"] == (None if name == "a batch" else "attack")
    assert peak < 32 * MIB, f"{peak / MIB:.0f} MiB"


# ------------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_body_that_is_too_large_is_refused_with_its_id(service, place):
    items = [{"content": f"{n} " + "x" * 60_000} for n in range(80)]
    message = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "remember", "arguments": {"items": items}}}
    message = {"id": 42} | message if place == "first" else message | {"id": 42}
    answer = wire.send(service, body=json.dumps(message))
    assert answer.status == 413 and answer.json["id"] == 42, answer
    said = answer.json["error"]["message"]
    assert "up to 500 items, together at most 4 MiB" in said and "split" in said


def test_a_body_of_the_largest_size_is_accepted(service):
    items = [{"content": f"{n} " + words(63_000, n)} for n in range(60)]
    room = BODY_LIMIT - len(wire.call("remember", {"items": items + [{"content": ""}]}))
    items.append({"content": "y" * min(room, 60_000)})
    items.append({"content": "z"})
    body = wire.call("remember", {"items": items})
    body += " " * (BODY_LIMIT - len(body))
    assert len(body) == BODY_LIMIT
    answer = wire.send(service, body=body)
    assert answer.status == 200 and answer.json["result"]["structuredContent"]["created"] == len(items), answer
    assert wire.send(service, body=body + " ").status == 413


def raw(service: Service, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stream:
        stream.sendall(request)
        return read_all(stream)


def read_all(stream: socket.socket) -> bytes:
    received = b""
    try:
        while piece := stream.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"5\r\nhello", b"ffffffffffffffffff\r\n", b"3\r\n{}}x\r\n0\r\n\r\n"])
def test_broken_chunks_are_an_error_of_the_client(service, chunks):
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stream:
        stream.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        stream.shutdown(socket.SHUT_WR)
        answer = read_all(stream)
    # A disconnected client gets no answer.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer


def test_broken_chunks_are_answered_with_the_request_id(service):
    message = b'{"jsonrpc":"2.0","id":"chunked","method":'
    answer = raw(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n" % (len(message), message))
    assert answer.startswith(b"HTTP/1.1 400"), answer
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert error["id"] == "chunked" and error["error"]["code"] == -32700


@pytest.mark.parametrize(
    "status, headers",
    [
        (401, {"Authorization": "Bearer wrong"}),
        (403, {"Host": "evil.example"}),
        (403, {"Origin": "https://evil.example"}),
        (415, {"Content-Type": "text/plain"}),
        (404, {}),
    ],
)
def test_a_client_that_is_still_sending_reads_the_refusal(sqlite, new_service, status, headers):
    service = new_service(sqlite, MEMORY_AUTH="tokens") if status == 401 else new_service(sqlite)
    path = "/elsewhere" if status == 404 else "/mcp"
    # More than the buffers of the kernel.
    for size in [BODY_LIMIT, 3 * BODY_LIMIT]:
        for _ in range(5):
            answer = wire.send(service, body=b"x" * size, path=path, **headers)
            assert answer.status == status, answer


def test_the_host_is_checked_before_the_body_is_read(service):
    """The refusal arrives although the body is never sent."""
    head = HEAD.replace(b"Host: localhost", b"Host: evil.example") + b"Content-Length: 4000000\r\n\r\n"
    assert raw(service, head).startswith(b"HTTP/1.1 403")
    head = HEAD + b"Origin: https://evil.example\r\nContent-Length: 4000000\r\n\r\n"
    assert raw(service, head).startswith(b"HTTP/1.1 403")


# ------------------------------------------------------------------------------------------------ connections


@pytest.fixture
def descriptors():
    """Raises the limit of open files, which the service inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(service: Service, sent: bytes, buffer: int | None = None) -> socket.socket:
    stream = socket.socket()
    if buffer:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    stream.settimeout(PATIENCE)
    stream.connect(("127.0.0.1", service.port))
    try:
        stream.sendall(sent)
    except ConnectionError:
        pass
    return stream


def close_all(streams: list[socket.socket]) -> None:
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("sent", [b"", b"POST /mcp HTTP/1.1\r\nHost: loc", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_idle_connections_do_not_block_new_clients(descriptors, sqlite, new_service, sent):
    service = new_service(sqlite)
    streams = [connect(service, sent) for _ in range(1100)]
    try:
        for _ in range(3):
            assert http_get(f"{service.base}/health/ready")[0] == 200
            assert wire.send(service, body=wire.request("ping")).status == 200
        # The oldest connections were closed.
        streams[0].settimeout(PATIENCE)
        assert len(read_all(streams[0])) < 1000
    finally:
        close_all(streams)


def test_unread_answers_do_not_block_new_clients(descriptors, sqlite, new_service):
    service = new_service(sqlite)
    items = [{"content": f"{n} " + words(60_000, n)} for n in range(20)]
    stored = wire.send(service, body=wire.call("remember", {"items": items})).json["result"]["structuredContent"]
    ids = [memory["id"] for memory in stored["memories"]]
    body = wire.call("get", {"ids": ids}).encode()
    request = HEAD.replace(b"Connection: close\r\n", b"") + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    idle = reset_peak(service)
    streams = [connect(service, request, buffer=4096) for _ in range(1100)]
    try:
        wait_until(lambda: wire.send(service, body=wire.request("ping")).status == 200, "there is room for others")
        assert http_get(f"{service.base}/health/ready")[0] == 200
        assert status_value(service, "VmHWM") - idle < MEMORY_MAX // 2
    finally:
        close_all(streams)


def test_slow_heads_and_bodies_are_ended_after_a_time_limit(service):
    begin = time.monotonic()
    slow_head = connect(service, b"POST /mcp HTTP/1.1\r\n")
    slow_body = connect(service, HEAD + b"Content-Length: 100\r\n\r\n" + b'{"id":7,')
    assert read_all(slow_head) == b""
    assert 8 < time.monotonic() - begin < 20
    answer = read_all(slow_body)
    assert answer.startswith(b"HTTP/1.1 408") and b'"id":7' in answer, answer
    assert time.monotonic() - begin < 25
