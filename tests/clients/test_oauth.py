"""Access tokens of an authorization server: accepted and refused tokens, and discovery by clients."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import pathlib
import time

import jwt
import pytest
from client import over_http
from issuer import Issuer, Key
from service import wait_until
from wire import call, request, send

AUDIENCE = "https://memory.example/mcp"
METADATA = "/.well-known/oauth-protected-resource"

pytestmark = pytest.mark.anyio


@pytest.fixture
def issuer():
    made = Issuer(AUDIENCE)
    yield made
    made.close()


@pytest.fixture
def service(new_service, sqlite, issuer):
    return new_service(sqlite, MEMORY_OAUTH_ISSUER=issuer.url, MEMORY_OAUTH_AUDIENCE=AUDIENCE)


def show(service, token: str, body: str = request("tools/list")):
    return send(service, body=body, Authorization=f"Bearer {token}")


def refused(service, token: str, why: str) -> None:
    answer = show(service, token)
    assert answer.status == 401, answer
    assert 'error="invalid_token"' in answer.headers["www-authenticate"], answer
    assert why in answer.json["error"], answer


async def test_a_client_discovers_the_issuer_from_the_refusal(service, issuer):
    first = send(service, body=request("tools/list"))
    assert first.status == 401
    assert first.headers["www-authenticate"].endswith(f'resource_metadata="https://memory.example{METADATA}/mcp"')
    for path in (METADATA, f"{METADATA}/mcp", f"{METADATA}/mcp/"):
        answer = send(service, "GET", path=path)
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "*"
        assert answer.json["resource"] == AUDIENCE
        assert answer.json["authorization_servers"] == [issuer.url]
        assert answer.json["scopes_supported"] == ["memory:read", "memory:write"]
    token = issuer.grant(" ".join(answer.json["scopes_supported"]), answer.json["resource"])
    async with over_http(service.url, token) as memory:
        await memory.remember({"content": "Access tokens open this memory"})
        assert len(await memory.found("access tokens")) == 1
        assert (await memory.status())["project"] == "work"
    # The history names the caller.
    async with over_http(service.url, issuer.token(sub="bob")) as memory:
        hit = (await memory.recall("access tokens"))["hits"][0]
        history = await memory.get(hit["id"], history=True)
        assert "alice" in json.dumps(history)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_three_signature_algorithms_are_accepted(service, issuer, algorithm):
    key = Key("one", algorithm)
    issuer.keys = [Key("other", "RS256"), key]
    assert show(service, issuer.token(key)).status == 200
    head, payload, signature = issuer.token(key).split(".")
    wrong = base64.urlsafe_b64encode(bytes(len(base64.urlsafe_b64decode(signature + "==")))).rstrip(b"=").decode()
    refused(service, f"{head}.{payload}.{wrong}", "signature")
    other = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"memory_project": "other"}
    forged = base64.urlsafe_b64encode(json.dumps(other).encode()).rstrip(b"=").decode()
    refused(service, f"{head}.{forged}.{signature}", "signature")
    refused(service, issuer.token(Key("one", algorithm)), "signature")


async def test_tokens_for_another_audience_or_time_are_refused(service, issuer):
    now = int(time.time())
    for changes, why in [
        ({"iss": "https://elsewhere.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "https://other.example/mcp"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": [AUDIENCE + "/"]}, "another audience"),
        ({"exp": now - 60}, "expired"),
        ({"exp": None}, "no time"),
        ({"nbf": now + 120}, "not valid yet"),
        ({"memory_project": "../x"}, "memory_project"),
        ({"memory_project": ["work"]}, "memory_project"),
    ]:
        refused(service, issuer.token(**changes), why)
    # A small clock difference and a list of audiences that contains ours are accepted.
    for changes in [{"exp": now - 10}, {"nbf": now + 10}, {"aud": ["x", AUDIENCE]}, {"memory_project": None}]:
        assert show(service, issuer.token(**changes)).status == 200, changes
    refused(service, issuer.token(header={"typ": "logout+jwt"}), "not an access token")


async def test_forged_signatures_are_refused(service, issuer):
    claims = issuer.claims()
    unsigned = jwt.encode(claims, None, "none", {"kid": "first"})
    refused(service, unsigned, "not signed with")
    # The public key as an HMAC secret, an attack on verifiers that trust the algorithm in the token.
    encode = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")  # noqa: E731
    public = issuer.keys[0].public
    for secret in (json.dumps(public).encode(), public["n"].encode(), base64.urlsafe_b64decode(public["n"] + "==")):
        signed = encode(b'{"alg":"HS256","kid":"first","typ":"JWT"}') + b"." + encode(json.dumps(claims).encode())
        token = signed + b"." + encode(hmac.new(secret, signed, hashlib.sha256).digest())
        refused(service, token.decode(), "not signed with")
        for algorithm in (b"RS256", b"ES256", b"EdDSA"):
            head = encode(b'{"alg":"' + algorithm + b'","kid":"first"}')
            signed = head + b"." + encode(json.dumps(claims).encode())
            token = signed + b"." + encode(hmac.new(secret, signed, hashlib.sha256).digest())
            refused(service, token.decode(), "signature")
    for nonsense in ("ey.ey.ey", "eyJhbGciOiJSUzI1NiJ9..", "ey" + "A" * 20_000 + ".a.b", "eyé.a.b".encode("latin-1").decode("latin-1")):
        assert show(service, nonsense).status in (401, 431)
    assert show(service, issuer.token()).status == 200


async def test_scopes_limit_the_allowed_tools(service, issuer):
    nothing = show(service, issuer.token(scope="openid"))
    assert nothing.status == 403
    assert 'error="insufficient_scope", scope="memory:read"' in nothing.headers["www-authenticate"]
    async with over_http(service.url, issuer.token()) as memory:
        id = (await memory.remember({"content": "Only readers may read this"}))[0]
    reader = issuer.token(scope=None, scp=["memory:read"])
    tools = {tool["name"]: tool for tool in show(service, reader).json["result"]["tools"]}
    reads = [(name, {}) for name, tool in tools.items() if tool["annotations"].get("readOnlyHint")]
    reads += [("focus", {}), ("focus", {"action": "list", "archived": True}), ("review", {"action": "list"})]
    reads += [("review", {"action": "candidates"}), ("explore", {"mode": "list"})]
    for name, arguments in reads:
        assert show(service, reader, call(name, arguments)).status == 200, (name, arguments)
    writes = [(name, {}) for name, tool in tools.items() if not tool["annotations"].get("readOnlyHint") and name != "focus"]
    writes += [("focus", {"action": action}) for action in ("add", "touch", "drop", "save", "restore")]
    writes += [("review", {"action": action}) for action in ("judge", "approve", None)]
    for name, arguments in writes:
        answer = show(service, reader, call(name, arguments))
        assert answer.status == 403, (name, arguments)
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_scope", scope="memory:write"' in challenge and "resource_metadata=" in challenge
    async with over_http(service.url, reader) as memory:
        assert await memory.found("readers") == [id]
        assert (await memory.client.get_prompt("session_start", {})).messages
        for uri in ("memory://focus", "memory://recent", "memory://status", f"memory://{id}"):
            assert (await memory.client.read_resource(uri)).contents


async def test_new_keys_are_fetched_but_not_for_a_flood_of_unknown_keys(service, issuer):
    assert show(service, issuer.token()).status == 200
    before = len(issuer.requests)
    for number in range(30):
        unknown = Key(f"unknown-{number}", "EdDSA")
        refused(service, issuer.token(unknown), "no such key")
    assert len(issuer.requests) - before <= 4, "unknown keys must not cause one request to the issuer each"
    old, new = issuer.keys[0], Key("second", "ES256")
    issuer.keys = [new]
    wait_until(lambda: show(service, issuer.token(new)).status == 200, "the new key is accepted", pause=0.2)
    refused(service, issuer.token(old), "no such key")


@pytest.mark.parametrize("trouble", ["a broken connection", "two broken connections", "503", "429"])
async def test_a_trouble_that_passes_does_not_refuse_a_token(service, issuer, trouble):
    issuer.breaks = {"a broken connection": 1, "two broken connections": 2}.get(trouble, 0)
    issuer.next = [(int(trouble), {})] if trouble.isdigit() else []
    assert show(service, issuer.token()).status == 200


async def test_redirects_of_the_issuer_are_followed_to_its_own_address_only(service, issuer):
    issuer.next = [(302, {"Location": "/.well-known/oauth-authorization-server"})]
    assert show(service, issuer.token()).status == 200


async def test_a_redirect_to_another_address_is_an_error_that_names_it(service, issuer):
    elsewhere = Issuer(AUDIENCE)
    try:
        target = {"Location": f"{elsewhere.base}/keys?secret=1"}
        issuer.next = [(307, target), (307, target)]
        answer = show(service, issuer.token())
        assert answer.status == 503 and f"redirects to {elsewhere.base}/keys;" in answer.json["error"], answer
        assert "secret" not in answer.json["error"] and not elsewhere.requests
    finally:
        elsewhere.close()


async def test_an_unreachable_issuer_refuses_tokens_but_the_service_stays_ready(service, issuer):
    static = issuer.token()
    port = issuer.port
    issuer.close()
    answer = show(service, static)
    assert answer.status == 503 and answer.headers["retry-after"] == "5", answer
    assert f"http://127.0.0.1:{port}" in answer.json["error"]
    assert send(service, "GET", path="/health/ready").status == 200, "the readiness does not depend on the issuer"


async def test_known_keys_are_valid_during_an_outage_of_the_issuer(service, issuer):
    token = issuer.token()
    assert show(service, token).status == 200
    issuer.close()
    assert show(service, token).status == 200
    assert show(service, issuer.token(Key("newer", "EdDSA"))).status == 401


async def test_a_hung_issuer_does_not_delay_tokens_with_known_keys(service, issuer):
    """For unknown keys the service asks the issuer, which never answers. Tokens with known keys do not wait for it."""
    token, unknown = issuer.token(), issuer.token(Key("unknown", "EdDSA"))
    assert show(service, token).status == 200
    issuer.hangs.set()
    before = len(issuer.requests)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:

        def is_asked() -> bool:
            # The service asks at most every five seconds, and refuses unknown keys immediately until then.
            asking = pool.submit(show, service, unknown)
            return not concurrent.futures.wait([asking], timeout=1).done and len(issuer.requests) > before

        wait_until(is_asked, "the service asks the issuer")
        waiting = [pool.submit(show, service, unknown) for _ in range(6)]
        for _ in range(10):
            assert show(service, token).status == 200
        assert not any(each.done() for each in waiting), "the other requests still wait, so the issuer did not answer"
        issuer.hangs.clear()
        assert {each.result().status for each in waiting} == {401}
    assert len(issuer.requests) - before <= 3, "all requests share one refresh"


@pytest.mark.parametrize("path", ["metadata", "keys"])
async def test_an_endless_answer_of_the_issuer_is_cut_off(service, issuer, path):
    issuer.endless.add(path)
    idle = memory_of(service)
    answer = show(service, issuer.token())
    assert answer.status == 503 and "too much" in answer.json["error"], answer
    assert memory_of(service) - idle < 32 * 1024 * 1024


def memory_of(service) -> int:
    """Returns the peak of the resident memory."""
    text = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def test_only_a_limited_number_of_keys_without_id_is_tried(service, issuer):
    """Otherwise every forged token would cost one verification per key of the issuer."""
    mine = Key("mine", "EdDSA")
    others = [Key(f"other-{number}", "EdDSA") for number in range(9)]
    issuer.keys = [*(Key(f"rsa-{number}", "RS256") for number in range(2)), *others, mine]
    for key in issuer.keys:
        key.public.pop("kid")
    nameless = {"kid": None}
    refused(service, issuer.token(mine, header=nameless), "more than 8")
    assert show(service, issuer.token(others[0], header=nameless)).status == 200
    assert show(service, issuer.token(issuer.keys[1], header=nameless)).status == 200, "keys of other algorithms do not count"


async def test_a_web_page_may_read_the_metadata(service):
    for path in (METADATA, f"{METADATA}/mcp"):
        preflight = send(
            service, "OPTIONS", path=path, origin="https://app.example",
            access_control_request_method="GET", access_control_request_headers="mcp-protocol-version",
        )  # fmt: skip
        assert preflight.status in (200, 204) and preflight.headers["access-control-allow-origin"] == "*", preflight
        allowed = preflight.headers["access-control-allow-headers"]
        assert allowed == "*" or "mcp-protocol-version" in allowed
        answer = send(service, "GET", path=path, origin="https://app.example")
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "*"


async def test_issuers_with_openid_metadata_and_paths_are_supported(new_service, sqlite):
    issuer = Issuer(AUDIENCE, path="/tenant", oidc=True)
    try:
        service = new_service(sqlite, MEMORY_OAUTH_ISSUER=issuer.url, MEMORY_OAUTH_AUDIENCE=AUDIENCE)
        assert show(service, issuer.token()).status == 200
        assert "/.well-known/oauth-authorization-server/tenant" in issuer.requests
    finally:
        issuer.close()


async def test_metadata_with_another_issuer_is_refused(service, issuer):
    issuer.claimed_issuer = "https://elsewhere.example"
    answer = show(service, issuer.token())
    assert answer.status == 503 and "another issuer" in answer.json["error"]


async def test_static_tokens_are_valid_beside_those_of_the_issuer(new_service, sqlite, issuer):
    tokens = {"static": "token-of-the-settings"}
    service = new_service(sqlite, tokens=tokens, MEMORY_OAUTH_ISSUER=issuer.url, MEMORY_OAUTH_AUDIENCE=AUDIENCE)
    assert show(service, tokens["static"]).status == 200
    assert show(service, issuer.token()).status == 200
    assert show(service, "neither.of.them").status == 401


async def test_without_an_issuer_there_is_no_metadata(new_service, sqlite):
    service = new_service(sqlite)
    assert send(service, "GET", path=METADATA).status == 404
