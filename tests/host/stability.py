#!/usr/bin/env python3
"""The stability run: real clients under load while the service, its database and its host are killed, hung and cut off.

    tests/host/stability.py --minutes 10 --report report.md        hours in minutes, on a test host of its own
    tests/host/stability.py --minutes 10080 --shipped              seven days, with the limits as shipped
    MEMORY_TOKEN=... tests/host/stability.py --minutes 60 --url http://127.0.0.1:8765/mcp     load only, no faults

Every acknowledged write is journaled by the client that got the answer (a file, fsynced). At the end the journals are
read back and every write is accounted for. Exit code 0: nothing lost, nothing twice, nobody stranded, and no restart
that was not asked for. 1: one of these. 2: the run itself failed. Ctrl-C ends it early, with accounting and report.

The test host needs root (tests/host/README.md); the Python is that of `tests/run`, or any with tests/requirements.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import http.client
import json
import math
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

SERVICE = "cognitive-memory-mcp"
DATABASE = "cognitive-memory-postgres"
PROTOCOL = "2025-11-25"
# A call that takes longer counts as unanswered, for a client and for the one who measures availability.
PATIENCE = 10.0
PROMPT = 1.0
# Served again means: served without a gap for this long.
SETTLED = 2.0
# How long after the service's recovery a client may take to get its first answer.
STRANDED_AFTER = 20.0
# Purged memories that are looked up at the end, the latest of each client's.
PURGED_KEPT = 50_000
SPARKS = "▁▂▃▄▅▆▇█"

# -------------------------------------------------------------------------------------------------------------- counting


class Histogram:
    """Times in buckets of 5 %: exact enough for percentiles, and as small after seven days as after a minute."""

    BASE, STEP = 1e-5, math.log(1.05)

    def __init__(self, buckets: dict[int, int] | None = None, longest: float = 0.0) -> None:
        self.buckets = collections.Counter(buckets or {})
        self.longest = longest

    def add(self, seconds: float) -> None:
        self.buckets[max(0, int(math.log(max(seconds, self.BASE) / self.BASE) / self.STEP))] += 1
        self.longest = max(self.longest, seconds)

    def merge(self, other: Histogram) -> None:
        self.buckets += other.buckets
        self.longest = max(self.longest, other.longest)

    def __len__(self) -> int:
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float:
        left = share * len(self)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(self.BASE * math.exp((bucket + 0.5) * self.STEP), self.longest)
        return 0.0


def digest(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


# --------------------------------------------------------------------------------------------------------------- clients
# Each is a process of its own, so that one's work does not look like another's latency.


class Refused(Exception):
    """The tool answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class SessionDead(Exception):
    """Nothing comes of this session any more."""


@dataclasses.dataclass
class Order:
    """What a client process is to do."""

    number: int
    kind: str
    url: str
    token: str
    seed: int
    tag: str
    rate: float
    keep: int
    journal: str


# What sort of client it is, in the order in which they are added.
KINDS = {
    "sdk, one session": "official SDK behind a proxy that answers 502 meanwhile: one session from beginning to end",
    "sdk, legacy": "official SDK with an initialize handshake, straight to the port: connects again when its connection breaks",
    "http, stale session": "plain HTTP, keep-alive, with the id of a session that never existed",
    "sdk, auto": "official SDK, newest protocol, straight to the port: connects again when its connection breaks",
}

WORDS = """amber anchor autumn basin beacon birch bridge canyon carbon cedar cipher cobalt comet copper coral crystal
delta desert dune echo ember engine fabric falcon fathom fern fjord flint forest gable garnet glacier granite harbor
hazel helix heron indigo island ivory jasper juniper kernel lagoon lantern lattice lichen linden magnet maple marble
meadow meridian meteor mosaic nebula nectar nickel oasis onyx orbit orchard osprey oyster pebble pepper pewter pigment
pine plateau prairie prism quarry quartz raven reef ridge river saffron sage sandal sapphire sierra signal silver slate
spruce summit tempo thistle timber topaz tundra umber valley velvet violet walnut willow winter zephyr zinc""".split()


class Client:
    """One user of the memory: writes, reads its own writes, changes and forgets them. Never gives a write up."""

    def __init__(self, order: Order, link) -> None:
        self.order, self.link = order, link
        self.random = random.Random(order.seed)
        self.journal = open(order.journal, "a", buffering=1)
        self.count = 0
        self.live: dict[str, list] = {}  # id -> [digest, version, token]
        self.ids: list[str] = []
        self.deleted: list[str] = []
        self.restored: list[str] = []
        self.repeatable: collections.deque = collections.deque(maxlen=200)
        self.pending: dict | None = None
        self.ending = False
        self.stats = {
            "operations": 0, "first_try": 0, "attempts": 0, "answered": 0, "refused": 0, "failed": 0, "written": 0,
            "sessions": 0, "replays": 0, "last_ok": 0.0, "codes": {}, "defects": [], "done": False,
        }  # fmt: skip
        self.latency: dict[str, Histogram] = collections.defaultdict(Histogram)

    # ---- journal

    def note(self, **entry) -> None:
        """On the disk before anything else happens."""
        self.journal.write(json.dumps(entry, separators=(",", ":")) + "\n")
        os.fsync(self.journal.fileno())
        self.stats["written"] += 1

    def defect(self, sentence: str) -> None:
        if len(self.stats["defects"]) < 50:
            self.stats["defects"].append(f"client {self.order.number}: {sentence}")

    # ---- what to do next

    def text(self) -> tuple[str, str]:
        self.count += 1
        token = f"{self.order.tag}c{self.order.number}n{self.count}"
        size = self.random.choices((12, 40, 900, 5000), (70, 24, 5, 1))[0]
        return token, f"[{token}] " + " ".join(self.random.choices(WORDS, k=size))

    def item(self) -> tuple[str, dict]:
        token, content = self.text()
        item = {"content": content, "tags": [self.order.tag]}
        # Dialogue without a turn is stored as often as it comes: only the idempotency key keeps it from being doubled.
        kind = self.random.choices(("dialogue", "note", "episode"), (5, 4, 1))[0]
        item["kind"] = kind
        if kind == "dialogue":
            item |= {"session": f"{self.order.tag}-{self.count // 50}", "speaker": "Alex"}
        if kind == "episode":
            item |= {"situation": "a stability run", "outcome": 0.5, "lesson": "write it down"}
        return token, item

    def next(self) -> dict:
        draw = self.random.random()
        if len(self.live) > self.order.keep:
            ids = [id for id in self.ids[:200] if id in self.live]
            self.ids = self.ids[200:]
            if ids:
                return {"tool": "forget", "arguments": {"ids": ids, "mode": "purge"}}
        for some in (self.deleted, self.restored):
            if len(some) > self.order.keep / 10:
                return {"tool": "forget", "arguments": {"ids": some[:200], "mode": "purge"}}
        if not self.live or draw < 0.40:
            some = [self.item() for _ in range(1 if draw < 0.32 or not self.live else self.random.randint(2, 20))]
            key = f"{some[0][0]}-{self.random.getrandbits(64):x}"
            arguments = {"items": [item for _, item in some], "idempotency_key": key}
            return {"tool": "remember", "arguments": arguments, "tokens": [token for token, _ in some]}
        if draw < 0.43 and self.repeatable:
            return {"tool": "remember", "replay": True, **self.random.choice(self.repeatable)}
        id = self.pick()
        if draw < 0.58:
            token, content = self.text()
            content = content.replace(token, self.live[id][2], 1)
            arguments = {"id": id, "content": content, "expected_version": self.live[id][1], "reason": "corrected"}
            return {"tool": "update", "arguments": arguments}
        if draw < 0.63:
            return {"tool": "forget", "arguments": {"ids": [id]}}
        if draw < 0.64 and self.deleted:
            return {"tool": "forget", "arguments": {"ids": [self.deleted.pop()], "mode": "restore"}}
        if draw < 0.82:
            ids = [self.pick() for _ in range(self.random.randint(1, 10))]
            return {"tool": "get", "arguments": {"ids": ids, "max_chars": 1_000_000}}
        return {"tool": "recall", "expect": id, "arguments": {"query": self.live[id][2], "limit": 5}}

    def pick(self) -> str:
        while True:
            # Mostly what is new, as people do.
            place = int(len(self.ids) * self.random.random() ** 0.3)
            if self.ids[place] in self.live:
                return self.ids[place]
            del self.ids[place]

    # ---- what came of it

    def succeeded(self, work: dict, answer: dict) -> None:
        arguments = work["arguments"]
        match work["tool"]:
            case "remember" if work.get("replay"):
                self.stats["replays"] += 1
                ids = [memory["id"] for memory in answer["memories"]]
                if ids != work["ids"]:
                    self.defect(f"a repeated remember gave other ids: {ids} instead of {work['ids']}")
            case "remember":
                ids = [memory["id"] for memory in answer["memories"]]
                if len(ids) != len(work["tokens"]):
                    self.defect(f"remember of {len(work['tokens'])} items answered with {len(ids)} ids")
                rows = []
                for id, item, token in zip(ids, arguments["items"], work["tokens"]):
                    rows.append([id, digest(item["content"]), token])
                self.note(op="remember", rows=rows)
                for id, sum, token in rows:
                    self.live[id] = [sum, 1, token]
                    self.ids.append(id)
                self.repeatable.append({"arguments": arguments, "ids": ids})
            case "update":
                self.changed(arguments, answer["memory"]["version"])
            case "forget":
                mode = arguments.get("mode", "delete")
                self.note(op=mode, ids=arguments["ids"])
                for id in arguments["ids"]:
                    if mode == "delete":
                        self.deleted.append(id)
                        self.live.pop(id)
                    elif mode == "restore":
                        # It gets a new version; only the accounting looks at it again.
                        self.restored.append(id)
                    else:
                        self.live.pop(id, None)
                if mode == "purge":
                    gone = set(arguments["ids"])
                    self.deleted = [id for id in self.deleted if id not in gone]
                    self.restored = [id for id in self.restored if id not in gone]
                    kept = [entry for entry in self.repeatable if not gone & set(entry["ids"])]
                    self.repeatable = collections.deque(kept, maxlen=200)
            case "get":
                found = {memory["id"]: memory for memory in answer["memories"]}
                for id in arguments["ids"]:
                    sum, version, _ = self.live[id]
                    memory = found.get(id)
                    if memory is None:
                        self.defect(f"get does not find {id}")
                    elif digest(memory["content"]) != sum or memory["version"] != version:
                        self.defect(f"get gives version {memory['version']} of {id}, acknowledged was {version}")
            case "recall":
                if work["expect"] not in [hit["id"] for hit in answer["hits"]]:
                    self.defect(f"recall does not find {work['expect']} by its word {arguments['query']}")

    def changed(self, arguments: dict, version: int) -> None:
        sum = digest(arguments["content"])
        self.note(op="update", id=arguments["id"], sum=sum, version=version)
        if version != arguments["expected_version"] + 1:
            self.defect(f"update of version {arguments['expected_version']} made version {version}")
        self.live[arguments["id"]][:2] = [sum, version]

    async def attempt(self, call) -> None:
        """One try at what is pending."""
        work = self.pending
        tool, arguments = work["tool"], work["arguments"]
        self.stats["attempts"] += 1
        work["tries"] = work.get("tries", 0) + 1
        begin = time.monotonic()
        try:
            answer = await asyncio.wait_for(call(tool, arguments), PATIENCE)
        except Refused as error:
            codes = self.stats["codes"]
            codes[error.code] = codes.get(error.code, 0) + 1
            if error.code == "version_conflict" and work["tries"] > 1:
                # An earlier try whose answer was lost may have done it.
                self.stats["answered"] += 1
                memory = (await asyncio.wait_for(call("get", {"ids": [arguments["id"]]}), PATIENCE))["memories"][0]
                if digest(memory["content"]) != digest(arguments["content"]):
                    self.defect(f"{error}, and it is not our update that is stored")
                    self.pending = None
                    return
                answer = {"memory": memory}
            elif error.code in ("database_unavailable", "timeout"):
                self.stats["refused"] += 1
                self.latency["refusals"].add(time.monotonic() - begin)
                raise
            else:
                self.stats["answered"] += 1
                self.defect(f"{tool}: {error}")
                if error.code != "internal" or work["tries"] > 20:
                    self.pending = None
                raise
        except Exception:
            self.stats["failed"] += 1
            raise
        else:
            self.stats["answered"] += 1
        now = time.monotonic()
        self.latency[tool].add(now - begin)
        self.stats["last_ok"] = now
        self.stats["operations"] += 1
        self.stats["first_try"] += work["tries"] == 1
        self.pending = None
        self.succeeded(work, answer)

    async def use(self, call) -> None:
        """Works over one session until the end, or until the session is dead."""
        failures = 0
        while True:
            if self.pending is None:
                if self.ending:
                    return
                # Poisson: nobody calls in step with anybody.
                await asyncio.sleep(min(self.random.expovariate(self.order.rate), 5))
                if self.ending:
                    return
                self.pending = self.next()
            try:
                await self.attempt(call)
                failures = 0
            except Refused:
                failures = 0
                await asyncio.sleep(0.1)
            except Exception as error:
                failures += 1
                # A proxy's 502 says nothing about the session behind it.
                if failures >= 3 and self.order.kind != "sdk, one session":
                    raise SessionDead from error
                await asyncio.sleep(0.1)

    # ---- ways to connect

    @contextlib.asynccontextmanager
    async def connect(self):
        import httpx2

        headers = {"Authorization": f"Bearer {self.order.token}"} if self.order.token else {}
        options = {"headers": headers, "timeout": PATIENCE, "trust_env": False}
        if self.order.kind.startswith("http"):
            headers |= {
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": PROTOCOL,
                "Mcp-Session-Id": "from-before-the-restart",
            }
            async with httpx2.AsyncClient(**options) as web:
                yield lambda tool, arguments: plain_call(web, self.order.url, tool, arguments)
            return

        import mcp
        from mcp.client.streamable_http import streamable_http_client

        class Gateway(httpx2.AsyncHTTPTransport):
            """Answers 502 while nobody else answers. Without it the SDK ends the session at a broken connection, and
            it could not be told whether the service would have kept it."""

            async def handle_async_request(self, request):
                try:
                    response = await super().handle_async_request(request)
                    await response.aread()
                    return response
                except httpx2.TransportError as error:
                    return httpx2.Response(502, text=repr(error), request=request)

        if self.order.kind == "sdk, one session":
            options["transport"] = Gateway()
        mode = "legacy" if self.order.kind == "sdk, legacy" else "auto"
        async with httpx2.AsyncClient(**options) as web:
            transport = streamable_http_client(self.order.url, http_client=web)
            async with mcp.Client(transport, mode=mode, read_timeout_seconds=PATIENCE) as client:

                async def call(tool, arguments):
                    result = await client.call_tool(tool, arguments)
                    if result.is_error:
                        raise refusal(result.structured_content, str(result.content))
                    return result.structured_content

                yield call

    async def work(self) -> None:
        while True:
            try:
                async with self.connect() as call:
                    self.stats["sessions"] += 1
                    await self.use(call)
                    return
            except Exception:
                if self.ending and self.pending is None:
                    return
                await asyncio.sleep(0.2)

    async def report(self) -> None:
        while True:
            try:
                while self.link.poll():
                    if self.link.recv() == "end":
                        self.ending = True
                self.send()
            except (EOFError, OSError):
                os._exit(1)
            await asyncio.sleep(0.25)

    def send(self) -> None:
        latency = {tool: (dict(h.buckets), h.longest) for tool, h in self.latency.items()}
        pending = self.pending and {key: self.pending.get(key) for key in ("tool", "tokens", "arguments")}
        self.link.send(self.stats | {"latency": latency, "live": len(self.live), "pending": pending})

    async def main(self) -> None:
        reporting = asyncio.create_task(self.report())
        await self.work()
        reporting.cancel()
        self.stats["done"] = True
        self.send()


def refusal(structured: dict | None, otherwise: str) -> Refused:
    error = (structured or {}).get("error", {})
    return Refused(error.get("code", "?"), error.get("message") or otherwise)


async def plain_call(web, url: str, tool: str, arguments: dict) -> dict:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    response = await web.post(url, json=body)
    response.raise_for_status()
    return unpack(response.json())


def unpack(answer: dict) -> dict:
    if "error" in answer:
        raise Refused("protocol", answer["error"]["message"])
    result = answer["result"]
    if result.get("isError"):
        raise refusal(result.get("structuredContent"), str(result.get("content")))
    return result["structuredContent"]


def client_process(order: Order, link) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import logging

    logging.disable(logging.CRITICAL)
    asyncio.run(Client(order, link).main())


class Fleet:
    """The client processes and what they last said."""

    def __init__(self, orders: list[Order]) -> None:
        context = multiprocessing.get_context("spawn")
        self.orders, self.processes, self.links, self.last = orders, [], [], []
        for order in orders:
            here, there = context.Pipe()
            process = context.Process(target=client_process, args=(order, there), daemon=True)
            process.start()
            there.close()
            self.processes.append(process)
            self.links.append(here)
            self.last.append({})

    def listen(self) -> None:
        for place, link in enumerate(self.links):
            try:
                while link.poll():
                    self.last[place] = link.recv()
            except (EOFError, OSError):
                if not self.last[place].get("done"):
                    raise RuntimeError(f"client {place} has ended by itself") from None

    def end(self, patience: float) -> None:
        """Everybody finishes what is pending."""
        for link in self.links:
            with contextlib.suppress(OSError):
                link.send("end")
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not all(last.get("done") for last in self.last):
            self.listen()
            time.sleep(0.05)
        for process in self.processes:
            process.join(2)
            if process.is_alive():
                process.kill()

    def sum(self, name: str) -> int:
        return sum(last.get(name, 0) for last in self.last)

    def latency(self) -> dict[str, Histogram]:
        merged: dict[str, Histogram] = collections.defaultdict(Histogram)
        for last in self.last:
            for tool, (buckets, longest) in last.get("latency", {}).items():
                merged[tool].merge(Histogram(buckets, longest))
        return merged

    def defects(self) -> list[str]:
        return [defect for last in self.last for defect in last.get("defects", [])]


# --------------------------------------------------------------------------------------------------------------- measuring


class Line:
    """One call after the other over plain HTTP, for measuring and accounting."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self.url = urllib.parse.urlsplit(url)
        self.token, self.timeout = token, timeout
        self.connection: http.client.HTTPConnection | None = None

    def call(self, tool: str, **arguments) -> dict:
        params = {"name": tool, "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": PROTOCOL,
        }
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            if self.connection is None:
                kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
                self.connection = kind(self.url.hostname, self.url.port, timeout=self.timeout)
            self.connection.request("POST", self.url.path, body, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except Exception:
            self.close()
            raise
        if answer.status != 200:
            raise ConnectionError(f"HTTP {answer.status}: {text[:200]!r}")
        return unpack(json.loads(text))

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def read_memories(line: Line, ids: list[str], **arguments) -> list[dict]:
    """Reads memories with as many calls as the length limit of `get` requires."""
    memories = []
    while ids:
        answer = line.call("get", ids=ids, **arguments)
        memories += answer["memories"]
        ids = answer.get("not_read", [])
    return memories


class Prober:
    """Asks for one memory ten times a second, and adds up how long the answer was there, was an honest error, was not
    there. A second is the patience."""

    EVERY = 0.1

    def __init__(self, url: str, token: str, id: str) -> None:
        self.line, self.id = Line(url, token, PROMPT), id
        self.recent: collections.deque = collections.deque(maxlen=20_000)
        self.time = {"served": 0.0, "refused": 0.0, "silent": 0.0}
        self.outages = 0
        self.slow = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        before = "served"
        while not self._end.is_set():
            begin = time.monotonic()
            try:
                found = self.line.call("get", ids=[self.id])
                outcome = "served" if found["memories"] else "silent"
            except Refused:
                outcome = "refused"
            except Exception:
                outcome = "silent"
            done = time.monotonic()
            if outcome != "silent" and done - begin > PROMPT:
                # The socket's patience is one for each read.
                outcome = "silent"
            self._end.wait(max(0.0, self.EVERY - (done - begin)))
            self.time[outcome] += time.monotonic() - begin
            if outcome != "served" and before == "served":
                self.outages += 1
            before = outcome
            self.recent.append((begin, done, outcome))

    def since(self, moment: float) -> list[tuple[float, float, str]]:
        return [probe for probe in list(self.recent) if probe[0] >= moment]

    def served_for(self, moment: float) -> float:
        """For how long there was no gap, looking back from now, at most to `moment`."""
        probes = self.since(moment)
        first = None
        for begin, done, outcome in reversed(probes):
            if outcome != "served":
                break
            first = begin
        return 0.0 if first is None else time.monotonic() - first

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        self.line.close()

    def share(self, *outcomes: str) -> float:
        return sum(self.time[outcome] for outcome in outcomes) / max(sum(self.time.values()), 1e-9)


class Process:
    """A process of the test host, by the number it has there."""

    def __init__(self, proc: pathlib.Path, pid: int) -> None:
        self.folder, self.pid = proc / str(pid), pid
        self.born = self._stat()[19]

    def _stat(self) -> list[str]:
        return (self.folder / "stat").read_text().rpartition(")")[2].split()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (self.pid, self.born) == (other.pid, other.born)

    __hash__ = None

    def cpu(self) -> float:
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[float, float]:
        """Resident, and of it what is its own (not the binary's pages), in MiB."""
        text = (self.folder / "status").read_text()
        return tuple(int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) / 1024 for name in ("VmRSS", "RssAnon"))


class Sampler:
    """Memory of the server over time, and each new server process."""

    def __init__(self, site: Site, minutes: float) -> None:
        self.site = site
        self.every = max(0.5, minutes * 60 / 4000)
        self.started = time.monotonic()
        self.samples: list[tuple[float, int, float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        process = None
        while not self._end.wait(self.every):
            try:
                if process is None:
                    process = self.site.server()
                if process is not None:
                    resident, own = process.memory()
                    self.samples.append((time.monotonic() - self.started, process.pid, resident, own))
            except (OSError, TypeError, IndexError):
                process = None

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def lives(self) -> list[list[tuple]]:
        lives: list[list[tuple]] = []
        for sample in self.samples:
            if not lives or lives[-1][-1][1] != sample[1]:
                lives.append([])
            lives[-1].append(sample)
        return lives


# ------------------------------------------------------------------------------------------------------------------ faults


@dataclasses.dataclass
class Event:
    kind: str
    at: float  # seconds since the run began
    fault: float = 0.0  # when it struck (monotonic)
    cured: float = 0.0  # from when on the service could be expected to come back; the same for most kinds
    detail: str = ""
    recovery: float = 0.0  # from `cured` to the first answer after the last gap
    silent: float = 0.0  # time without a served answer
    restarts: int = 0
    problem: str = ""


SHORT_NOTE = " The drop-in's WatchdogSec=10 makes the server prove itself six times as often as the shipped 60."
SHORT_LIMITS = {
    SERVICE: "[Service]\nRestartSec=1\nWatchdogSec=10\n",
    DATABASE: "[Service]\nRestartSec=1\n",
}


class Site:
    """The installation on a test host, and what can be done to it. Each fault returns when it has struck (and, where it
    has an end, ended); `expect` names the processes that must be new afterwards."""

    def __init__(self, shipped: bool, binary: str | None, size: str) -> None:
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
        import host as hosts

        reasons = hosts.missing()
        if reasons:
            raise RuntimeError("no test host can run here: " + "; ".join(reasons))
        import deployment

        if binary:
            os.environ["MEMORY_TEST_STATIC_BINARY"] = binary
        hosts.build("images")
        self.host = hosts.Host(size=size)
        try:
            deployment.put_images(self.host, deployment.static_binary())
            self.service = deployment.Deployment(self.host)
            if not shipped:
                for unit, text in SHORT_LIMITS.items():
                    self.host.write(f"{self.service.units}/{unit}.container.d/50-stability.conf", text, "svc")
            self.service.install("--no-backup")
            self.service.wait_ready()
        except BaseException:
            self.host.close()
            raise
        self.url, self.token = self.service.url, self.service.token

    def close(self) -> None:
        self.host.close()

    # ---- processes

    def _find(self, wanted) -> Process | None:
        """Read from here: a command on the host would take too long, and does not work while it is down."""
        proc = self.host.path("/proc")
        if not self.host.up:
            return None
        for folder in proc.iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if wanted(words, folder):
                    return Process(proc, int(folder.name))
            except OSError:
                continue
        return None

    @staticmethod
    def _first(folder: pathlib.Path) -> bool:
        """Whether it is process 1 of a container."""
        return re.search(r"^NSpid:.*\t1$", (folder / "status").read_text(), re.M) is not None

    def server(self) -> Process | None:
        wanted = f"/{SERVICE}".encode()
        return self._find(lambda words, folder: words[:2] == [wanted, b"serve"] and self._first(folder))

    def database(self) -> Process | None:
        return self._find(lambda words, folder: words[0].endswith(b"postgres") and self._first(folder))

    def conmon(self) -> Process | None:
        name = SERVICE.encode()
        return self._find(lambda words, _: words[0].endswith(b"conmon") and name in words)

    def backends(self) -> list[int]:
        proc, database = self.host.path("/proc"), self.database()
        children = []
        for folder in proc.iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == database.pid:
                    children.append(int(folder.name))
        return children

    def signal(self, name: str, *pids: int) -> None:
        import subprocess

        words = [*self.host.enter(), "kill", f"-{name}", *map(str, pids)]
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    # ---- the faults; `fault` and `cured` are moments, what else changes is the method's to say

    def kill_server(self, event: Event, _: random.Random) -> tuple[str, ...]:
        pid = self.server().pid
        event.fault = time.monotonic()
        self.signal("KILL", pid)
        return ("server",)

    def kill_conmon(self, event: Event, _: random.Random) -> tuple[str, ...]:
        pid = self.conmon().pid
        event.fault = time.monotonic()
        self.signal("KILL", pid)
        return ("server", "conmon")

    def hang_server(self, event: Event, _: random.Random) -> tuple[str, ...]:
        pid = self.server().pid
        event.fault = time.monotonic()
        self.signal("STOP", pid)
        return ("server", "conmon")

    def restart_server(self, event: Event, _: random.Random) -> tuple[str, ...]:
        event.fault = time.monotonic()
        self.service.restart()
        return ("server", "conmon")

    def kill_database(self, event: Event, _: random.Random) -> tuple[str, ...]:
        pid = self.database().pid
        event.fault = time.monotonic()
        self.signal("KILL", pid)
        return ("database",)

    def kill_backends(self, event: Event, draw: random.Random) -> tuple[str, ...]:
        """PostgreSQL then ends all sessions and recovers by itself."""
        pid = draw.choice(self.backends())
        event.fault = time.monotonic()
        self.signal("KILL", pid)
        return ()

    def hang_database(self, event: Event, draw: random.Random) -> tuple[str, ...]:
        seconds = draw.uniform(4, 12)
        event.detail = f"hung for {seconds:.0f} s"
        pids = [self.database().pid, *self.backends()]
        event.fault = time.monotonic()
        self.signal("STOP", *pids)
        time.sleep(seconds)
        self.signal("CONT", *pids)
        event.cured = time.monotonic()
        return ()

    def stop_database(self, event: Event, draw: random.Random) -> tuple[str, ...]:
        seconds = draw.uniform(5, 20)
        event.detail = f"away for {seconds:.0f} s"
        event.fault = time.monotonic()
        self.service.stop(DATABASE)
        time.sleep(seconds)
        event.cured = time.monotonic()
        self.service.start(DATABASE)
        return ("database",)

    def restart_database(self, event: Event, _: random.Random) -> tuple[str, ...]:
        event.fault = time.monotonic()
        self.service.restart(DATABASE)
        return ("database",)

    def reboot(self, event: Event, _: random.Random) -> tuple[str, ...]:
        event.fault = time.monotonic()
        self.host.power_off(reboot=True)
        event.cured = time.monotonic()
        event.detail = f"shutdown took {event.cured - event.fault:.1f} s"
        self.host.boot()
        return ("server", "conmon", "database")

    def power_cut(self, event: Event, _: random.Random) -> tuple[str, ...]:
        event.fault = time.monotonic()
        self.host.power_cut()
        event.cured = time.monotonic()
        self.host.boot()
        return ("server", "conmon", "database")

    FAULTS = {
        "kill -9 of the server": kill_server,
        "kill -9 of conmon": kill_conmon,
        "hang of the server": hang_server,
        "restart of the server": restart_server,
        "kill -9 of PostgreSQL": kill_database,
        "kill -9 of a PostgreSQL backend": kill_backends,
        "hang of PostgreSQL": hang_database,
        "stop of PostgreSQL": stop_database,
        "restart of PostgreSQL": restart_database,
        "reboot": reboot,
        "power cut": power_cut,
    }
    # How often systemd restarts the service by itself for it.
    RESTARTS = {"kill -9 of the server": 1, "kill -9 of conmon": 1, "hang of the server": 1}
    # By itself: `cured` is not the fault's moment, but the end of what was done on purpose.
    LASTING = {"hang of PostgreSQL": "going on", "stop of PostgreSQL": "start", "reboot": "boot", "power cut": "boot"}

    def restarts(self, since: float) -> int:
        """How often systemd restarted the service by itself since then (wall clock)."""
        arguments = f"--since=@{since:.3f} --grep='{SERVICE}.service: Scheduled restart job' --output=short-unix --quiet"
        lines = self.host.journal(arguments, this_boot=False).splitlines()
        # --since only says where journalctl begins; with several boots under one boot id older lines may come after it.
        return sum(float(line.split()[0]) >= since for line in lines if line[:1].isdigit())

    # ---- figures

    def start_figures(self, rounds: int) -> list[float]:
        """Seconds from the beginning of the start job to active, by systemd's own clock, PostgreSQL already there."""
        taken = []
        for _ in range(rounds):
            self.service.stop()
            self.service.start()
            shown = self.service.show()
            begin, end = (int(shown[name]) for name in ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
            taken.append((end - begin) / 1e6)
        return taken

    def versions(self) -> dict[str, str]:
        run = self.service.run
        return {
            "service": str(run(f"podman exec {SERVICE} /{SERVICE} --version")).split()[-1],
            "podman": str(run("podman --version")).split()[-1],
            "systemd": str(run("systemctl --version")).split()[1],
            "postgres": self.service.sql("show server_version").split()[0],
            "image": f"{int(str(run(f'podman image inspect --format {{{{.Size}}}} localhost/{SERVICE}:latest'))) / 1e6:.1f} MB",
        }

    def checksum_failures(self) -> int:
        return int(self.service.sql("select coalesce(sum(checksum_failures), 0) from pg_stat_database"))


# --------------------------------------------------------------------------------------------------------------- accounting


@dataclasses.dataclass
class Account:
    writes: int = 0
    live: int = 0
    deleted: int = 0
    purged: int = 0
    stored: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    doubled: list[str] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)

    def problems(self) -> list[str]:
        return self.lost + self.doubled + self.unknown


def read_journals(files: list[pathlib.Path], account: Account) -> dict[str, list]:
    """id -> [digest, version or None, state, token]; a restored memory's version is whatever it is. Of what was purged,
    only the latest: after seven days there are too many to remember."""
    state: dict[str, list] = {}
    purged: collections.deque = collections.deque()
    for file in files:
        for line in file.open():
            entry = json.loads(line)
            account.writes += 1
            match entry["op"]:
                case "remember":
                    for id, sum, token in entry["rows"]:
                        if id in state:
                            account.doubled.append(f"{id} was given to {state[id][3]} and to {token}")
                        state[id] = [sum, 1, "live", token]
                case "update":
                    state[entry["id"]][:2] = [entry["sum"], entry["version"]]
                case "delete":
                    for id in entry["ids"]:
                        state[id][2] = "deleted"
                case "restore":
                    for id in entry["ids"]:
                        state[id][1:3] = [None, "live"]
                case "purge":
                    for id in entry["ids"]:
                        state[id][2] = "purged"
                        purged.append(id)
                    account.purged += len(entry["ids"])
                    while len(purged) > PURGED_KEPT:
                        del state[purged.popleft()]
    return state


def settle_accounts(line: Line, tag: str, files: list[pathlib.Path], pending: list[dict]) -> Account:
    """Every acknowledged write against what the service has, both ways."""
    account = Account()
    state = read_journals(files, account)
    # What a client that was cut off at the end had not been told about yet may be there or not.
    open_tokens = {token for work in pending for token in (work.get("tokens") or [])}
    open_ids = {id for work in pending for id in [work["arguments"].get("id"), *work["arguments"].get("ids", [])] if id}
    ids = list(state)
    for start in range(0, len(ids), 200):
        some = ids[start : start + 200]
        visible = {memory["id"]: memory for memory in read_memories(line, some)}
        kept = {memory["id"]: memory for memory in read_memories(line, some, include_deleted=True)}
        for id in some:
            sum, version, wish, token = state[id]
            if id in open_ids:
                continue
            if wish == "purged":
                if id in kept:
                    account.lost.append(f"{token}: purged, and still there")
                continue
            memory = kept.get(id)
            if memory is None:
                account.lost.append(f"{token}: not there")
            elif digest(memory["content"]) != sum:
                account.lost.append(f"{token}: another text, version {memory['version']} instead of {version}")
            elif wish == "live" and id not in visible:
                account.lost.append(f"{token}: deleted, which nobody was told")
            elif wish == "live" and version is not None and memory["version"] != version:
                account.lost.append(f"{token}: version {memory['version']} instead of {version}")
            elif wish == "deleted" and id in visible:
                account.lost.append(f"{token}: its deletion is lost")
            else:
                account.live += wish == "live"
                account.deleted += wish == "deleted"
    # The other way round: nothing is there which nobody was told about.
    by_token = {entry[3]: id for id, entry in state.items()}
    cursor = None
    seen: dict[str, str] = {}
    while True:
        page = line.call("recall", tags=[tag], limit=100, max_chars=1_000_000, **({"cursor": cursor} if cursor else {}))
        for hit in page["hits"]:
            account.stored += 1
            id, token = hit["id"], hit["content"].partition("]")[0].lstrip("[")
            if token in seen and seen[token] != id:
                account.doubled.append(f"{token}: stored as {seen[token]} and as {id}")
            seen[token] = id
            if id not in state and token in by_token:
                account.doubled.append(f"{token}: acknowledged as {by_token[token]}, stored as {id}, too")
            elif id not in state and token not in open_tokens:
                account.unknown.append(f"{token}: stored as {id}, acknowledged to nobody")
        cursor = page.get("next_cursor")
        if not cursor:
            return account


# ------------------------------------------------------------------------------------------------------------------ the run


class Screen:
    """A line for each event, and on a terminal a line that moves."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.started = time.monotonic()
        self.said = 0.0

    def clock(self) -> str:
        seconds = int(time.monotonic() - self.started)
        hours = f"{seconds // 3600}:" if seconds >= 3600 else ""
        return f"{hours}{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def event(self, text: str) -> None:
        print(f"{chr(13)}\x1b[K[{self.clock()}] {text}" if self.live else f"[{self.clock()}] {text}", flush=True)

    def status(self, text: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns
            print(f"\r\x1b[K[{self.clock()}] {text}"[: width + 4], end="", flush=True)
        elif time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            self.event(text)


class Run:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.screen = Screen()
        self.random = random.Random(options.seed)
        self.tag = f"s{random.SystemRandom().randrange(16**6):06x}"
        self.folder = pathlib.Path(options.journal or tempfile.mkdtemp(prefix="stability-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.site: Site | None = None
        self.fleet: Fleet | None = None
        self.prober: Prober | None = None
        self.sampler: Sampler | None = None
        self.events: list[Event] = []
        self.problems: list[str] = []
        self.stranded = 0
        self.unexpected = 0
        self.restarts = 0
        self.account: Account | None = None
        self.idle: dict | None = None
        self.starts: list[float] = []
        self.versions: dict[str, str] = {}
        self.checksum_failures = 0
        self.idle_memory = 0.0
        self.started = self.seconds = 0.0
        self.calm_from = 0.0
        self.interrupted = False
        self.report_due = time.monotonic() + 1200

    # ---- life of the run

    def execute(self) -> int:
        options = self.options
        try:
            if options.url:
                self.url, self.token = options.url, os.environ.get("MEMORY_TOKEN", "")
            else:
                self.screen.event("booting a test host and installing the service")
                self.site = Site(options.shipped, options.binary, options.host_size)
                self.url, self.token = self.site.url, self.site.token
                self.versions = self.site.versions()
                self.starts = self.site.start_figures(5 if options.minutes >= 5 else 1)
                self.screen.event(f"installed and ready; start to active {1000 * statistics.median(self.starts):.0f} ms")
            self.load()
            try:
                self.plan()
            except KeyboardInterrupt:
                self.interrupted = True
                self.screen.event("ending early: accounting follows")
            self.finish()
        finally:
            if self.site is not None:
                if self.problems and options.show_journal:
                    print(self.site.host.journal("-p warning --lines=300", this_boot=False), file=sys.stderr)
                self.site.close()
        text = self.report()
        if options.report:
            pathlib.Path(options.report).write_text(text)
            self.screen.event(f"report written to {options.report}")
        else:
            print("\n" + text)
        for problem in self.problems:
            self.screen.event(f"PROBLEM: {problem}")
        if self.problems:
            self.screen.event(f"FAILED with {len(self.problems)} problems; the clients' journals stay in {self.folder}")
        else:
            self.screen.event(f"passed: {self.account.writes} acknowledged writes, lost 0, stranded clients 0")
            if not options.journal:
                shutil.rmtree(self.folder, ignore_errors=True)
        return 1 if self.problems else 0

    def load(self) -> None:
        line = Line(self.url, self.token, PATIENCE)
        content = f"[{self.tag}probe] what the prober asks for"
        answer = line.call("remember", items=[{"content": content, "tags": [self.tag + "probe"]}])
        line.close()
        self.probe_id = answer["memories"][0]["id"]
        kinds = list(KINDS)
        orders = [
            Order(
                number, kinds[number % len(kinds)], self.url, self.token, self.random.getrandbits(32), self.tag,
                self.options.rate, self.options.keep, str(self.folder / f"client-{number}.jsonl"),
            )
            for number in range(self.options.clients)
        ]  # fmt: skip
        self.fleet = Fleet(orders)
        deadline = time.monotonic() + 60
        while not all(last.get("operations") for last in self.fleet.last):
            self.fleet.listen()
            if time.monotonic() > deadline:
                raise RuntimeError(f"not every client could work: {[last.get('codes') for last in self.fleet.last]}")
            time.sleep(0.05)
        self.prober = Prober(self.url, self.token, self.probe_id)
        if self.site is not None:
            self.sampler = Sampler(self.site, self.options.minutes)
        self.started = time.monotonic()
        self.screen.event(f"{len(orders)} clients at work; the run begins, seed {self.options.seed}")

    def plan(self) -> None:
        """All kinds in a seeded order, then all again in another, with a pause after each; the end stays calm, which
        shows memory without restarts."""
        options = self.options
        total = options.minutes * 60
        calm = min(max(10.0, total * 0.15), 86400.0)
        self.calm_from = total - calm if self.site is not None else 0.0
        pause = options.pause or min(max(total / 60, 3.0), 600.0)
        bag: list[str] = []
        if self.site is not None and options.faults:
            self.wait(min(5.0, pause))
            rounds = 0
            # Each kind at least once, even if the run becomes longer than it was to be.
            while self.elapsed() < self.calm_from or (rounds == 1 and bag):
                if not bag:
                    bag = list(options.faults)
                    self.random.shuffle(bag)
                    rounds += 1
                self.strike(bag.pop())
                left = self.calm_from - self.elapsed()
                self.wait(min(self.random.uniform(0.5, 1.5) * pause, left if left > 0 else 1.0))
            self.calm_from = max(self.calm_from, self.elapsed())
        self.wait(max(total, self.calm_from + calm) - self.elapsed())

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.fleet.listen()
            self.status()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(0.25, left))
            if self.options.report and time.monotonic() > self.report_due:
                # A run of days is to leave something even when the machine does not live to its end.
                self.report_due = time.monotonic() + 600
                self.seconds = self.elapsed()
                pathlib.Path(self.options.report).write_text(self.report())

    def status(self) -> None:
        fleet = self.fleet
        share = 100 * self.prober.share("served") if any(self.prober.time.values()) else 100
        self.screen.status(
            f"{len(self.events)} faults, {fleet.sum('operations')} operations, {fleet.sum('written')} writes acknowledged, "
            f"served {share:.1f} % of the time, {fleet.sum('live')} memories"
        )

    # ---- one fault

    def strike(self, kind: str) -> None:
        site, prober = self.site, self.prober
        before = {name: getattr(site, name)() for name in ("server", "conmon", "database")}
        event = Event(kind, self.elapsed())
        self.events.append(event)
        since = time.time()
        self.screen.status(kind)
        try:
            new = site.FAULTS[kind](site, event, self.random)
        except Exception as error:
            # The fault may have struck all the same; whether everything comes back is seen below.
            new = ()
            event.problem = f"could not be carried out: {error}"
            event.fault = event.fault or time.monotonic()
        event.cured = event.cured or event.fault
        deadline = time.monotonic() + 300
        while True:
            self.fleet.listen()
            fresh = all((now := getattr(site, name)()) is not None and now != before[name] for name in new)
            if fresh and prober.served_for(event.cured) >= SETTLED:
                break
            if time.monotonic() > deadline:
                event.problem = event.problem or "no recovery within five minutes"
                break
            time.sleep(0.05)
        gaps = [probe for probe in prober.since(event.fault - PROMPT) if probe[1] >= event.fault]
        bad = [begin for begin, _, outcome in gaps if outcome != "served"]
        if bad:
            first = next((done for begin, done, outcome in gaps if outcome == "served" and begin > bad[-1]), time.monotonic())
            event.recovery = max(0.0, first - event.cured)
            event.silent = sum(after[0] - now[0] for now, after in zip(gaps, gaps[1:]) if now[2] != "served")
        self.clients_go_on(event)
        event.restarts = site.restarts(since)
        self.restarts += event.restarts
        self.judge(event, before, new)
        self.screen.event(
            f"{kind:<32} no service for {event.silent:5.1f} s, back {event.recovery:5.1f} s after the "
            f"{site.LASTING.get(kind, 'fault')}{'; ' + event.detail if event.detail else ''}"
            f"{'; PROBLEM: ' + event.problem if event.problem else ''}"
        )

    def clients_go_on(self, event: Event) -> None:
        """Everybody gets an answer again, by itself."""
        moment = time.monotonic()
        deadline = moment + STRANDED_AFTER
        waiting = set(range(len(self.fleet.last)))
        while waiting and time.monotonic() < deadline:
            self.fleet.listen()
            waiting = {place for place in waiting if self.fleet.last[place]["last_ok"] <= moment}
            time.sleep(0.05)
        for place in waiting:
            self.stranded += 1
            kind = self.fleet.orders[place].kind
            event.problem = event.problem or f"client {place} ({kind}) gets no answer {STRANDED_AFTER:.0f} s after recovery"

    def judge(self, event: Event, before: dict, new: tuple[str, ...]) -> None:
        wanted = self.site.RESTARTS.get(event.kind, 0)
        if event.restarts > wanted:
            self.unexpected += event.restarts - wanted
            event.problem = event.problem or f"systemd restarted the service {event.restarts} times instead of {wanted}"
        if "server" not in new and self.site.server() != before["server"]:
            self.unexpected += 1
            event.problem = event.problem or "the server did not survive it"
        if event.problem:
            self.problems.append(f"{event.kind} at {event.at:.0f} s: {event.problem}")

    # ---- the end

    def finish(self) -> None:
        self.seconds = self.elapsed()
        self.prober.stop()
        self.screen.event("the clients finish what they have begun")
        self.fleet.end(60)
        self.fleet.listen()
        if self.sampler:
            self.sampler.stop()
        for place, last in enumerate(self.fleet.last):
            if not last.get("done"):
                self.stranded += 1
                self.problems.append(f"client {place} ({self.fleet.orders[place].kind}) could not finish: {last.get('pending')}")
            elif self.fleet.orders[place].kind == "sdk, one session" and last["sessions"] != 1:
                self.stranded += 1
                self.problems.append(f"client {place} lost its session: {last['sessions']} sessions instead of 1")
        self.problems += self.fleet.defects()
        self.screen.event("every acknowledged write is looked up")
        line = Line(self.url, self.token, 30)
        files = [pathlib.Path(order.journal) for order in self.fleet.orders]
        pending = [last["pending"] for last in self.fleet.last if last.get("pending")]
        self.account = settle_accounts(line, self.tag, files, pending)
        self.problems += self.account.problems()
        if self.site is not None:
            self.checksum_failures = self.site.checksum_failures()
            if self.checksum_failures:
                self.problems.append(f"PostgreSQL found {self.checksum_failures} pages with a wrong checksum")
            self.rest()
        else:
            self.clean(line)
        line.close()

    def rest(self) -> None:
        """Nobody calls any more."""
        server, database = self.site.server(), self.site.database()
        self.screen.event(f"idle for {self.options.idle:.0f} s")
        try:
            # What the accounting left to do is not idleness.
            time.sleep(min(5.0, self.options.idle))
            begin, used, used_database = time.monotonic(), server.cpu(), self._database_cpu()
            deadline = begin + self.options.idle
            while time.monotonic() < deadline:
                self.screen.status("idle")
                time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        except KeyboardInterrupt:
            self.interrupted = True
        taken = time.monotonic() - begin
        if self.site.server() != server or self.site.database() != database:
            self.problems.append("the server or its database did not survive idleness")
            return
        self.idle = {
            "seconds": taken,
            "cpu": server.cpu() - used,
            "database": self._database_cpu() - used_database,
            "resident": server.memory()[0],
            "own": server.memory()[1],
        }

    def _database_cpu(self) -> float:
        total = self.site.database().cpu()
        for pid in self.site.backends():
            with contextlib.suppress(OSError):
                total += Process(self.site.host.path("/proc"), pid).cpu()
        return total

    def clean(self, line: Line) -> None:
        """An installation that was there before is left without a trace of the run."""
        state = read_journals([pathlib.Path(order.journal) for order in self.fleet.orders], Account())
        ids = [self.probe_id, *(id for id, entry in state.items() if entry[2] != "purged")]
        for start in range(0, len(ids), 200):
            # All or none: an id that was lost must not keep the others.
            there = read_memories(line, ids[start : start + 200], include_deleted=True)
            if there:
                line.call("forget", ids=[memory["id"] for memory in there], mode="purge")

    # ---- the report

    def report(self) -> str:
        return "\n".join(
            part for section in (
                self._head(), self._verdict(), self._availability(), self._recovery(), self._latency(),
                self._memory(), self._idle(), self._clients(), self._timeline(), self._problems(),
            ) for part in section
        ) + "\n"  # fmt: skip

    def _head(self) -> list[str]:
        options, versions = self.options, self.versions
        cores = os.cpu_count()
        memory = math.ceil(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
        lines = ["# Stability run", ""]
        where = "an existing installation, without faults" if self.site is None else (
            f"test host with systemd {versions['systemd']}, rootless podman {versions['podman']}, "
            f"PostgreSQL {versions['postgres']} and version {versions['service']} of the service, installed by "
            "quadlet/install.sh"
        )  # fmt: skip
        limits = "as shipped" if options.shipped else (
            "WatchdogSec=10 (shipped: 60), RestartSec=1 (shipped: 10, PostgreSQL 5), by drop-ins"
        )  # fmt: skip
        lines += [
            "| | |", "|---|---|",
            f"| duration | {span(self.seconds)}{', ended early' if self.interrupted else ''} |",
            f"| command | `tests/host/stability.py --minutes {options.minutes:g} --seed {options.seed} "
            f"--clients {options.clients}{' --shipped' if options.shipped else ''}"
            f"{f' --idle {options.idle:g}' if options.idle != 60 else ''}` |",
            f"| where | {where} |",
            f"| machine | {cores} cores, {memory} GiB, shared with the clients |",
        ]  # fmt: skip
        if self.site is not None:
            lines += [f"| limits of the units | {limits} |"]
        return [*lines, f"| load | {options.clients} clients, {options.rate:g} calls a second each |", ""]

    def _verdict(self) -> list[str]:
        account = self.account
        lines = ["## Result", "", "| | |", "|---|---|"]
        if account is None:
            lines += ["| accounting | comes at the end: the run goes on |"]
        else:
            lines += [
                f"| **acknowledged writes lost** | **{len(account.lost)}** of {number(account.writes)} |",
                f"| stored twice, or stored and acknowledged to nobody | {len(account.doubled) + len(account.unknown)} |",
                f"| looked up at the end | {number(account.live)} memories at their acknowledged version, "
                f"{number(account.deleted)} deleted, {number(account.purged)} purged; {number(account.stored)} found by "
                "listing |",
            ]
        lines += [
            f"| **clients stranded** | **{self.stranded}** |",
            f"| wrong answers seen by clients | {len(self.fleet.defects())} |",
            f"| calls repeated with their idempotency key after the answer | {number(self.fleet.sum('replays'))}, "
            "same ids each time |",
        ]
        if self.site is not None:
            lines += [
                f"| faults | {len(self.events)} |",
                f"| restarts by systemd | {self.restarts}; not called for: {self.unexpected} |",
                f"| damaged pages found by PostgreSQL's checksums | {self.checksum_failures} |",
                f"| image | {self.versions['image']} |",
                f"| start to active | {1000 * statistics.median(self.starts):.0f} ms "
                f"({1000 * min(self.starts):.0f} to {1000 * max(self.starts):.0f}, {len(self.starts)} starts, PostgreSQL running) |",
            ]
        return [*lines, ""]

    def _availability(self) -> list[str]:
        fleet, prober = self.fleet, self.prober
        attempts = max(fleet.sum("attempts"), 1)
        codes = collections.Counter()
        for last in fleet.last:
            codes.update(last.get("codes", {}))
        words = ", ".join(f"{code}: {number(count)}" for code, count in sorted(codes.items())) or "none"
        return [
            "## Availability, as seen by clients", "",
            *(["Faults strike far more often than in life, so these shares say how the clients fared in this run, and not "
            "what to expect of a quiet week.", ""] if self.events else []),
            "| | |", "|---|---|",
            f"| time with an answer within 1 s | {100 * prober.share('served'):.2f} % |",
            f"| time with an honest error within 1 s (database away) | {100 * prober.share('refused'):.2f} % |",
            f"| time without either | {100 * prober.share('silent'):.2f} % |",
            f"| operations | {number(fleet.sum('operations'))}, "
            f"{100 * fleet.sum('first_try') / max(fleet.sum('operations'), 1):.2f} % at the first try, "
            f"{'none given up' if not fleet.defects() else 'those with a wrong answer given up'} |",
            f"| calls, repetitions included | {number(attempts)}: {100 * fleet.sum('answered') / attempts:.2f} % answered, "
            f"{100 * fleet.sum('refused') / attempts:.2f} % refused with the cause, "
            f"{100 * fleet.sum('failed') / attempts:.2f} % without an answer |",
            f"| refusals by code | {words} |",
            *([f"| how long a refusal took | p50 {refusals.quantile(0.5):.1f} s, p95 {refusals.quantile(0.95):.1f} s, "
            f"longest {refusals.longest:.1f} s |"] if (refusals := fleet.latency().get("refusals")) else []),
            "",
        ]  # fmt: skip

    def _recovery(self) -> list[str]:
        if not self.events:
            return []
        lines = [
            "## Recovery", "",
            "From the fault to the first answer after which no other was missing (a look ten times a second). For what "
            "lasts on purpose, from its end: PostgreSQL told to start or to go on, the host's power on.", "",
            "| fault | times | counted from | median s | p95 s | longest s | without service, median s | restarts by systemd |",
            "|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for kind in self.site.FAULTS:
            some = [event for event in self.events if event.kind == kind]
            if some:
                times = sorted(event.recovery for event in some)
                lines.append(
                    f"| {kind} | {len(some)} | {self.site.LASTING.get(kind, 'fault')} | {statistics.median(times):.1f} | "
                    f"{times[math.ceil(0.95 * len(times)) - 1]:.1f} | {times[-1]:.1f} | "
                    f"{statistics.median(event.silent for event in some):.1f} | {sum(event.restarts for event in some)} |"
                )
        return [*lines, ""]

    def _latency(self) -> list[str]:
        lines = [
            "## Requests", "", "Calls that succeeded, as the clients saw them, waits during faults included.", "",
            "| tool | calls | p50 ms | p95 ms | p99 ms | longest s |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        everything = Histogram()
        latency = self.fleet.latency()
        latency.pop("refusals", None)
        for tool in sorted(latency):
            everything.merge(latency[tool])
        for tool, times in [*sorted(latency.items()), ("all", everything)]:
            p50, p95, p99 = (1000 * times.quantile(share) for share in (0.5, 0.95, 0.99))
            lines.append(f"| {tool} | {number(len(times))} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {times.longest:.1f} |")
        return [*lines, ""]

    def _memory(self) -> list[str]:
        if not self.sampler or not self.sampler.samples:
            return []
        samples = self.sampler.samples
        lives = [life for life in self.sampler.lives() if len(life) > 1]
        calm = [sample for sample in samples if sample[0] >= self.calm_from + SETTLED] or samples[-1:]
        columns = 60
        width = max(samples[-1][0] / columns, 1e-9)
        row: list[list[float]] = [[] for _ in range(columns)]
        for moment, _, resident, _ in samples:
            row[min(columns - 1, int(moment / width))].append(resident)
        top = max(sample[2] for sample in samples)
        spark = "".join(
            SPARKS[min(7, int(8 * statistics.mean(part) / top))] if part else "·" for part in row
        )  # fmt: skip
        longest = max(lives, key=lambda life: life[-1][0] - life[0][0]) if lives else samples[-1:]
        return [
            "## Memory of the server", "",
            "Resident memory (RSS) of the process in the container, in MiB.", "",
            "```text",
            f"{spark}  0 to {top:.1f} MiB over {span(samples[-1][0])}; · is nobody there",
            "```", "",
            "| | MiB |", "|---|---|",
            f"| first, under load | {samples[0][2]:.1f} |",
            f"| largest | {top:.1f} |",
            f"| last, under load | {samples[-1][2]:.1f} |",
            f"| growth of the longest life ({span(longest[-1][0] - longest[0][0])}) | {longest[0][2]:.1f} to {longest[-1][2]:.1f} |",
            f"| growth in the calm end, load without faults ({span(calm[-1][0] - calm[0][0])}) | "
            f"{calm[0][2]:.1f} to {calm[-1][2]:.1f} (of it not the binary's pages: {calm[0][3]:.1f} to {calm[-1][3]:.1f}) |",
            *([f"| idle afterwards | {self.idle['resident']:.1f} ({self.idle['own']:.1f}) |"] if self.idle else []),
            "",
        ]  # fmt: skip

    def _idle(self) -> list[str]:
        if not self.idle:
            return []
        idle = self.idle
        return [
            "## Idle", "",
            f"Nobody calls for {span(idle['seconds'])}; systemd's watchdog, podman's health check and the looks at the database "
            f"go on.{'' if self.options.shipped else SHORT_NOTE}", "",
            "| | CPU time s | share of a core |", "|---|---|---|",
            f"| server | {idle['cpu']:.2f} | {100 * idle['cpu'] / idle['seconds']:.3f} % |",
            f"| PostgreSQL | {idle['database']:.2f} | {100 * idle['database'] / idle['seconds']:.3f} % |", "",
        ]  # fmt: skip

    def _clients(self) -> list[str]:
        lines = ["## Clients", "", "| client | operations | sessions | what it is |", "|---|---|---|---|"]
        for order, last in zip(self.fleet.orders, self.fleet.last):
            lines.append(
                f"| {order.number} | {number(last.get('operations', 0))} | {last.get('sessions', 0)} | {KINDS[order.kind]} |"
            )
        return [*lines, ""]

    def _timeline(self) -> list[str]:
        if not self.events:
            return []
        lines = ["## What happened", ""]
        shown = self.events if len(self.events) <= 200 else self.events[:100] + self.events[-100:]
        if len(shown) < len(self.events):
            lines += [f"The first and the last 100 of {len(self.events)}.", ""]
        lines += ["| at | fault | without service s | back after s | |", "|---|---|---|---|---|"]
        for event in shown:
            rest = "; ".join(filter(None, (event.detail, event.problem and f"**{event.problem}**")))
            lines.append(f"| {span(event.at)} | {event.kind} | {event.silent:.1f} | {event.recovery:.1f} | {rest} |")
        return [*lines, ""]

    def _problems(self) -> list[str]:
        if not self.problems:
            return ["No problems."]
        return ["## Problems", "", *(f"- {problem}" for problem in self.problems[:200])]


def number(count: int) -> str:
    return f"{count:,}"


def span(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"


def main() -> int:
    shown, _, _ = __doc__.partition("\n\nEvery")
    parser = argparse.ArgumentParser(description=shown, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, required=True, help="length of the run; 10080 is seven days")
    add("--seed", type=int, default=1, help="of the plan and of what the clients do (default 1)")
    add("--clients", type=int, default=4, help="how many (default 4); kinds in turn: " + ", ".join(KINDS))
    add("--rate", type=float, default=20, help="calls a second of each client, about (default 20)")
    add("--keep", type=int, default=5000, help="memories of a client before it purges its oldest (default 5000)")
    add("--pause", type=float, help="seconds between faults, on average (default: a sixtieth of the run, 3 to 600)")
    add("--faults", help="comma list, or none (default: all): " + ", ".join(Site.FAULTS))
    add("--shipped", action="store_true", help="the units' own WatchdogSec and RestartSec instead of short ones")
    add("--idle", type=float, default=60, help="seconds of idleness at the end, for idle CPU (default 60)")
    add("--report", help="file for the report in Markdown (default: on the screen)")
    add("--binary", default=os.environ.get("MEMORY_TEST_STATIC_BINARY"), help="static binary for the image (default: built here)")
    add("--host-size", default="8G", help="most that the test host may write, it lies in memory (default 8G)")
    add("--journal", help="folder for the clients' journals (default: a temporary one, which stays when the run fails)")
    add("--show-journal", action="store_true", help="on failure, print the host's journal (warnings and worse)")
    add("--url", help="an existing installation instead of a test host, without faults; token in MEMORY_TOKEN")
    options = parser.parse_args()
    if options.faults is None:
        options.faults = list(Site.FAULTS)
    else:
        options.faults = [part.strip() for part in options.faults.split(",") if part.strip() not in ("", "none")]
    strange = [kind for kind in options.faults if kind not in Site.FAULTS]
    if strange or options.clients < 1 or options.minutes <= 0 or options.rate <= 0:
        parser.error(f"there is no fault {strange[0]!r}" if strange else "minutes, clients and rate are above zero")
    # Also for a run in the background or under systemd: the first signal ends it early, with accounting.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    try:
        return Run(options).execute()
    except KeyboardInterrupt:
        return 2
    except Exception:
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
