"""The installation on a test host, and the faults that can be injected into it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import subprocess
import time

from .probe import HostProcess

SERVICE = "cognitive-memory-mcp"
DATABASE = "cognitive-memory-postgres"

# Drop-ins that make systemd react sooner than the shipped units (WatchdogSec=60, RestartSec=10, PostgreSQL 5).
SHORT_LIMITS = {
    SERVICE: "[Service]\nRestartSec=1\nWatchdogSec=10\n",
    DATABASE: "[Service]\nRestartSec=1\n",
}


@dataclasses.dataclass
class FaultEvent:
    """One injected fault. Moments are of the monotonic clock, durations in seconds."""

    kind: str
    at: float  # seconds since the run began
    struck: float = 0.0
    cured: float = 0.0  # end of a fault that lasts on purpose, otherwise equal to `struck`
    detail: str = ""
    recovery: float = 0.0  # from `cured` to the first answer after the last gap
    silent: float = 0.0  # time without a served answer
    restarts: int = 0
    problem: str = ""

    def record_problem(self, problem: str) -> None:
        """Keeps the first problem, which usually causes the others."""
        self.problem = self.problem or problem


class Site:
    """Each fault returns after it was injected (and has ended, if it lasts on purpose).

    A fault returns the names of the processes that must be replaced by new ones: server, conmon or database.
    """

    def __init__(self, shipped: bool, binary: str | None, size: str) -> None:
        import host as hosts

        reasons = hosts.missing()
        if reasons:
            raise RuntimeError("no test host can run on this machine: " + "; ".join(reasons))
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

    def find_process(self, name: str) -> HostProcess | None:
        """Returns the current process named `server`, `conmon` or `database`."""
        return {"server": self.find_server, "conmon": self.find_conmon, "database": self.find_database}[name]()

    def find_server(self) -> HostProcess | None:
        command = [f"/{SERVICE}".encode(), b"serve"]
        return self._find_process(lambda words, folder: words[:2] == command and _is_first_of_container(folder))

    def find_database(self) -> HostProcess | None:
        return self._find_process(lambda words, folder: words[0].endswith(b"postgres") and _is_first_of_container(folder))

    def find_conmon(self) -> HostProcess | None:
        return self._find_process(lambda words, _: words[0].endswith(b"conmon") and SERVICE.encode() in words)

    def database_backends(self) -> list[HostProcess]:
        """Returns the child processes of the PostgreSQL server."""
        proc, database = self.host.path("/proc"), self.find_database()
        backends = []
        for folder in proc.iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and _parent_pid(folder) == database.pid:
                    backends.append(HostProcess(proc, int(folder.name)))
        return backends

    def database_cpu_seconds(self) -> float:
        total = self.find_database().cpu_seconds()
        for backend in self.database_backends():
            with contextlib.suppress(OSError):
                total += backend.cpu_seconds()
        return total

    def _find_process(self, matches) -> HostProcess | None:
        """Reads /proc from outside: a command on the host takes too long, and fails while the host is down."""
        proc = self.host.path("/proc")
        if not self.host.up:
            return None
        for folder in proc.iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if matches(words, folder):
                    return HostProcess(proc, int(folder.name))
        return None

    def _send_signal(self, name: str, *processes: HostProcess) -> None:
        pids = [str(process.pid) for process in processes]
        words = [*self.host.enter(), "kill", f"-{name}", *pids]
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def _strike_process(self, event: FaultEvent, name: str, process: HostProcess) -> None:
        event.struck = time.monotonic()
        self._send_signal(name, process)

    # ---- faults

    def inject_fault(self, event: FaultEvent, draw: random.Random) -> tuple[str, ...]:
        return self.FAULTS[event.kind](self, event, draw)

    def kill_server(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        self._strike_process(event, "KILL", self.find_server())
        return ("server",)

    def kill_conmon(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        self._strike_process(event, "KILL", self.find_conmon())
        return ("server", "conmon")

    def hang_server(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        self._strike_process(event, "STOP", self.find_server())
        return ("server", "conmon")

    def restart_server(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        event.struck = time.monotonic()
        self.service.restart()
        return ("server", "conmon")

    def kill_database(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        self._strike_process(event, "KILL", self.find_database())
        return ("database",)

    def kill_backend(self, event: FaultEvent, draw: random.Random) -> tuple[str, ...]:
        """PostgreSQL then ends all sessions and recovers without a restart."""
        self._strike_process(event, "KILL", draw.choice(self.database_backends()))
        return ()

    def hang_database(self, event: FaultEvent, draw: random.Random) -> tuple[str, ...]:
        seconds = draw.uniform(4, 12)
        event.detail = f"hung for {seconds:.0f} s"
        processes = [self.find_database(), *self.database_backends()]
        event.struck = time.monotonic()
        self._send_signal("STOP", *processes)
        time.sleep(seconds)
        self._send_signal("CONT", *processes)
        event.cured = time.monotonic()
        return ()

    def stop_database(self, event: FaultEvent, draw: random.Random) -> tuple[str, ...]:
        seconds = draw.uniform(5, 20)
        event.detail = f"stopped for {seconds:.0f} s"
        event.struck = time.monotonic()
        self.service.stop(DATABASE)
        time.sleep(seconds)
        event.cured = time.monotonic()
        self.service.start(DATABASE)
        return ("database",)

    def restart_database(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        event.struck = time.monotonic()
        self.service.restart(DATABASE)
        return ("database",)

    def reboot_host(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        event.struck = time.monotonic()
        self.host.power_off(reboot=True)
        event.cured = time.monotonic()
        event.detail = f"shutdown took {event.cured - event.struck:.1f} s"
        self.host.boot()
        return ("server", "conmon", "database")

    def cut_power(self, event: FaultEvent, _: random.Random) -> tuple[str, ...]:
        event.struck = time.monotonic()
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
        "kill -9 of a PostgreSQL backend": kill_backend,
        "hang of PostgreSQL": hang_database,
        "stop of PostgreSQL": stop_database,
        "restart of PostgreSQL": restart_database,
        "reboot": reboot_host,
        "power cut": cut_power,
    }
    # Expected automatic restarts of the service by systemd; 0 for the other kinds.
    EXPECTED_RESTARTS = {"kill -9 of the server": 1, "kill -9 of conmon": 1, "hang of the server": 1}
    # For faults that last on purpose, recovery is counted from this action that ends them.
    ENDED_BY = {"hang of PostgreSQL": "SIGCONT", "stop of PostgreSQL": "start", "reboot": "boot", "power cut": "boot"}

    # ---- measurements

    def count_restarts(self, since: float) -> int:
        """Returns how often systemd has restarted the service automatically since then (seconds of the wall clock)."""
        pattern = f"{SERVICE}.service: Scheduled restart job"
        arguments = f"--since=@{since:.3f} --grep='{pattern}' --output=short-unix --quiet"
        lines = self.host.journal(arguments, this_boot=False).splitlines()
        # --since only selects where journalctl begins: all boots share one boot ID, so older lines can follow.
        return sum(float(line.split()[0]) >= since for line in lines if line[:1].isdigit())

    def measure_starts(self, rounds: int) -> list[float]:
        """Returns the seconds from the start job to the active state by systemd's clock, with PostgreSQL running."""
        seconds = []
        for _ in range(rounds):
            self.service.stop()
            self.service.start()
            unit = self.service.show()
            begin, end = (int(unit[name]) for name in ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
            seconds.append((end - begin) / 1e6)
        return seconds

    def installed_versions(self) -> dict[str, str]:
        run = self.service.run
        image_bytes = int(str(run(f"podman image inspect --format {{{{.Size}}}} localhost/{SERVICE}:latest")))
        return {
            "service": str(run(f"podman exec {SERVICE} /{SERVICE} --version")).split()[-1],
            "podman": str(run("podman --version")).split()[-1],
            "systemd": str(run("systemctl --version")).split()[1],
            "postgres": self.service.sql("show server_version").split()[0],
            "image": f"{image_bytes / 1e6:.1f} MB",
        }

    def checksum_failures(self) -> int:
        return int(self.service.sql("select coalesce(sum(checksum_failures), 0) from pg_stat_database"))


def _is_first_of_container(folder: pathlib.Path) -> bool:
    return re.search(r"^NSpid:.*\t1$", (folder / "status").read_text(), re.M) is not None


def _parent_pid(folder: pathlib.Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
