"""The client processes of a run, and their latest status."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import pathlib
import time

from .client import ClientSettings, run_client
from .latency import Histogram


class Fleet:
    def __init__(self, clients: list[ClientSettings]) -> None:
        context = multiprocessing.get_context("spawn")
        self.clients = clients
        self.processes, self.links = [], []
        self.statuses: list[dict] = [{} for _ in clients]
        for settings in clients:
            here, there = context.Pipe()
            process = context.Process(target=run_client, args=(settings, there), daemon=True)
            process.start()
            there.close()
            self.processes.append(process)
            self.links.append(here)

    def receive_statuses(self) -> None:
        for number, link in enumerate(self.links):
            try:
                while link.poll():
                    self.statuses[number] = link.recv()
            except (EOFError, OSError):
                if not self.statuses[number].get("done"):
                    raise RuntimeError(f"the process of client {number} has ended unexpectedly") from None

    def wait_for_first_operations(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not all(status.get("operations") for status in self.statuses):
            self.receive_statuses()
            if time.monotonic() > deadline:
                codes = [status.get("codes") for status in self.statuses]
                raise RuntimeError(f"not every client completed an operation within {timeout:.0f} s; error codes: {codes}")
            time.sleep(0.05)

    def end_clients(self, timeout: float) -> None:
        """Lets every client finish its pending operation, then ends the processes."""
        for link in self.links:
            with contextlib.suppress(OSError):
                link.send("end")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not all(status.get("done") for status in self.statuses):
            self.receive_statuses()
            time.sleep(0.05)
        for process in self.processes:
            process.join(2)
            if process.is_alive():
                process.kill()
        self.receive_statuses()

    # ---- sums over all clients

    def total(self, name: str) -> int:
        return sum(status.get(name, 0) for status in self.statuses)

    def error_codes(self) -> collections.Counter:
        codes: collections.Counter = collections.Counter()
        for status in self.statuses:
            codes.update(status.get("codes", {}))
        return codes

    def latencies(self) -> dict[str, Histogram]:
        merged: dict[str, Histogram] = collections.defaultdict(Histogram)
        for status in self.statuses:
            for tool, (buckets, longest) in status.get("latency", {}).items():
                merged[tool].merge_from(Histogram(buckets, longest))
        return merged

    def defects(self) -> list[str]:
        return [defect for status in self.statuses for defect in status.get("defects", [])]

    def pending_operations(self) -> list[dict]:
        return [status["pending"] for status in self.statuses if status.get("pending")]

    def journals(self) -> list[pathlib.Path]:
        return [pathlib.Path(settings.journal) for settings in self.clients]
