"""Programs for Node: the TypeScript SDKs, the Inspector, the conformance suite. tests/run installs them."""

import json
import os
import pathlib
import subprocess

import pytest

from service import clean_environment

HERE = pathlib.Path(__file__).resolve().parent


def packages() -> pathlib.Path:
    named = os.environ.get("MEMORY_TEST_NODE_PACKAGES")
    if not named:
        pytest.skip("Node is not installed: `tests/run clients` installs it with its packages")
    return pathlib.Path(named)


def run(script: pathlib.Path, *arguments: str, folder: pathlib.Path, timeout: float = 60, **environment: str):
    """Runs a script to its end."""
    node = os.environ.get("MEMORY_TEST_NODE", "node")
    return subprocess.run(
        [node, script, *arguments], cwd=folder, env=clean_environment(folder, environment),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def typescript(sdk: str, folder: pathlib.Path, **connection) -> dict:
    """Returns the results of a conversation through a TypeScript SDK."""
    plan = json.dumps({"sdk": sdk, "packages": str(packages()), **connection})
    done = run(HERE / "conversation.cjs", plan, folder=folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def inspector(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the command line of the Inspector."""
    script = packages() / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
    return run(script, "--cli", *arguments, folder=folder)


def conformance(folder: pathlib.Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
    """Runs the official conformance suite."""
    return run(packages() / "@modelcontextprotocol/conformance/dist/index.js", *arguments, folder=folder, timeout=timeout)
