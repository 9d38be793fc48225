"""Limits of the transport: size, depth and number of values of a body, memory use, connections, and slow peers."""

import json
import resource
import socket
import time

import pytest

import wire
from largest import ATTACKS, BODY_LIMIT, MIB, words
from memory_use import peak_of, reset_peak, status_value
from service import PATIENCE, Service, http_get, wait_until

# MemoryMax= of the shipped units.
MEMORY_MAX = 1024 * MIB


@pytest.fixture
def service(sqlite, new_service):
    return new_service(sqlite)


# ------------------------------------------------------------------------------------------------ memory


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


# Far above the limit, above what is read of a refused body, and the largest number that the header can have.
ANNOUNCED = [BODY_LIMIT + 1, 2 * BODY_LIMIT, 8 * BODY_LIMIT, 2**40, 2**63]


def assert_too_large(answer: bytes) -> dict:
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 413"), answer
    assert b"connection: close" in head.lower() or b"content-length" in head.lower()
    error = json.loads(body)
    assert f"{BODY_LIMIT} bytes (MEMORY_MAX_BODY_BYTES)" in error["error"]["message"], error
    return error


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
@pytest.mark.parametrize("announced", ANNOUNCED)
def test_a_body_that_announces_too_much_is_refused_although_it_never_arrives(service, announced, connection):
    """The service closes the connection after the answer, so that reading ends."""
    head = HEAD.replace(b"close", connection) + b"Content-Length: %d\r\n\r\n" % announced
    for sent in [b"", b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"']:
        assert_too_large(raw(service, head + sent))
    expecting = head[:-2] + b"Expect: 100-continue\r\n\r\n"
    assert_too_large(raw(service, expecting))


def test_a_refused_body_is_answered_with_the_id_that_arrived(service):
    sent = b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"'
    answer = raw(service, HEAD + b"Content-Length: %d\r\n\r\n" % (2 * BODY_LIMIT) + sent)
    assert assert_too_large(answer)["id"] == 7


@pytest.mark.parametrize("announced", [2 * BODY_LIMIT, 16 * BODY_LIMIT, 2**40])
def test_a_client_that_sends_a_body_of_any_size_reads_that_it_is_too_large(service, announced):
    """It sends more than the buffers of the kernel take before it reads."""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stream:
        stream.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % announced)
        stream.sendall(b"x" * 2 * BODY_LIMIT)
        assert_too_large(read_all(stream))
    assert wire.send(service, body=wire.request("ping")).status == 200


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
    """A unit test checks the exact limit of a head with a paused clock."""
    begin = time.monotonic()
    slow_head = connect(service, b"POST /mcp HTTP/1.1\r\n")
    slow_body = connect(service, HEAD + b"Content-Length: 100\r\n\r\n" + b'{"id":7,')
    assert read_all(slow_head) == b""
    assert time.monotonic() - begin > 8, "a client has several seconds for a head"
    answer = read_all(slow_body)
    assert answer.startswith(b"HTTP/1.1 408") and b'"id":7' in answer, answer
