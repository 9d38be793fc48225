"""The command line of the stability run."""

from __future__ import annotations

import argparse
import os
import signal
import traceback

from .client import KINDS
from .coordinator import Coordinator
from .site import Site

DESCRIPTION = """\
Runs clients under load while the service, its database and its host are killed, stopped or cut off, then looks up
every acknowledged write.

    tests/host/stability/run --minutes 10 --report report.md        on a test host, with short limits in the units
    tests/host/stability/run --minutes 10080 --shipped              seven days, with the limits as shipped
    MEMORY_TOKEN=... tests/host/stability/run --minutes 60 --url http://127.0.0.1:8765/mcp     load only, no faults

Exit code 0: no write was lost or doubled, no client was stranded, and systemd restarted the service only when
expected. 1: one of these conditions failed. 2: the run itself failed. Ctrl-C ends the load early; the final checks
and the report follow.

The test host needs root (tests/host/README.md). Use the Python environment that tests/run creates, or any with
tests/requirements.txt."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/host/stability/run", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, required=True, help="length of the run; 10080 is seven days")
    add("--seed", type=int, default=1, help="seed of the schedule and of the clients' operations (default 1)")
    add("--clients", type=int, default=4, help="number of clients (default 4), whose kinds alternate: " + "; ".join(KINDS))
    add("--rate", type=float, default=20, help="average calls per second of each client (default 20)")
    add("--keep", type=int, default=5000, help="memories of a client before it purges its oldest (default 5000)")
    add("--pause", type=float, help="average seconds between faults (default: a sixtieth of the run, 3 to 600)")
    add("--faults", help="comma-separated list, or none (default: all): " + ", ".join(Site.FAULTS))
    add("--shipped", action="store_true", help="keep WatchdogSec and RestartSec of the units instead of shorter ones")
    add("--idle", type=float, default=60, help="seconds without calls at the end, to measure idle CPU time (default 60)")
    add("--report", help="file for the report in Markdown (default: standard output)")
    add(
        "--binary",
        default=os.environ.get("MEMORY_TEST_STATIC_BINARY"),
        help="static binary for the image (default: built by this command)",
    )
    add("--host-size", default="8G", help="size of the test host's file system, which is in memory (default 8G)")
    add("--journal", help="folder for the clients' journals (default: a temporary one, which is kept after a failure)")
    add("--show-journal", action="store_true", help="after a failure, print warnings and errors of the host's journal")
    add("--url", help="use an existing installation, without faults; takes the token from MEMORY_TOKEN")
    return parser


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.faults is None:
        options.faults = list(Site.FAULTS)
    else:
        options.faults = [part.strip() for part in options.faults.split(",") if part.strip() not in ("", "none")]
    for kind in options.faults:
        if kind not in Site.FAULTS:
            parser.error(f"--faults: expected some of {', '.join(Site.FAULTS)}, got {kind!r}")
    for name in ("minutes", "clients", "rate"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}: expected a number above 0, got {getattr(options, name)}")
    return options


def main() -> int:
    options = parse_options()
    # Also in the background or under systemd, the first signal ends the load early and the final checks follow.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    try:
        return Coordinator(options).execute()
    except KeyboardInterrupt:
        return 2
    except Exception:
        traceback.print_exc()
        return 2
