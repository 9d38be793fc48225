"""The report of a run in Markdown."""

from __future__ import annotations

import math
import os
import statistics

from .client import KINDS
from .latency import Histogram
from .probe import SETTLED
from .site import FaultEvent, Site

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60
SHORT_WATCHDOG = " WatchdogSec=10 in the drop-in makes the server check itself six times as often as the shipped 60."
EVENTS_SHOWN = 200
PROBLEMS_SHOWN = 200


def format_report(run) -> str:
    """Formats the state of a `Coordinator`, which may still be running."""
    sections = [
        _title(run), _result(run), _availability(run), _recovery(run), _requests(run),
        _memory(run), _idle_time(run), _clients(run), _timeline(run), _problems(run),
    ]  # fmt: skip
    return "\n".join(line for section in sections for line in section) + "\n"


# ---- building blocks


def format_count(count: int) -> str:
    return f"{count:,}"


def format_duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"


def _table(header: str, *rows: str) -> list[str]:
    columns = header.count("|") - 1
    return [header, "|" + "---|" * columns, *rows]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %"


# ---- sections


def _title(run) -> list[str]:
    options = run.options
    memory = math.ceil(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    rows = [
        f"| duration | {format_duration(run.seconds)}{', ended early' if run.interrupted else ''} |",
        f"| command | `{_command_line(options)}` |",
        f"| installation | {_installation(run)} |",
        f"| machine | {os.cpu_count()} cores, {memory} GiB, shared with the clients |",
    ]
    if run.site is not None:
        short = "WatchdogSec=10 (shipped: 60), RestartSec=1 (shipped: 10, PostgreSQL 5), by drop-ins"
        rows.append(f"| limits of the units | {'as shipped' if options.shipped else short} |")
    rows.append(f"| load | {options.clients} clients, {options.rate:g} calls per second each |")
    return ["# Stability run", "", *_table("| | |", *rows), ""]


def _command_line(options) -> str:
    words = ["tests/host/stability/run", f"--minutes {options.minutes:g}"]
    words += [f"--seed {options.seed}", f"--clients {options.clients}"]
    if options.shipped:
        words.append("--shipped")
    if options.idle != 60:
        words.append(f"--idle {options.idle:g}")
    return " ".join(words)


def _installation(run) -> str:
    if run.site is None:
        return "an existing installation, without faults"
    versions = run.versions
    return (
        f"test host with systemd {versions['systemd']}, rootless podman {versions['podman']}, PostgreSQL "
        f"{versions['postgres']} and version {versions['service']} of the service, installed by quadlet/install.sh"
    )


def _result(run) -> list[str]:
    rows = _accounting_rows(run.account)
    rows += [
        f"| **clients stranded** | **{run.stranded}** |",
        f"| wrong answers seen by clients | {len(run.fleet.defects())} |",
        f"| repetitions of an acknowledged write with its idempotency key | {format_count(run.fleet.total('repetitions'))} |",
    ]
    if run.site is not None:
        starts = [1000 * seconds for seconds in run.starts]
        rows += [
            f"| faults | {len(run.events)} |",
            f"| automatic restarts by systemd | {run.restarts}, of which unexpected: {run.unexpected} |",
            f"| damaged pages found by PostgreSQL's checksums | {run.checksum_failures} |",
            f"| image | {run.versions['image']} |",
            f"| start to active | {statistics.median(starts):.0f} ms "
            f"({min(starts):.0f} to {max(starts):.0f}, {len(starts)} starts, PostgreSQL running) |",
        ]
    return ["## Result", "", *_table("| | |", *rows), ""]


def _accounting_rows(account) -> list[str]:
    if account is None:
        return ["| accounting | not done yet: the run continues |"]
    count = format_count
    return [
        f"| **acknowledged writes lost** | **{len(account.lost)}** of {count(account.writes)} |",
        f"| stored twice, or stored without an acknowledgement | {len(account.doubled) + len(account.unknown)} |",
        f"| looked up at the end | {count(account.live)} memories at their acknowledged version, {count(account.deleted)} "
        f"deleted, {count(account.purged)} purged; {count(account.stored)} found by listing |",
    ]


def _availability(run) -> list[str]:
    fleet, probe, count = run.fleet, run.probe, format_count
    attempts, operations = max(fleet.total("attempts"), 1), max(fleet.total("operations"), 1)
    codes = ", ".join(f"{code}: {count(times)}" for code, times in sorted(fleet.error_codes().items())) or "none"
    abandoned = "those with a wrong answer abandoned" if fleet.defects() else "none abandoned"
    rows = [
        f"| time with an answer within 1 s | {_percent(probe.share_of_time('served'), 1)} |",
        f"| time with an error within 1 s (database unavailable) | {_percent(probe.share_of_time('refused'), 1)} |",
        f"| time with neither | {_percent(probe.share_of_time('silent'), 1)} |",
        f"| operations | {count(fleet.total('operations'))}, {_percent(fleet.total('first_try'), operations)} at the first "
        f"attempt, {abandoned} |",
        f"| calls, repetitions included | {count(attempts)}: {_percent(fleet.total('answered'), attempts)} answered, "
        f"{_percent(fleet.total('refused'), attempts)} refused with the cause, "
        f"{_percent(fleet.total('failed'), attempts)} without an answer |",
        f"| errors by code | {codes} |",
    ]
    if refusals := fleet.latencies().get("refusals"):
        rows.append(
            f"| time until a refusal | p50 {refusals.quantile(0.5):.1f} s, p95 {refusals.quantile(0.95):.1f} s, "
            f"longest {refusals.longest:.1f} s |"
        )
    caveat = (
        "Faults are far more frequent than in normal operation, so these shares describe this run and do not predict the "
        "availability of an ordinary week."
    )
    return ["## Availability for clients", "", *([caveat, ""] if run.events else []), *_table("| | |", *rows), ""]


def _recovery(run) -> list[str]:
    if not run.events:
        return []
    rows = []
    for kind in run.site.FAULTS:
        events = [event for event in run.events if event.kind == kind]
        if events:
            rows.append(_recovery_row(kind, events))
    return [
        "## Recovery", "",
        "Time from the fault to the first answer after which no probe failed (ten probes per second). For faults that last "
        "on purpose, the time is counted from the action that ends them: SIGCONT or start of PostgreSQL, boot of the host.",
        "",
        *_table(
            "| fault | times | counted from | median s | p95 s | longest s | without service, median s | restarts by systemd |",
            *rows,
        ),
        "",
    ]  # fmt: skip


def _recovery_row(kind: str, events: list[FaultEvent]) -> str:
    times = sorted(event.recovery for event in events)
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    silent = statistics.median(event.silent for event in events)
    return (
        f"| {kind} | {len(events)} | {Site.ENDED_BY.get(kind, 'fault')} | {statistics.median(times):.1f} | {p95:.1f} | "
        f"{times[-1]:.1f} | {silent:.1f} | {sum(event.restarts for event in events)} |"
    )


def _requests(run) -> list[str]:
    latencies = run.fleet.latencies()
    latencies.pop("refusals", None)
    total = Histogram()
    for times in latencies.values():
        total.merge_from(times)
    rows = [_request_row(tool, times) for tool, times in [*sorted(latencies.items()), ("all", total)]]
    return [
        "## Requests", "", "Successful calls as the clients measured them, including waits during faults.", "",
        *_table("| tool | calls | p50 ms | p95 ms | p99 ms | longest s |", *rows), "",
    ]  # fmt: skip


def _request_row(tool: str, times: Histogram) -> str:
    p50, p95, p99 = (1000 * times.quantile(share) for share in (0.5, 0.95, 0.99))
    return f"| {tool} | {format_count(len(times))} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {times.longest:.1f} |"


def _memory(run) -> list[str]:
    if not run.sampler or not run.sampler.samples:
        return []
    samples = run.sampler.samples
    largest = max(resident for _, _, resident, _ in samples)
    processes = [process for process in run.sampler.samples_by_process() if len(process) > 1]
    longest = max(processes, key=lambda process: process[-1][0] - process[0][0], default=samples[-1:])
    calm = [sample for sample in samples if sample[0] >= run.calm_from + SETTLED] or samples[-1:]
    rows = [
        f"| first sample, under load | {samples[0][2]:.1f} |",
        f"| largest | {largest:.1f} |",
        f"| last sample, under load | {samples[-1][2]:.1f} |",
        f"| growth of the process that lived longest ({format_duration(longest[-1][0] - longest[0][0])}) | "
        f"{longest[0][2]:.1f} to {longest[-1][2]:.1f} |",
        f"| growth in the final phase, load without faults ({format_duration(calm[-1][0] - calm[0][0])}) | "
        f"{calm[0][2]:.1f} to {calm[-1][2]:.1f} (anonymous: {calm[0][3]:.1f} to {calm[-1][3]:.1f}) |",
    ]
    if run.idle:
        rows.append(f"| idle afterwards | {run.idle['resident']:.1f} (anonymous: {run.idle['anonymous']:.1f}) |")
    return [
        "## Memory of the server", "",
        "Resident memory (RSS) of the process in the container, in MiB.", "",
        "```text",
        f"{_sparkline(samples, largest)}  0 to {largest:.1f} MiB over {format_duration(samples[-1][0])}; · means no process",
        "```", "",
        *_table("| | MiB |", *rows), "",
    ]  # fmt: skip


def _sparkline(samples: list[tuple], largest: float) -> str:
    width = max(samples[-1][0] / SPARK_COLUMNS, 1e-9)
    columns: list[list[float]] = [[] for _ in range(SPARK_COLUMNS)]
    for moment, _, resident, _ in samples:
        columns[min(SPARK_COLUMNS - 1, int(moment / width))].append(resident)
    return "".join(SPARKS[min(7, int(8 * statistics.mean(column) / largest))] if column else "·" for column in columns)


def _idle_time(run) -> list[str]:
    if not run.idle:
        return []
    idle, seconds = run.idle, run.idle["seconds"]
    note = "" if run.options.shipped else SHORT_WATCHDOG
    return [
        "## Idle", "",
        f"No calls for {format_duration(seconds)}. The watchdog, podman's health check and the database checks continue.{note}",
        "",
        *_table(
            "| | CPU time s | share of a core |",
            f"| server | {idle['server_cpu']:.2f} | {100 * idle['server_cpu'] / seconds:.3f} % |",
            f"| PostgreSQL | {idle['database_cpu']:.2f} | {100 * idle['database_cpu'] / seconds:.3f} % |",
        ),
        "",
    ]  # fmt: skip


def _clients(run) -> list[str]:
    rows = [
        f"| {client.number} | {format_count(status.get('operations', 0))} | {status.get('sessions', 0)} | {KINDS[client.kind]} |"
        for client, status in zip(run.fleet.clients, run.fleet.statuses)
    ]
    return ["## Clients", "", *_table("| client | operations | sessions | description |", *rows), ""]


def _timeline(run) -> list[str]:
    if not run.events:
        return []
    shown, lines = run.events, ["## Timeline", ""]
    if len(shown) > EVENTS_SHOWN:
        half = EVENTS_SHOWN // 2
        shown = shown[:half] + shown[-half:]
        lines += [f"The first and the last {half} of {len(run.events)} faults.", ""]
    return [*lines, *_table("| at | fault | without service s | recovery s | |", *map(_timeline_row, shown)), ""]


def _timeline_row(event: FaultEvent) -> str:
    remarks = "; ".join(filter(None, (event.detail, event.problem and f"**{event.problem}**")))
    return f"| {format_duration(event.at)} | {event.kind} | {event.silent:.1f} | {event.recovery:.1f} | {remarks} |"


def _problems(run) -> list[str]:
    if not run.problems:
        return ["No problems."]
    return ["## Problems", "", *(f"- {problem}" for problem in run.problems[:PROBLEMS_SHOWN])]
