"""The course of a run: install, load, faults, a calm phase, final checks, report."""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time

from .accounting import Account, purge_memories, read_journals, settle_accounts
from .client import KINDS, ONE_SESSION, ClientSettings
from .console import Console
from .fleet import Fleet
from .probe import PROMPT, SETTLED, AvailabilityProbe, MemorySampler
from .protocol import CALL_TIMEOUT, Connection
from .report import format_report
from .site import FaultEvent, Site

# A fault without recovery after this many seconds is a problem.
RECOVERY_LIMIT = 300
# A client without an answer this many seconds after the recovery of the service is stranded.
STRANDED_AFTER = 20.0
# A report is written during the run, first after 20 minutes and then every 10 minutes.
FIRST_REPORT, REPORT_INTERVAL = 1200, 600


class Coordinator:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.console = Console()
        self.random = random.Random(options.seed)
        self.tag = f"s{random.SystemRandom().randrange(16**6):06x}"
        self.folder = pathlib.Path(options.journal or tempfile.mkdtemp(prefix="stability-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.site: Site | None = None
        self.fleet: Fleet | None = None
        self.probe: AvailabilityProbe | None = None
        self.sampler: MemorySampler | None = None
        self.events: list[FaultEvent] = []
        self.problems: list[str] = []
        self.stranded = 0
        self.unexpected = 0
        self.restarts = 0
        self.account: Account | None = None
        self.idle: dict | None = None
        self.starts: list[float] = []
        self.versions: dict[str, str] = {}
        self.checksum_failures = 0
        self.started = self.seconds = 0.0
        self.calm_from = 0.0
        self.interrupted = False
        self.report_due = time.monotonic() + FIRST_REPORT

    def execute(self) -> int:
        """Returns the exit code: 0 if there are no problems, otherwise 1."""
        try:
            self._prepare_installation()
            self._start_load()
            try:
                self._run_schedule()
            except KeyboardInterrupt:
                self.interrupted = True
                self.console.print_event("interrupted; the final checks follow")
            self._finish_run()
        finally:
            self._close_site()
        self._publish_report()
        self._announce_outcome()
        return 1 if self.problems else 0

    # ---- beginning

    def _prepare_installation(self) -> None:
        options = self.options
        if options.url:
            self.url, self.token = options.url, os.environ.get("MEMORY_TOKEN", "")
            return
        self.console.print_event("booting a test host and installing the service")
        self.site = Site(options.shipped, options.binary, options.host_size)
        self.url, self.token = self.site.url, self.site.token
        self.versions = self.site.installed_versions()
        self.starts = self.site.measure_starts(5 if options.minutes >= 5 else 1)
        self.console.print_event(f"installed and ready; start to active {1000 * statistics.median(self.starts):.0f} ms")

    def _start_load(self) -> None:
        self.probed_id = self._store_probed_memory()
        self.fleet = Fleet([self._client_settings(number) for number in range(self.options.clients)])
        self.fleet.wait_for_first_operations(60)
        self.probe = AvailabilityProbe(self.url, self.token, self.probed_id)
        if self.site is not None:
            self.sampler = MemorySampler(self.site.find_server, self.options.minutes)
        self.started = time.monotonic()
        self.console.print_event(f"{self.options.clients} clients are working; the run begins with seed {self.options.seed}")

    def _store_probed_memory(self) -> str:
        connection = Connection(self.url, self.token, CALL_TIMEOUT)
        # A tag of its own keeps this memory out of the accounting.
        item = {"content": f"[{self.tag}probe] memory read by the availability probe", "tags": [self.tag + "probe"]}
        answer = connection.call("remember", items=[item])
        connection.close()
        return answer["memories"][0]["id"]

    def _client_settings(self, number: int) -> ClientSettings:
        kinds = list(KINDS)
        return ClientSettings(
            number=number,
            kind=kinds[number % len(kinds)],
            url=self.url,
            token=self.token,
            seed=self.random.getrandbits(32),
            tag=self.tag,
            rate=self.options.rate,
            keep=self.options.keep,
            journal=str(self.folder / f"client-{number}.jsonl"),
        )

    # ---- schedule

    def _run_schedule(self) -> None:
        """Injects the faults, then keeps the load without faults, which shows the memory use between restarts."""
        total = self.options.minutes * 60
        calm = min(max(10.0, total * 0.15), 86400.0)
        self.calm_from = total - calm if self.site is not None else 0.0
        if self.site is not None and self.options.faults:
            self._inject_faults(self.options.pause or min(max(total / 60, 3.0), 600.0))
            self.calm_from = max(self.calm_from, self._elapsed())
        self._wait_under_load(max(total, self.calm_from + calm) - self._elapsed())

    def _inject_faults(self, pause: float) -> None:
        """Injects all kinds in a seeded order, then all again in another order, until the calm phase begins.

        Each kind is injected at least once, even if the run then takes longer than requested.
        """
        self._wait_under_load(min(5.0, pause))
        kinds: list[str] = []
        rounds = 0
        while self._elapsed() < self.calm_from or (rounds == 1 and kinds):
            if not kinds:
                kinds = list(self.options.faults)
                self.random.shuffle(kinds)
                rounds += 1
            self._test_fault(kinds.pop())
            remaining = self.calm_from - self._elapsed()
            self._wait_under_load(min(self.random.uniform(0.5, 1.5) * pause, remaining if remaining > 0 else 1.0))

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _wait_under_load(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.fleet.receive_statuses()
            self._show_status()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            time.sleep(min(0.25, remaining))
            self._write_interim_report()

    def _show_status(self) -> None:
        fleet = self.fleet
        served = 100 * self.probe.share_of_time("served") if any(self.probe.seconds.values()) else 100
        self.console.show_status(
            f"{len(self.events)} faults, {fleet.total('operations')} operations, {fleet.total('written')} writes acknowledged, "
            f"served {served:.1f} % of the time, {fleet.total('live')} memories"
        )

    def _write_interim_report(self) -> None:
        """A run of several days leaves a report even if the machine fails before the end."""
        if self.options.report and time.monotonic() > self.report_due:
            self.report_due = time.monotonic() + REPORT_INTERVAL
            self.seconds = self._elapsed()
            pathlib.Path(self.options.report).write_text(format_report(self))

    # ---- one fault

    def _test_fault(self, kind: str) -> None:
        before = {name: self.site.find_process(name) for name in ("server", "conmon", "database")}
        since = time.time()
        event = FaultEvent(kind, self._elapsed())
        self.events.append(event)
        self.console.show_status(kind)
        replaced = self._inject_fault(event)
        self._wait_for_recovery(event, {name: before[name] for name in replaced})
        self._measure_outage(event)
        self._check_clients_continue(event)
        event.restarts = self.site.count_restarts(since)
        self.restarts += event.restarts
        self._check_restarts(event)
        if "server" not in replaced and self.site.find_server() != before["server"]:
            self.unexpected += 1
            event.record_problem("the server process ended")
        if event.problem:
            self.problems.append(f"{event.kind} at {event.at:.0f} s: {event.problem}")
        self._print_fault(event)

    def _inject_fault(self, event: FaultEvent) -> tuple[str, ...]:
        replaced: tuple[str, ...] = ()
        try:
            replaced = self.site.inject_fault(event, self.random)
        except Exception as error:
            # The fault may have been injected nevertheless; the recovery is checked in any case.
            event.record_problem(f"could not be injected: {error}")
            event.struck = event.struck or time.monotonic()
        event.cured = event.cured or event.struck
        return replaced

    def _wait_for_recovery(self, event: FaultEvent, ended: dict) -> None:
        """Waits until new processes have replaced `ended` and the probe is served without a gap."""
        deadline = time.monotonic() + RECOVERY_LIMIT
        while not (self._are_replaced(ended) and self.probe.served_without_gap(event.cured) >= SETTLED):
            self.fleet.receive_statuses()
            if time.monotonic() > deadline:
                event.record_problem(f"no recovery within {RECOVERY_LIMIT} s")
                return
            time.sleep(0.05)

    def _are_replaced(self, ended: dict) -> bool:
        return all(self.site.find_process(name) not in (None, old) for name, old in ended.items())

    def _measure_outage(self, event: FaultEvent) -> None:
        probes = [probe for probe in self.probe.probes_since(event.struck - PROMPT) if probe[1] >= event.struck]
        failed = [begin for begin, _, outcome in probes if outcome != "served"]
        if not failed:
            return
        served_again = (end for begin, end, outcome in probes if outcome == "served" and begin > failed[-1])
        event.recovery = max(0.0, next(served_again, time.monotonic()) - event.cured)
        event.silent = sum(after[0] - probe[0] for probe, after in zip(probes, probes[1:]) if probe[2] != "served")

    def _check_clients_continue(self, event: FaultEvent) -> None:
        """Every client must complete an operation without help."""
        recovered = time.monotonic()
        waiting = set(range(len(self.fleet.statuses)))
        while waiting and time.monotonic() < recovered + STRANDED_AFTER:
            self.fleet.receive_statuses()
            waiting = {number for number in waiting if self.fleet.statuses[number]["last_ok"] <= recovered}
            time.sleep(0.05)
        for number in waiting:
            self.stranded += 1
            kind = self.fleet.clients[number].kind
            event.record_problem(f"client {number} ({kind}) has no answer {STRANDED_AFTER:.0f} s after the recovery")

    def _check_restarts(self, event: FaultEvent) -> None:
        expected = Site.EXPECTED_RESTARTS.get(event.kind, 0)
        if event.restarts > expected:
            self.unexpected += event.restarts - expected
            event.record_problem(f"systemd restarted the service {event.restarts} times instead of {expected}")

    def _print_fault(self, event: FaultEvent) -> None:
        remarks = [event.detail, event.problem and f"PROBLEM: {event.problem}"]
        text = (
            f"{event.kind:<32} no service for {event.silent:5.1f} s, recovered {event.recovery:5.1f} s after the "
            f"{Site.ENDED_BY.get(event.kind, 'fault')}"
        )
        self.console.print_event("; ".join([text, *filter(None, remarks)]))

    # ---- end

    def _finish_run(self) -> None:
        self.seconds = self._elapsed()
        self.probe.stop()
        self.console.print_event("the clients finish their pending operations")
        self.fleet.end_clients(60)
        if self.sampler:
            self.sampler.stop()
        self._check_clients_finished()
        self.problems += self.fleet.defects()
        self.console.print_event("looking up every acknowledged write")
        connection = Connection(self.url, self.token, 30)
        self.account = settle_accounts(connection, self.tag, self.fleet.journals(), self.fleet.pending_operations())
        self.problems += self.account.problems()
        if self.site is None:
            self._remove_memories(connection)
        else:
            self._check_pages()
            self._measure_idle_time()
        connection.close()

    def _check_clients_finished(self) -> None:
        for client, status in zip(self.fleet.clients, self.fleet.statuses):
            if not status.get("done"):
                problem = f"client {client.number} ({client.kind}) could not finish: {status.get('pending')}"
            elif client.kind == ONE_SESSION and status["sessions"] != 1:
                problem = f"client {client.number} lost its session: {status['sessions']} sessions instead of 1"
            else:
                continue
            self.stranded += 1
            self.problems.append(problem)

    def _remove_memories(self, connection: Connection) -> None:
        """An existing installation is left without any memory of the run."""
        journaled = read_journals(self.fleet.journals(), Account())
        ids = [id for id, memory in journaled.items() if memory.state != "purged"]
        purge_memories(connection, [self.probed_id, *ids])

    def _check_pages(self) -> None:
        self.checksum_failures = self.site.checksum_failures()
        if self.checksum_failures:
            self.problems.append(f"PostgreSQL found {self.checksum_failures} pages with a wrong checksum")

    def _measure_idle_time(self) -> None:
        server, database = self.site.find_server(), self.site.find_database()
        self.console.print_event(f"idle for {self.options.idle:.0f} s")
        # Work that the accounting has caused must not count as idle CPU time.
        self._wait_idle(min(5.0, self.options.idle))
        begin, server_before, database_before = time.monotonic(), server.cpu_seconds(), self.site.database_cpu_seconds()
        self._wait_idle(self.options.idle)
        if self.site.find_server() != server or self.site.find_database() != database:
            self.problems.append("the server or its database ended while it was idle")
            return
        resident, anonymous = server.memory_mib()
        self.idle = {
            "seconds": time.monotonic() - begin,
            "server_cpu": server.cpu_seconds() - server_before,
            "database_cpu": self.site.database_cpu_seconds() - database_before,
            "resident": resident,
            "anonymous": anonymous,
        }

    def _wait_idle(self, seconds: float) -> None:
        """Returns early after Ctrl-C."""
        deadline = time.monotonic() + seconds
        try:
            while (remaining := deadline - time.monotonic()) > 0:
                self.console.show_status("idle")
                time.sleep(min(1.0, remaining))
        except KeyboardInterrupt:
            self.interrupted = True

    def _close_site(self) -> None:
        if self.site is None:
            return
        if self.problems and self.options.show_journal:
            print(self.site.host.journal("-p warning --lines=300", this_boot=False), file=sys.stderr)
        self.site.close()

    def _publish_report(self) -> None:
        text = format_report(self)
        if self.options.report:
            pathlib.Path(self.options.report).write_text(text)
            self.console.print_event(f"report written to {self.options.report}")
        else:
            print("\n" + text)

    def _announce_outcome(self) -> None:
        for problem in self.problems:
            self.console.print_event(f"PROBLEM: {problem}")
        if self.problems:
            count = len(self.problems)
            self.console.print_event(f"FAILED with {count} problems; the clients' journals are kept in {self.folder}")
            return
        self.console.print_event(f"passed: {self.account.writes} acknowledged writes, lost 0, stranded clients 0")
        if not self.options.journal:
            shutil.rmtree(self.folder, ignore_errors=True)
