"""A client of the service in a process of its own, so that its work does not add to the latency of other clients."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import os
import signal
import time

from .latency import Histogram
from .protocol import CALL_TIMEOUT, HEADERS, ToolError, authorization_header, parse_answer, tool_call_message, tool_error
from .workload import Journal, Workload, content_digest

ONE_SESSION = "sdk, one session"
# The kinds of clients, in the order in which they are added.
KINDS = {
    ONE_SESSION: "official SDK behind a proxy that answers 502 during an outage: one session from beginning to end",
    "sdk, legacy": "official SDK with an initialize handshake, without a proxy: reconnects when its connection breaks",
    "http, stale session": "plain HTTP, keep-alive, with the ID of a session that never existed",
    "sdk, auto": "official SDK, newest protocol, without a proxy: reconnects when its connection breaks",
}
# A session is abandoned after this many consecutive failures.
FAILURES_UNTIL_RECONNECT = 3
# An operation that fails with an internal error is abandoned after this many attempts.
ATTEMPTS_AFTER_INTERNAL_ERROR = 20


class SessionBroken(Exception):
    """The session has failed too often; the client opens another one."""


@dataclasses.dataclass
class ClientSettings:
    number: int
    kind: str
    url: str
    token: str
    seed: int
    tag: str
    rate: float
    keep: int
    journal: str


class Client:
    """Repeats each operation until it succeeds, over one session after another, until it is told to end."""

    def __init__(self, settings: ClientSettings, link) -> None:
        self.settings, self.link = settings, link
        self.journal = Journal(settings.journal)
        self.workload = Workload(settings.number, settings.seed, settings.tag, settings.keep, self.journal)
        self.pending: dict | None = None
        self.ending = False
        self.status = {
            "operations": 0, "first_try": 0, "attempts": 0, "answered": 0, "refused": 0, "failed": 0,
            "sessions": 0, "last_ok": 0.0, "codes": {}, "done": False,
        }  # fmt: skip
        self.latency: dict[str, Histogram] = collections.defaultdict(Histogram)

    # ---- work

    async def run_until_end(self) -> None:
        reporting = asyncio.create_task(self._exchange_messages())
        await self._work_in_sessions()
        reporting.cancel()
        self.status["done"] = True
        self._send_status()

    async def _work_in_sessions(self) -> None:
        while True:
            try:
                async with self._open_session() as call:
                    self.status["sessions"] += 1
                    await self._work_until_broken(call)
                    return
            except Exception:
                if self.ending and self.pending is None:
                    return
                await asyncio.sleep(0.2)

    async def _work_until_broken(self, call) -> None:
        """Returns when the client has been told to end and nothing is pending. Raises `SessionBroken`."""
        failures = 0
        while await self._prepare_operation():
            try:
                await self._attempt_operation(call)
                failures = 0
            except ToolError:
                failures = 0
                await asyncio.sleep(0.1)
            except Exception as error:
                failures += 1
                # A proxy's 502 does not show whether the session behind it still exists.
                if failures >= FAILURES_UNTIL_RECONNECT and self.settings.kind != ONE_SESSION:
                    raise SessionBroken from error
                await asyncio.sleep(0.1)

    async def _prepare_operation(self) -> bool:
        """Draws the next operation unless one is pending. Returns whether there is one."""
        if self.pending is None and not self.ending:
            # Poisson arrivals, so that clients do not call in step.
            await asyncio.sleep(min(self.workload.random.expovariate(self.settings.rate), 5))
            if not self.ending:
                self.pending = self.workload.next_operation()
        return self.pending is not None

    async def _attempt_operation(self, call) -> None:
        operation = self.pending
        self.status["attempts"] += 1
        operation["attempts"] = operation.get("attempts", 0) + 1
        begin = time.monotonic()
        try:
            result = await asyncio.wait_for(call(operation["tool"], operation["arguments"]), CALL_TIMEOUT)
        except ToolError as error:
            result = await self._handle_tool_error(call, error, time.monotonic() - begin)
            if result is None:
                return
        except Exception:
            self.status["failed"] += 1
            raise
        else:
            self.status["answered"] += 1
        self._complete_operation(operation, result, begin)

    async def _handle_tool_error(self, call, error: ToolError, seconds: float) -> dict | None:
        """Returns the result of the operation if an earlier attempt has done it, otherwise raises the error.

        Returns nothing if the operation was abandoned because a different update is stored.
        """
        operation, codes = self.pending, self.status["codes"]
        codes[error.code] = codes.get(error.code, 0) + 1
        if error.code == "version_conflict" and operation["attempts"] > 1:
            return await self._result_of_earlier_attempt(call, error)
        if error.code in ("database_unavailable", "timeout"):
            self.status["refused"] += 1
            self.latency["refusals"].add_duration(seconds)
            raise error
        self.status["answered"] += 1
        self.workload.record_defect(f"{operation['tool']}: {error}")
        if error.code != "internal" or operation["attempts"] > ATTEMPTS_AFTER_INTERNAL_ERROR:
            self.pending = None
        raise error

    async def _result_of_earlier_attempt(self, call, error: ToolError) -> dict | None:
        """An earlier attempt may have been carried out although its answer was lost."""
        self.status["answered"] += 1
        arguments = self.pending["arguments"]
        found = await asyncio.wait_for(call("get", {"ids": [arguments["id"]], "max_chars": 1_000_000}), CALL_TIMEOUT)
        memory = found["memories"][0]
        if content_digest(memory["content"]) == content_digest(arguments["content"]):
            return {"memory": memory}
        self.workload.record_defect(f"{error}, and the stored text is not that of the update")
        self.pending = None
        return None

    def _complete_operation(self, operation: dict, result: dict, begin: float) -> None:
        now = time.monotonic()
        self.latency[operation["tool"]].add_duration(now - begin)
        self.status["last_ok"] = now
        self.status["operations"] += 1
        self.status["first_try"] += operation["attempts"] == 1
        self.pending = None
        self.workload.accept_result(operation, result)

    # ---- sessions

    def _open_session(self):
        return self._open_plain_http() if self.settings.kind.startswith("http") else self._open_sdk()

    @contextlib.asynccontextmanager
    async def _open_plain_http(self):
        import httpx2

        settings = self.settings
        headers = HEADERS | authorization_header(settings.token) | {"Mcp-Session-Id": "from-before-the-restart"}
        async with httpx2.AsyncClient(headers=headers, timeout=CALL_TIMEOUT, trust_env=False) as web:

            async def call_tool(tool, arguments):
                response = await web.post(settings.url, json=tool_call_message(tool, arguments))
                response.raise_for_status()
                return parse_answer(response.json())

            yield call_tool

    @contextlib.asynccontextmanager
    async def _open_sdk(self):
        import httpx2
        import mcp
        from mcp.client.streamable_http import streamable_http_client

        settings = self.settings
        transport = _gateway_transport() if settings.kind == ONE_SESSION else None
        mode = "legacy" if settings.kind == "sdk, legacy" else "auto"
        headers = authorization_header(settings.token)
        async with httpx2.AsyncClient(headers=headers, timeout=CALL_TIMEOUT, trust_env=False, transport=transport) as web:
            streams = streamable_http_client(settings.url, http_client=web)
            async with mcp.Client(streams, mode=mode, read_timeout_seconds=CALL_TIMEOUT) as client:

                async def call_tool(tool, arguments):
                    result = await client.call_tool(tool, arguments)
                    if result.is_error:
                        raise tool_error(result.structured_content, str(result.content))
                    return result.structured_content

                yield call_tool

    # ---- messages

    async def _exchange_messages(self) -> None:
        """Sends the status four times a second, and ends the process when the parent has ended."""
        while True:
            try:
                while self.link.poll():
                    if self.link.recv() == "end":
                        self.ending = True
                self._send_status()
            except (EOFError, OSError):
                os._exit(1)
            await asyncio.sleep(0.25)

    def _send_status(self) -> None:
        latency = {tool: (dict(times.buckets), times.longest) for tool, times in self.latency.items()}
        pending = self.pending and {key: self.pending.get(key) for key in ("tool", "markers", "arguments")}
        workload = self.workload
        self.link.send(
            self.status
            | {
                "latency": latency,
                "pending": pending,
                "live": len(workload.live),
                "repetitions": workload.repetitions,
                "defects": list(workload.defects),
                "written": self.journal.entries,
            }
        )


def _gateway_transport():
    """Returns a transport that answers 502 during an outage, as a proxy does.

    The SDK ends its session when a connection breaks, which would hide whether the service keeps sessions usable.
    """
    import httpx2

    class GatewayTransport(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            try:
                response = await super().handle_async_request(request)
                await response.aread()
                return response
            except httpx2.TransportError as error:
                return httpx2.Response(502, text=repr(error), request=request)

    return GatewayTransport()


def run_client(settings: ClientSettings, link) -> None:
    """The entry point of a client process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    asyncio.run(Client(settings, link).run_until_end())
