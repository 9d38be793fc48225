"""`stdio` with faulty clients and services."""

import contextlib
import http.server
import json
import queue
import signal
import subprocess
import threading

import pytest

import wire
from client import over_stdio
from service import PATIENCE, binary, clean_environment, dies_with_us

# Longer than all time limits of these tests, so a process that drains would fail them.
LONG_DRAIN = {"MEMORY_DRAIN_TIMEOUT": "300"}
ENDLESS = "This is an endless answer. " * 4000


class Bridge:
    """A `stdio` process with open stdin."""

    def __init__(self, folder, settings: dict) -> None:
        self.process = subprocess.Popen(
            [binary(), "stdio"], cwd=folder, env=clean_environment(folder, settings), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=(folder / "stdio.log").open("ab"), preexec_fn=dies_with_us,
        )  # fmt: skip
        self.lines: queue.Queue = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(ValueError):
            for line in self.process.stdout:
                self.lines.put(json.loads(line))

    def send(self, line: str | bytes) -> None:
        self.process.stdin.write((line.encode() if isinstance(line, str) else line) + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict | list:
        return self.lines.get(timeout=PATIENCE)

    def ask(self, line: str | bytes) -> dict | list:
        self.send(line)
        return self.answer()

    def ends(self) -> int:
        return self.process.wait(timeout=PATIENCE)

    def peak_memory(self) -> int:
        """Returns the peak of the resident memory in MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024


@pytest.fixture
def bridges(tmp_path):
    started = []

    def start(settings: dict) -> Bridge:
        bridge = Bridge(tmp_path, settings)
        started.append(bridge)
        return bridge

    yield start
    for bridge in started:
        bridge.process.kill()
        bridge.process.wait()
        bridge.process.stdin.close()


@pytest.fixture
def bridge(bridges, sqlite):
    bridge = bridges(sqlite.settings | LONG_DRAIN)
    assert bridge.ask(wire.initialize("2025-06-18"))["result"]["serverInfo"]
    return bridge


def test_a_line_that_is_not_utf8_or_json_gets_an_error_with_its_id(bridge):
    for line, id in [
        (b'{"jsonrpc":"2.0","id":11,"method":"ping","params":{"x":"caf\xe9"}}', 11),
        (b'{"jsonrpc":"2.0","method":"ping","params":{"x":"\xff\xfe"},"id":"twelve"}', "twelve"),
        (b'{"jsonrpc":"2.0","id":13,"method":"ping",', 13),
        (b'{"jsonrpc":"2.0","id":14,"method":"ping","params":{"a":' + b"[" * 5000 + b"}", 14),
        (b"\xff\x00\x80", None),
    ]:
        wrong = bridge.ask(line)
        assert wrong["id"] == id and wrong["error"]["code"] == -32700, wrong
    assert bridge.ask(wire.request("ping", id=99))["id"] == 99, "the next request is answered"


@pytest.mark.parametrize("behind", [False, True])
def test_an_overlong_line_gets_an_error_that_explains_how_to_split_it(bridge, behind):
    items = '{"items":[{"content":"' + "x" * (5 * 1024 * 1024) + '"}]}'
    params = f'"params":{{"name":"remember","arguments":{items}}}'
    parts = ['"id":21', params] if not behind else [params, '"id":21']
    refused = bridge.ask('{"jsonrpc":"2.0","method":"tools/call",' + ",".join(parts) + "}")
    assert refused["id"] == 21 and "4194304" in refused["error"]["message"], refused
    assert "fewer items" in refused["error"]["message"]
    assert bridge.ask(wire.request("ping", id=22))["id"] == 22


def test_half_an_emoji_is_stored_as_a_replacement_character_with_a_note(bridge):
    line = r'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"remember","arguments":{"items":[{"content":"cut \ud83d"}]}}}'
    stored = bridge.ask(line)
    assert stored["id"] == 7 and not stored["result"].get("isError"), stored
    assert "surrogate" in stored["result"]["content"][0]["text"]
    id = stored["result"]["structuredContent"]["memories"][0]["id"]
    got = bridge.ask(wire.call("get", {"ids": [id]}))
    assert got["result"]["structuredContent"]["memories"][0]["content"] == "cut \ufffd"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_stdin_is_open(bridge, number):
    bridge.process.send_signal(number)
    assert bridge.ends() in (0, 128 + number)


def test_it_ends_when_stdout_is_closed_while_stdin_is_open(bridges, sqlite, tmp_path):
    process = subprocess.Popen(
        [binary(), "stdio"], cwd=tmp_path, env=clean_environment(tmp_path, sqlite.settings | LONG_DRAIN),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=dies_with_us,
    )  # fmt: skip
    process.stdin.write(wire.initialize("2025-06-18").encode() + b"\n")
    process.stdin.flush()
    assert b"serverInfo" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 0
    process.stdin.close()


# ------------------------------------------------------------------------------------------------ services


class FakeService(http.server.ThreadingHTTPServer):
    """A service with the given answers: an object, or a function of the handler."""

    daemon_threads = True

    def __init__(self, answers) -> None:
        self.answers = answers
        self.requests: list = []
        super().__init__(("127.0.0.1", 0), FakeHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mcp"


class FakeHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        answer = self.server.answers(request, len(self.server.requests))
        if callable(answer):
            answer(self)
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def fake_service():
    started = []

    def start(answers) -> FakeService:
        started.append(FakeService(answers))
        return started[-1]

    yield start
    for service in started:
        service.shutdown()
        service.server_close()


def hang_up(handler: FakeHandler) -> None:
    """Closes the connection without an answer, so the outcome of the request is unknown."""
    handler.connection.close()


def endless(handler: FakeHandler) -> None:
    with contextlib.suppress(OSError):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(ENDLESS.encode())


def not_found(request: dict, ids: list[str]) -> dict:
    error = {"code": "not_found", "message": f"not found: {', '.join(ids)}", "advice": "nothing was changed"}
    content = [{"type": "text", "text": error["message"]}]
    result = {"isError": True, "content": content, "structuredContent": {"error": error}}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


IDS = ["0190aaaa-0000-7000-8000-00000000000a", "0190aaaa-0000-7000-8000-00000000000b"]


@pytest.mark.parametrize("missing, is_error", [(IDS, False), (IDS[:1], True)])
def test_a_purge_that_was_done_by_its_first_attempt_succeeds(bridges, fake_service, missing, is_error):
    service = fake_service(lambda request, number: hang_up if number == 1 else not_found(request, missing))
    bridge = bridges({"MEMORY_URL": service.url})
    answer = bridge.ask(wire.call("forget", {"ids": IDS, "mode": "purge"}))
    assert len(service.requests) == 2 and answer["id"] == 1
    assert answer["result"]["isError"] is is_error, answer
    if not is_error:
        assert answer["result"]["structuredContent"]["mode"] == "purge"
        assert answer["result"]["structuredContent"]["changed"] == 2


def test_a_call_that_is_not_idempotent_is_not_repeated(bridges, fake_service):
    service = fake_service(lambda request, number: hang_up)
    bridge = bridges({"MEMORY_URL": service.url})
    turn = {"items": [{"content": "hello", "kind": "dialogue", "session": "s"}]}
    answer = bridge.ask(wire.call("remember", turn))
    assert "may have taken effect" in answer["error"]["message"], answer
    assert len(service.requests) == 1


def test_an_error_without_an_id_gets_the_id_of_its_request(bridges, fake_service):
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}}
    bridge = bridges({"MEMORY_URL": fake_service(lambda request, number: error).url})
    assert bridge.ask(wire.request("ping", id="mine"))["id"] == "mine"


def test_batches_are_forwarded_and_their_errors_answer_every_request(bridges, fake_service):
    def answers(request, number):
        if number > 1:
            return hang_up
        return [{"jsonrpc": "2.0", "id": one["id"], "result": {}} for one in request if "id" in one]

    bridge = bridges({"MEMORY_URL": fake_service(answers).url})
    notification = '{"jsonrpc":"2.0","method":"notifications/x"}'
    batch = f"[{wire.request('ping', id=1)},{notification},{wire.request('ping', id='b')}]"
    assert [answer["id"] for answer in bridge.ask(batch)] == [1, "b"]
    update = wire.call("update", {"id": IDS[0], "content": "x"})
    lost = bridge.ask(f"[{update},{wire.request('ping', id='b')}]")
    assert [answer["id"] for answer in lost] == [1, "b"] and all("error" in answer for answer in lost)


def test_batches_are_executed_by_the_service_or_refused_per_request(bridges, sqlite):
    batch = f"[{wire.request('ping', id=1)},{wire.request('ping', id='b')}]"
    bridge = bridges(sqlite.settings)
    bridge.ask(wire.initialize("2025-03-26"))
    assert [(answer["id"], answer["result"]) for answer in bridge.ask(batch)] == [(1, {}), ("b", {})]
    later = bridges(sqlite.settings)
    later.ask(wire.initialize("2025-06-18"))
    refused = later.ask(batch)
    assert [answer["id"] for answer in refused] == [1, "b"]
    assert all("2025-06-18" in answer["error"]["message"] for answer in refused), refused


def test_an_endless_answer_uses_bounded_memory(bridges, fake_service):
    bridge = bridges({"MEMORY_URL": fake_service(lambda request, number: endless).url})
    for id in range(8):
        bridge.send(wire.request("ping", id=id))
    answers = [bridge.answer() for _ in range(8)]
    assert {answer["id"] for answer in answers} == set(range(8))
    assert all("larger than 64 MiB" in answer["error"]["message"] for answer in answers), answers
    # Two concurrent answers of 64 MiB, and the beginnings of the others.
    assert bridge.peak_memory() < 200


def test_an_endless_answer_to_a_command_uses_bounded_memory(fake_service, tmp_path):
    url = fake_service(lambda request, number: endless).url
    done = subprocess.run(
        [binary(), "list"], cwd=tmp_path, env=clean_environment(tmp_path, {"MEMORY_URL": url}), capture_output=True,
        text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 69 and "larger than 64 MiB" in done.stderr, done.stderr


async def test_a_purge_through_stdio_leaves_no_trace(sqlite, tmp_path):
    async with over_stdio(tmp_path, sqlite.settings) as memory:
        [id] = await memory.remember({"content": "To be purged"})
        assert (await memory.call("forget", ids=[id], mode="purge"))["changed"] == 1
        assert (await memory.refused("forget", ids=[id], mode="purge"))["code"] == "not_found"
