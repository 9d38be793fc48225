"""Hand-written requests, which no SDK would send."""

import http.client
import json

from service import PATIENCE, Service

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CLIENT = {"name": "by-hand", "version": "1"}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode(errors="replace")

    @property
    def json(self) -> dict:
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.text[:500]}"


def send(
    service: Service,
    method: str = "POST",
    body: str | bytes | None = None,
    path: str = "/mcp",
    patience: float = PATIENCE,
    **headers: str,
) -> Answer:
    """Sends a request. Headers are written like_this=...; None removes a default header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    defaults = {name: value for name, value in JSON_HEADERS.items() if name.lower() not in {n.lower() for n in named}}
    merged = {name: value for name, value in (defaults | named).items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=patience)
    try:
        connection.request(method, path, body.encode() if isinstance(body, str) else body, merged)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def request(method: str, params: dict | None = None, id: int | str = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params}))


def call(tool: str, arguments: dict, meta: dict | None = None) -> str:
    return request("tools/call", {"name": tool, "arguments": arguments} | ({"_meta": meta} if meta else {}))


def call_unescaped(tool: str, arguments: dict) -> str:
    """A call whose texts are written in UTF-8 rather than with escapes, so that more of them fit into a body."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return json.dumps(message, ensure_ascii=False)


def initialize(version: str) -> str:
    return request("initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT})


def meta(version: str = "2026-07-28") -> dict:
    """Returns the metadata that every request of the stateless revision contains."""
    prefix = "io.modelcontextprotocol/"
    return {f"{prefix}protocolVersion": version, f"{prefix}clientInfo": CLIENT, f"{prefix}clientCapabilities": {}}
