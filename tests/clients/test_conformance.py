"""The official conformance suite, against the router with transport and authentication.

Only debug builds contain its fixtures (`serve --conformance`). All scenarios run on the shipped transport: no sessions,
answers as JSON. In four scenarios of 2025-11-25 the server sends a request to its client during a call, which needs
sessions in that revision. Our tools do not use this. For these scenarios the fixtures are also served with sessions, and
all other scenarios of that revision run there a second time.
"""

import re

import pytest

import node
from service import Service, debug_binary

SERVER_ASKS = {
    "tools-call-sampling",
    "tools-call-elicitation",
    "elicitation-sep1034-defaults",
    "elicitation-sep1330-enums",
}


@pytest.fixture
def fixtures(sqlite, tmp_path):
    """The service with the fixtures of the suite."""
    service = Service(tmp_path / "service", sqlite.settings)
    service.command = [debug_binary(), "serve", "--conformance"]
    # Requests with an origin are refused by default; the suite sends the origin of the service.
    service.environment["MEMORY_ALLOWED_ORIGINS"] = service.base
    yield service.start()
    service.close()


def required(revision: str, folder) -> set[str]:
    """Returns the server scenarios that a revision requires."""
    listed = node.conformance(folder, "list", "--requirements", revision).stdout
    section = listed.split("Server scenarios")[1].split("Client scenarios")[0]
    return set(re.findall(r"^  - (\S+)", section, re.MULTILINE))


def run(url: str, revision: str, folder) -> tuple[set[str], str]:
    """Returns the scenarios that passed, and the output."""
    done = node.conformance(folder, "server", "--url", url, "--requirements", revision, timeout=110)
    said = done.stdout + done.stderr
    summary = said.split("=== SUMMARY ===")[-1]
    return set(re.findall(r"^✓ (\S+): \d+ passed, 0 failed", summary, re.MULTILINE)), said


@pytest.mark.parametrize(
    "revision, path, count, beyond",
    [
        ("2026-07-28", "/mcp", 37, set()),
        ("2025-11-25", "/mcp", 30, SERVER_ASKS),
        ("2025-11-25", "/mcp/sessions", 30, set()),
    ],
)
def test_every_required_scenario_passes(revision, path, count, beyond, fixtures, tmp_path, figure):
    wanted = required(revision, tmp_path)
    assert len(wanted) == count, wanted
    passed, said = run(fixtures.base + path, revision, tmp_path)
    figure(f"conformance {revision} at {path}: {len(wanted & passed)} of {count}")
    assert wanted - passed == beyond, said


def test_release_builds_reject_the_option_for_fixtures(tmp_path):
    """Applies if the release binary is under test."""
    import service as services

    if services.binary() == debug_binary():
        pytest.skip("only the debug build is under test")
    done = services.run("serve", "--conformance", folder=tmp_path)
    assert done.returncode == 64 and "--conformance" in done.stderr
    assert b"test_input_required_result" not in services.binary().read_bytes()
