"""Streamable HTTP: every revision of the protocol, restarts, hosts and origins, tokens."""

import http.client
import json
import socket
import threading
import time

import anyio
import httpx2
import pytest

import wire
from client import over_http
from service import http_get, run, wait_until

HANDSHAKE_VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


@pytest.fixture
def service(sqlite, new_service):
    """A service without tokens, as in development on a loopback address."""
    return new_service(sqlite)


def result(answer: wire.Answer) -> dict:
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    return answer.json["result"]


# ------------------------------------------------------------------------------------------------ revisions


@pytest.mark.parametrize("version", HANDSHAKE_VERSIONS)
def test_revisions_with_a_handshake_work_without_sessions(service, version):
    opened = wire.send(service, body=wire.initialize(version))
    hello = result(opened)
    assert hello["protocolVersion"] == version
    assert hello["serverInfo"]["name"] == "cognitive-memory-mcp" and hello["instructions"] and "tools" in hello["capabilities"]
    assert "mcp-session-id" not in opened.headers, "there are no sessions"
    # The header was introduced in 2025-06-18.
    header = {"mcp_protocol_version": version} if version >= "2025-06-18" else {}
    noted = wire.send(service, body='{"jsonrpc": "2.0", "method": "notifications/initialized"}', **header)
    assert (noted.status, noted.text) == (202, "")
    assert len(result(wire.send(service, body=wire.request("tools/list"), **header))["tools"]) == 10
    assert result(wire.send(service, body=wire.request("ping"), **header)) == {}
    stored = result(wire.send(service, body=wire.call("remember", {"items": [{"content": f"By {version}"}]}), **header))
    assert stored["isError"] is False and stored["structuredContent"]["created"] == 1 and stored["content"][0]["type"] == "text"
    found = result(wire.send(service, body=wire.call("recall", {"query": version}), **header))
    assert found["structuredContent"]["hits"][0]["content"] == f"By {version}"


def test_the_stateless_revision_needs_no_handshake(service):
    version = {"mcp_protocol_version": "2026-07-28"}
    discovered = result(
        wire.send(service, body=wire.request("server/discover", {"_meta": wire.meta()}), mcp_method="server/discover", **version)
    )
    assert "2026-07-28" in discovered["supportedVersions"] and "2025-11-25" in discovered["supportedVersions"]
    assert discovered["instructions"] and "tools" in discovered["capabilities"]
    tools = result(wire.send(service, body=wire.request("tools/list", {"_meta": wire.meta()}), mcp_method="tools/list", **version))
    assert len(tools["tools"]) == 10
    # This is the first request.
    headers = version | {"mcp_method": "tools/call"}
    items = {"items": [{"content": "Without a handshake"}]}
    stored = result(wire.send(service, body=wire.call("remember", items, wire.meta()), mcp_name="remember", **headers))
    assert stored["structuredContent"]["created"] == 1
    found = result(wire.send(service, body=wire.call("recall", {"query": "handshake"}, wire.meta()), mcp_name="recall", **headers))
    assert len(found["structuredContent"]["hits"]) == 1
    # Gateways route by these headers, so they must match the body.
    lie = wire.send(service, body=wire.call("remember", items, wire.meta()), mcp_name="recall", **headers)
    assert lie.status == 400 and lie.json["error"]["code"] == -32020
    bare = wire.send(service, body=wire.call("recall", {}), mcp_name="recall", **headers)
    assert bare.status == 400 and bare.json["error"]["code"] == -32602 and "_meta" in bare.json["error"]["message"]


@pytest.mark.parametrize("mode, version", [("auto", "2026-07-28"), ("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")])
async def test_the_sdk_works_in_each_of_its_modes(service, mode, version):
    async with over_http(service.url, mode=mode) as memory:
        assert memory.client.protocol_version == version
        [id] = await memory.remember({"content": f"In mode {mode}"})
        assert await memory.found(mode) == [id]


def test_an_unknown_revision_falls_back_in_the_handshake_and_is_refused_elsewhere(service):
    assert result(wire.send(service, body=wire.initialize("1999-01-01")))["protocolVersion"] == "2025-11-25"
    answer = wire.send(service, body=wire.request("ping"), mcp_protocol_version="1999-01-01")
    assert answer.status == 400 and "1999-01-01" in answer.text


# ------------------------------------------------------------------------------------------------ HTTP


def test_requests_for_a_stream_are_refused(service):
    for method in ("GET", "DELETE", "PUT", "HEAD"):
        answer = wire.send(service, method, patience=10, Accept="text/event-stream")
        assert answer.status == 405 and answer.headers["allow"] == "POST", method


def test_other_media_types_are_refused_with_a_reason(service):
    answer = wire.send(service, body=wire.request("ping"), content_type="text/plain")
    assert answer.status == 415 and "application/json" in answer.text
    assert wire.send(service, body=wire.request("ping"), content_type="application/json; charset=utf-8").status == 200


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/event-stream", "text/html", "application/*;q=0.5"])
def test_the_answer_is_json_for_every_accept_header(service, accept):
    assert result(wire.send(service, body=wire.request("ping"), accept=accept)) == {}


def test_a_trailing_slash_of_the_address_is_ignored(service):
    assert result(wire.send(service, body=wire.initialize("2025-06-18"), path="/mcp/"))["serverInfo"]
    assert result(wire.send(service, body=wire.call("status", {}), path="/mcp/"))["isError"] is False
    assert wire.send(service, "GET", path="/mcp/").status == 405
    assert wire.send(service, body=wire.request("ping"), path="/mcp/", host="evil.example").status == 403


def test_other_paths_are_404_and_name_the_right_one(service):
    answer = wire.send(service, "GET", path="/")
    assert answer.status == 404 and "/mcp" in answer.json["error"]


def test_every_answer_has_a_request_id(service):
    ids = {wire.send(service, body=wire.request("ping")).headers["x-request-id"] for _ in range(2)}
    answer = wire.send(service, body=wire.call("status", {}))
    assert len(ids) == 2
    line = wait_until(
        lambda: [line for line in service.log_lines() if answer.headers["x-request-id"] in json.dumps(line)], "the line of the request in the log"
    )
    assert "status" in json.dumps(line[0])


def test_health_reports_liveness_and_readiness(service, sqlite):
    assert http_get(f"{service.base}/health/live")[0] == 200
    status, body = http_get(f"{service.base}/health/ready")
    assert status == 200 and json.loads(body)["checks"]["database"]["ok"] is True
    settings = {"MEMORY_LISTEN": f"127.0.0.1:{service.port}", **sqlite.settings}
    well = run("healthcheck", folder=service.folder, settings=settings)
    assert (well.returncode, well.stdout) == (0, "ready\n")
    service.stop()
    ill = run("healthcheck", folder=service.folder, settings=settings)
    assert ill.returncode == 1 and "no answer" in ill.stdout


def test_the_log_contains_no_texts_of_memories(sqlite, new_service):
    service = new_service(sqlite, MEMORY_LOG_LEVEL="trace", tokens={"p": "canary-token-0123456789"})
    bearer = {"authorization": "Bearer canary-token-0123456789"}
    wire.send(service, body=wire.call("remember", {"items": [{"content": "canary-content", "tags": ["canary-tag"]}]}), **bearer)
    wire.send(service, body=wire.call("recall", {"query": "canary-query canary-content"}), **bearer)
    wire.send(service, body=wire.call("recall", {"limit": "canary-limit"}), **bearer)
    wire.send(service, body=wire.call("recall", {}), authorization="Bearer canary-token-wrong")
    service.stop()
    assert "tool call" in service.log()
    leaks = [line for line in service.log().splitlines() if "canary" in line]
    assert not leaks


# ------------------------------------------------------------------------------------------------ restarts


async def test_a_restart_strands_no_client(backend, new_service):
    service = new_service(backend)
    async with over_http(service.url) as modern, over_http(service.url, mode="legacy") as legacy:
        [id] = await modern.remember({"content": "Before the crash"})
        service.kill()
        service.start()
        for client in (modern, legacy):
            assert await client.found("crash") == [id]
            assert await client.remember({"content": "After it"})


@pytest.mark.parametrize("header", [{}, {"mcp_protocol_version": "2025-06-18"}])
def test_an_old_session_id_is_ignored(service, header):
    stale = {"mcp_session_id": "5e0a4f2c-0000-4000-8000-000000000000"}
    assert result(wire.send(service, body=wire.call("status", {}), **stale, **header))["isError"] is False
    assert result(wire.send(service, body=wire.initialize("2025-06-18"), **stale))["protocolVersion"] == "2025-06-18"
    assert wire.send(service, body='{"jsonrpc": "2.0", "method": "notifications/initialized"}', **stale, **header).status == 202
    assert wire.send(service, "GET", Accept="text/event-stream", **stale).status == 405


def test_a_stop_answers_pending_requests(sqlite, new_service):
    """A request that has begun is answered, and later ones are refused. No request is executed partially."""
    service = new_service(sqlite)
    answers: list[wire.Answer] = []
    # Large enough that some requests are always in progress.
    items = [{"content": f"Item {n} " + "word " * 50} for n in range(100)]

    def hammer(number: int) -> None:
        for turn in range(1000):
            batch = [each | {"tags": [f"{number}-{turn}"], "content": f"{number}-{turn} {each['content']}"} for each in items]
            try:
                answers.append(wire.send(service, body=wire.call("remember", {"items": batch})))
            except (ConnectionError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) >= 16, "some answers")
    assert service.stop() == 0
    for thread in threads:
        thread.join()
    assert not [answer for answer in answers if answer.status != 200 or answer.json["result"]["isError"]]
    service.start()
    status = wire.send(service, body=wire.call("status", {})).json["result"]["structuredContent"]
    assert status["memories"] == 100 * len(answers), "exactly the acknowledged memories are stored"


# ------------------------------------------------------------------------------------------------ hosts, origins


def test_only_listed_hosts_are_served(service):
    for host in ["evil.example", f"evil.example:{service.port}", "127.0.0.1.evil.example", "localhost.evil.example"]:
        assert wire.send(service, body=wire.request("ping"), host=host).status == 403, host
    for host in ["localhost", f"localhost:{service.port}", f"127.0.0.1:{service.port}", f"[::1]:{service.port}", "LocalHost"]:
        assert wire.send(service, body=wire.request("ping"), host=host).status == 200, host


def test_allowed_hosts_can_be_configured(sqlite, new_service):
    service = new_service(sqlite, MEMORY_ALLOWED_HOSTS="memory.example,10.0.0.5:8765")
    for host, status in [
        ("memory.example", 200), ("memory.example:443", 200), ("10.0.0.5:8765", 200),
        ("10.0.0.5:80", 403), ("localhost", 403), ("other.example", 403),
    ]:  # fmt: skip
        assert wire.send(service, body=wire.request("ping"), host=host).status == status, host


def test_browsers_are_refused_unless_their_origin_is_allowed(service, sqlite, new_service):
    for origin in ["http://evil.example", "null", f"http://127.0.0.1:{service.port}", "https://localhost"]:
        assert wire.send(service, body=wire.request("ping"), origin=origin).status == 403, origin
    service.stop()
    open = new_service(sqlite, MEMORY_ALLOWED_ORIGINS="https://app.example,http://localhost:3000")
    for origin in ["https://app.example", "http://localhost:3000"]:
        assert wire.send(open, body=wire.request("ping"), origin=origin).status == 200, origin
    for origin in ["http://app.example", "https://app.example.evil.example", "http://localhost:3001", "null"]:
        assert wire.send(open, body=wire.request("ping"), origin=origin).status == 403, origin


def test_a_browser_with_an_allowed_origin_may_read_the_answer(sqlite, new_service):
    service = new_service(sqlite, MEMORY_ALLOWED_ORIGINS="https://app.example", tokens={"p": "token-of-the-browser"})
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,content-type,mcp-protocol-version"}
    preflight = wire.send(service, "OPTIONS", origin="https://app.example", **asked)
    assert preflight.status in (200, 204) and preflight.headers.get("access-control-allow-origin") == "https://app.example", preflight
    for header in ("authorization", "content-type", "mcp-protocol-version"):
        assert header in preflight.headers["access-control-allow-headers"].lower()
    answer = wire.send(service, body=wire.request("ping"), origin="https://app.example", authorization="Bearer token-of-the-browser")
    assert answer.headers.get("access-control-allow-origin") == "https://app.example"
    refused = wire.send(service, "OPTIONS", origin="https://evil.example", **asked)
    assert "access-control-allow-origin" not in refused.headers
    # The refusal tells a web page where to get a token.
    unknown = wire.send(service, body=wire.request("ping"), origin="https://app.example")
    exposed = unknown.headers["access-control-expose-headers"].lower()
    assert unknown.status == 401 and unknown.headers["access-control-allow-origin"] == "https://app.example"
    for header in ("www-authenticate", "mcp-session-id", "mcp-protocol-version", "x-request-id", "retry-after"):
        assert header in exposed
    # Later revisions have additional headers, some of which depend on a tool.
    asked["access_control_request_headers"] = "mcp-param-region,traceparent,last-event-id"
    allowed = wire.send(service, "OPTIONS", origin="https://app.example", **asked).headers["access-control-allow-headers"]
    assert "mcp-param-region" in allowed and "traceparent" in allowed


def test_health_and_metrics_are_served_by_address_but_not_by_other_names(sqlite, new_service):
    service = new_service(sqlite, MEMORY_ALLOWED_HOSTS="memory.example")
    for path in ("/health/ready", "/metrics"):
        for host, status in [
            ("memory.example", 200), ("localhost", 200), (f"127.0.0.1:{service.port}", 200), ("10.1.2.3:8765", 200),
            ("[::1]:8765", 200), ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403),
        ]:  # fmt: skip
            assert wire.send(service, "GET", path=path, host=host).status == status, (path, host)
    assert wire.send(service, "GET", path="/health/live", host="any.example").status == 200


@pytest.mark.parametrize(
    "target, hosts, statuses",
    [
        ("/mcp", ["localhost", "localhost"], {400}),
        ("/mcp", ["localhost", "evil.example"], {400}),
        ("/mcp", ["a@localhost"], {400}),
        ("/mcp", ["a:b@localhost"], {400}),
        ("http://evil.example/mcp", ["localhost"], {400, 421}),
        ("http://a@localhost/mcp", ["localhost"], {400}),
        ("http://evil.example/mcp", ["evil.example"], {403}),
        ("/metrics", ["localhost", "localhost"], {400}),
        ("/health/ready", ["a@localhost"], {400}),
        ("http://localhost/mcp", ["localhost"], {200}),
    ],
)
def test_a_request_must_have_exactly_one_host(service, target, hosts, statuses):
    body = wire.request("ping").encode()
    lines = [f"POST {target} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Content-Type: application/json"]
    lines += ["Connection: close", f"Content-Length: {len(body)}", "", ""]
    with socket.create_connection(("127.0.0.1", service.port), 30) as stream:
        stream.sendall("\r\n".join(lines).encode() + body)
        answer = stream.recv(65536).decode()
    assert int(answer.split()[1]) in statuses, answer


# ------------------------------------------------------------------------------------------------ tokens


def test_a_request_without_a_token_is_refused(sqlite, new_service):
    service = new_service(sqlite, tokens={"ada": "token-of-ada-0123456789"})
    for header, hint in [
        ({}, "Authorization: Bearer"),
        ({"authorization": "Bearer wrong-token-0123456789"}, "token create"),
        ({"authorization": "Basic YTpi"}, "Bearer TOKEN"),
        ({"authorization": "Bearer"}, "Bearer TOKEN"),
        ({"authorization": "Bearer " + "x" * 7000}, "token create"),
    ]:
        answer = wire.send(service, body=wire.call("status", {}), **header)
        assert answer.status == 401 and hint in answer.json["error"], (header, answer)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for header in ("Bearer token-of-ada-0123456789", "bearer token-of-ada-0123456789"):
        answer = wire.send(service, body=wire.call("status", {}), authorization=header)
        assert result(answer)["structuredContent"]["project"] == "ada"
    # Health needs no token, because it reveals nothing about the memories.
    assert http_get(f"{service.base}/health/ready")[0] == 200


def test_refused_tokens_are_logged_and_counted(sqlite, new_service):
    """One line per peer and second, with the data that fail2ban needs and without the token."""
    service = new_service(sqlite, tokens={"ada": "token-of-ada-0123456789"})
    for number in range(20):
        refused = wire.send(
            service, body=wire.request("ping"), authorization=f"Bearer canary-{number}", x_forwarded_for="203.0.113.7, canary"
        )
        assert refused.status == 401
    wire.send(service, body=wire.request("ping"))
    wire.send(service, body=wire.request("ping"), authorization="Basic canary")
    metrics = http_get(f"{service.base}/metrics")[1]
    for reason, count in [("unknown_token", 20), ("missing_token", 1), ("malformed_token", 1)]:
        assert f'cognitive_memory_refused_requests_total{{reason="{reason}"}} {count}' in metrics
    [line, *more] = [line for line in service.log_lines() if line["message"] == "request refused"]
    assert (line["level"], line["peer"], line["reason"]) == ("WARN", "127.0.0.1", "unknown_token")
    assert line["forwarded_for"] == "203.0.113.7"
    assert len(more) < 20 and "canary" not in service.log()


async def test_the_sdk_without_a_token_fails_immediately(sqlite, new_service):
    service = new_service(sqlite, tokens={"ada": "token-of-ada-0123456789"})
    with pytest.raises(BaseException) as caught:
        async with over_http(service.url):
            pass
    assert not isinstance(caught.value, TimeoutError)


def test_a_token_created_by_the_program_works(sqlite, new_service, tmp_path):
    made = run("token", "new", "laptop", folder=tmp_path)
    assert made.returncode == 0
    lines = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    token, line = lines
    assert token not in line
    service = new_service(sqlite, MEMORY_TOKENS=line)
    answer = wire.send(service, body=wire.call("status", {}), authorization=f"Bearer {token}")
    assert result(answer)["structuredContent"]["project"] == "default"
    assert wire.send(service, body=wire.call("status", {})).status == 401


def test_production_without_tokens_does_not_start(tmp_path):
    settings = {"ENVIRONMENT": "production", "MEMORY_DATABASE_URL": f"sqlite:{tmp_path}/memory.db"}
    refused = run("serve", folder=tmp_path, settings=settings)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 78 and "MEMORY_TOKENS" in said and "MEMORY_AUTH" in said
    assert not (tmp_path / "memory.db").exists()


def test_production_can_run_without_tokens_on_purpose(sqlite, new_service, tmp_path):
    database = {"ENVIRONMENT": "production", "MEMORY_DATABASE_URL": f"sqlite:{tmp_path}/memory.db", "MEMORY_AUTH": "none"}
    service = new_service(sqlite, **database)
    assert wire.send(service, body=wire.request("ping")).status == 200


def test_a_public_address_without_tokens_does_not_start(tmp_path):
    refused = run("serve", folder=tmp_path, settings={"MEMORY_LISTEN": "0.0.0.0:0", "MEMORY_DATA_DIR": str(tmp_path)})
    assert refused.returncode == 78 and "MEMORY_AUTH" in refused.stdout + refused.stderr


# ------------------------------------------------------------------------------------------------ concurrency


async def test_twenty_clients_work_at_the_same_time(backend, new_service, figure):
    service = new_service(backend)
    rounds = 15
    clients = 20

    async def work(number: int, found: list) -> None:
        async with over_http(service.url, mode="legacy" if number % 2 else "auto") as memory:
            for turn in range(rounds):
                [id] = await memory.remember(
                    {"content": f"Client {number} says {turn}", "kind": "dialogue", "session": f"s{number}", "turn": turn}
                )
                assert id in await memory.found(f"Client {number} says {turn}", session=f"s{number}", limit=3)
                if turn % 5 == 0:
                    await memory.update(id, importance=0.9)
            found += await memory.browse_all(session=f"s{number}")

    found: list[dict] = []
    begin = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(work, number, found)
    seconds = time.monotonic() - begin
    assert len({hit["id"] for hit in found}) == clients * rounds
    errors = [line for line in service.log_lines() if line.get("level", "").upper() in ("ERROR", "WARN")]
    assert not errors
    figure(f"{clients} SDK clients at once on {backend.name}: {clients * rounds * 2} stores and recalls in {seconds:.1f} s, no error")


async def test_a_slow_client_does_not_hold_up_others(service):
    """Clients with endless bodies and heads do not delay others."""
    streams = []
    for start in [b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", b"POST /mcp"]:
        for _ in range(20):
            stream = await anyio.connect_tcp("127.0.0.1", service.port)
            await stream.send(start)
            streams.append(stream)
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
        answer = await http.post(service.url, content=wire.request("ping"), headers=wire.JSON_HEADERS)
        assert answer.status_code == 200
    for stream in streams:
        await stream.aclose()
