"""Tool calls over plain HTTP: one JSON-RPC message per request."""

from __future__ import annotations

import http.client
import json
import urllib.parse

PROTOCOL = "2025-11-25"
# Time limit of a call in seconds. A call that takes longer counts as unanswered.
CALL_TIMEOUT = 10.0
# `get` and `forget` accept this many IDs per call.
IDS_PER_CALL = 200

HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": PROTOCOL}


class ToolError(Exception):
    """A tool returned an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def tool_call_message(tool: str, arguments: dict) -> dict:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def tool_error(structured: dict | None, text: str) -> ToolError:
    """Returns the error in the structured content of a result, or one with `text` if there is none."""
    error = (structured or {}).get("error", {})
    return ToolError(error.get("code", "?"), error.get("message") or text)


def parse_answer(answer: dict) -> dict:
    """Returns the structured content of a JSON-RPC answer. Raises `ToolError` for errors of the protocol and the tool."""
    if "error" in answer:
        raise ToolError("protocol", answer["error"]["message"])
    result = answer["result"]
    if result.get("isError"):
        raise tool_error(result.get("structuredContent"), str(result.get("content")))
    return result["structuredContent"]


def authorization_header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


class Connection:
    """Sequential calls over one keep-alive connection, which is reopened after an error."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self.url = urllib.parse.urlsplit(url)
        self.timeout = timeout
        self.headers = {"Content-Type": "application/json"} | HEADERS | authorization_header(token)
        self.http: http.client.HTTPConnection | None = None

    def call(self, tool: str, **arguments) -> dict:
        body = json.dumps(tool_call_message(tool, arguments))
        try:
            status, text = self._post(body)
        except Exception:
            self.close()
            raise
        if status != 200:
            raise ConnectionError(f"HTTP {status}: {text[:200]!r}")
        return parse_answer(json.loads(text))

    def _post(self, body: str) -> tuple[int, bytes]:
        if self.http is None:
            scheme = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
            self.http = scheme(self.url.hostname, self.url.port, timeout=self.timeout)
        self.http.request("POST", self.url.path, body, self.headers)
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        if self.http is not None:
            self.http.close()
            self.http = None


def read_memories(connection: Connection, ids: list[str], **arguments) -> list[dict]:
    """Reads memories with as many calls as the length limit of `get` requires."""
    memories = []
    while ids:
        answer = connection.call("get", ids=ids, **arguments)
        memories += answer["memories"]
        ids = answer.get("not_read", [])
    return memories
