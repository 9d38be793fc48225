"""An MCP server as a child process that is called over stdio, for measurements. It needs no packages."""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Time limit of a call in seconds.
PATIENCE = 120
# Time limit for a stop in seconds, after which the process is killed.
STOP_LIMIT = 20

class CallFailed(SystemExit):
    """A server ended, did not answer in time, or answered with an error. Ends the program if nobody handles it."""


# The name of a tool and its arguments.
Call = tuple[str, dict[str, Any]]


@dataclass
class Timing:
    """The answers of some calls, in the order of the calls, their duration, and the processor time of the server.

    On a busy machine, the processor time varies less than the duration."""

    answers: list[dict]
    seconds: list[float]
    total: float
    processor: float

    def per_second(self) -> float:
        return len(self.seconds) / self.total

    def milliseconds(self, share: float) -> float:
        """Returns a quantile of the durations, such as 0.5 for the median."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def processor_milliseconds(self) -> float:
        """Returns the mean processor time of a call."""
        return 1000 * self.processor / len(self.seconds)


@dataclass
class McpProcess:
    """A started server. Leaving the `with` block stops it."""

    command: list[str | Path]
    settings: Mapping[str, str]
    log: Path
    answers: queue.Queue = field(default_factory=queue.Queue)
    last_id: int = 0

    def __enter__(self) -> "McpProcess":
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.errors = self.log.open("w")
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=inherited | dict(self.settings),
            text=True,
        )
        threading.Thread(target=self._read_answers, daemon=True).start()
        client = {"name": "measurement", "version": "1"}
        self._send("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._next_answer()
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def _read_answers(self) -> None:
        for line in self.process.stdout:
            message = json.loads(line)
            if "id" in message and "method" not in message:
                self.answers.put((time.perf_counter(), message))
        self.answers.put(None)

    def _write(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _send(self, method: str, params: dict) -> int:
        self.last_id += 1
        self._write({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        return self.last_id

    def _next_answer(self) -> tuple[float, int, dict]:
        """Returns the time, the ID and the result of the next answer."""
        try:
            received = self.answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise CallFailed(f"{self.command[0]}: no answer within {PATIENCE} s{self._end_of_log()}") from None
        if received is None:
            raise CallFailed(f"{self.command[0]}: ended{self._end_of_log()}")
        at, message = received
        result = message.get("result")
        if result is None or result.get("isError"):
            raise CallFailed(f"{self.command[0]}: answered {json.dumps(message)[:500]}")
        return at, message["id"], result

    def _end_of_log(self) -> str:
        return f"; the end of its log is:\n{self.log.read_text()[-2000:]}"

    def list_tools(self) -> list[dict]:
        """Returns the tools as a client reads them. No server of this comparison divides the list into pages."""
        self._send("tools/list", {})
        return self._next_answer()[2]["tools"]

    def call(self, tool: str, arguments: dict) -> dict:
        return self.call_all([(tool, arguments)]).answers[0]

    def call_again(self, call: Call, attempts: int, pause: float) -> int:
        """Makes a call until it succeeds, at most `attempts` times. Returns the number of failures."""
        for failures in range(attempts - 1):
            try:
                self.call(*call)
                return failures
            except CallFailed:
                time.sleep(pause)
        self.call(*call)
        return attempts - 1

    def call_all(self, calls: Iterable[Call], in_flight: int = 1) -> Timing:
        """Makes the calls with at most `in_flight` of them unanswered at any time."""
        sent: dict[int, float] = {}
        answered: dict[int, tuple[float, dict]] = {}
        used, begin = self.processor_seconds(), time.perf_counter()

        def receive() -> None:
            at, number, result = self._next_answer()
            answered[number] = (at - sent[number], result)

        for tool, arguments in calls:
            while len(sent) - len(answered) >= in_flight:
                receive()
            now = time.perf_counter()
            sent[self._send("tools/call", {"name": tool, "arguments": arguments})] = now
        while len(answered) < len(sent):
            receive()
        total = time.perf_counter() - begin
        ordered = [answered[number] for number in sent]
        processor = self.processor_seconds() - used
        return Timing([result for _, result in ordered], [seconds for seconds, _ in ordered], total, processor)

    def resident_megabytes(self) -> float:
        """Returns the resident memory of the process and its descendants."""
        return sum(resident_kilobytes(process) for process in descendants(self.process.pid)) / 1000


    def processor_seconds(self) -> float:
        """Returns the processor time that the process and its descendants have used."""
        return sum(processor_seconds(process) for process in descendants(self.process.pid))


def descendants(root: int) -> list[int]:
    """Returns a process and all processes below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def resident_kilobytes(process: int) -> float:
    """Returns the resident memory of a process in units of 1,000 bytes, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1.024 for line in lines if line.startswith("VmRSS:")), 0)


def processor_seconds(process: int) -> float:
    """Returns the processor time of a process, or 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
