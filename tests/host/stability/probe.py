"""Measurement of availability, and of the memory and CPU time of processes on the test host."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import threading
import time

from .protocol import Connection, ToolError

# An answer that takes longer counts as missing, in seconds.
PROMPT = 1.0
# The service has recovered when every probe has been served for this many seconds.
SETTLED = 2.0
PROBES_KEPT = 20_000
SAMPLES_PER_RUN = 4000


class AvailabilityProbe:
    """Reads one memory ten times a second, and sums up the time in which it was served, refused or not answered."""

    INTERVAL = 0.1

    def __init__(self, url: str, token: str, id: str) -> None:
        self.connection, self.id = Connection(url, token, PROMPT), id
        # (begin, end, outcome) of the latest probes.
        self.recent: collections.deque = collections.deque(maxlen=PROBES_KEPT)
        self.seconds = {"served": 0.0, "refused": 0.0, "silent": 0.0}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._probe_until_end, daemon=True)
        self._thread.start()

    def _probe_until_end(self) -> None:
        while not self._end.is_set():
            begin = time.monotonic()
            outcome = self._probe_once()
            end = time.monotonic()
            if end - begin > PROMPT:
                # The timeout of the socket applies to each read, so an answer in parts can take longer.
                outcome = "silent"
            self._end.wait(max(0.0, self.INTERVAL - (end - begin)))
            self.seconds[outcome] += time.monotonic() - begin
            self.recent.append((begin, end, outcome))

    def _probe_once(self) -> str:
        try:
            return "served" if self.connection.call("get", ids=[self.id])["memories"] else "silent"
        except ToolError:
            return "refused"
        except Exception:
            return "silent"

    def probes_since(self, moment: float) -> list[tuple[float, float, str]]:
        return [probe for probe in list(self.recent) if probe[0] >= moment]

    def served_without_gap(self, since: float) -> float:
        """Returns for how many seconds every probe has been served until now, counted from `since` at the earliest."""
        first = None
        for begin, _, outcome in reversed(self.probes_since(since)):
            if outcome != "served":
                break
            first = begin
        return 0.0 if first is None else time.monotonic() - first

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        self.connection.close()

    def share_of_time(self, outcome: str) -> float:
        return self.seconds[outcome] / max(sum(self.seconds.values()), 1e-9)


class HostProcess:
    """A process of the test host, identified by its PID there and its start time."""

    def __init__(self, proc: pathlib.Path, pid: int) -> None:
        self.folder, self.pid = proc / str(pid), pid
        self.started = self._stat_fields()[19]

    def _stat_fields(self) -> list[str]:
        return (self.folder / "stat").read_text().rpartition(")")[2].split()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostProcess) and (self.pid, self.started) == (other.pid, other.started)

    __hash__ = None

    def cpu_seconds(self) -> float:
        fields = self._stat_fields()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> tuple[float, float]:
        """Returns the resident memory, and the part of it that is anonymous (without the pages of the binary)."""
        text = (self.folder / "status").read_text()
        resident, anonymous = (int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) for name in ("VmRSS", "RssAnon"))
        return resident / 1024, anonymous / 1024


class MemorySampler:
    """Samples the memory of the server process; each sample is (seconds, PID, resident MiB, anonymous MiB)."""

    def __init__(self, find_server, minutes: float) -> None:
        self.find_server = find_server
        self.interval = max(0.5, minutes * 60 / SAMPLES_PER_RUN)
        self.started = time.monotonic()
        self.samples: list[tuple[float, int, float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_end, daemon=True)
        self._thread.start()

    def _sample_until_end(self) -> None:
        process = None
        while not self._end.wait(self.interval):
            try:
                process = process or self.find_server()
                if process is not None:
                    self.samples.append((time.monotonic() - self.started, process.pid, *process.memory_mib()))
            except (OSError, TypeError, IndexError):
                process = None

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def samples_by_process(self) -> list[list[tuple]]:
        processes: list[list[tuple]] = []
        for sample in self.samples:
            if not processes or processes[-1][-1][1] != sample[1]:
                processes.append([])
            processes[-1].append(sample)
        return processes
