"""The environments that `tests/run frameworks` installs, and programs that run in them."""

import dataclasses
import json
import os
import pathlib
import subprocess

import pytest

from service import clean_environment

DRIVERS = pathlib.Path(__file__).resolve().parent / "drivers"
# Importing a framework takes seconds, and much longer while other tests use the processor.
PATIENCE = 100
# Nothing here may report to the makers of a framework or look for a newer version.
NO_TELEMETRY = {
    "ANONYMIZED_TELEMETRY": "False",
    "CI": "true",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "NO_PROXY": "127.0.0.1",
    "OPENCODE_DISABLE_AUTOUPDATE": "true",
    "OTEL_SDK_DISABLED": "true",
}


def python(environment: str) -> pathlib.Path:
    """The interpreter of `mcp1` or `mcp2`. Tests call this before they open a connection: a skip inside of the task
    group of a client would count as a failure."""
    named = os.environ.get(f"MEMORY_TEST_FRAMEWORKS_{environment.upper()}")
    if not named:
        pytest.skip(f"the Python environment {environment} is not installed: `tests/run frameworks` installs it")
    return pathlib.Path(named)


def node_package(name: str) -> pathlib.Path:
    named = os.environ.get("MEMORY_TEST_FRAMEWORKS_NODE")
    if not named:
        pytest.skip("the command-line clients are not installed: `tests/run frameworks` installs them")
    folder = pathlib.Path(named) / name
    assert folder.is_dir(), f"{folder} is missing from a complete installation"
    return folder


def node() -> str:
    return os.environ.get("MEMORY_TEST_NODE", "node")


def environment_of(folder: pathlib.Path, **more: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return clean_environment(folder, NO_TELEMETRY | more)


@dataclasses.dataclass(frozen=True)
class Driver:
    """A framework: the environment that has it, and the script that drives it."""

    environment: str
    script: str
    settings: tuple[tuple[str, str], ...] = ()

    def run(self, folder: pathlib.Path, connection: dict, calls: list) -> dict:
        plan = json.dumps({"connection": connection, "calls": calls})
        done = subprocess.run(
            [python(self.environment), DRIVERS / f"{self.script}.py", plan],
            cwd=folder, env=environment_of(folder / "home", **dict(self.settings)), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.script} ended with {done.returncode}:\n{done.stderr[-4000:]}"
        return json.loads(done.stdout)
