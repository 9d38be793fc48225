"""The official conformance suite, against the real router with its transport and authentication.

Its fixtures exist in debug builds only (`serve --conformance`). Everything runs on the transport that we ship: no
sessions, answers as JSON. Four scenarios of 2025-11-25 want a server that asks its client something in the middle of a
call and gets the answer by another request; that revision needs sessions for it, which we do not offer and no tool of
ours uses. For those, and for all others of that revision once more, the fixtures are also served with sessions.
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
    """The service with the suite's fixtures."""
    service = Service(tmp_path / "service", sqlite.settings)
    service.command = [debug_binary(), "serve", "--conformance"]
    # By default no page of a browser may come; the suite plays one, from the service's own origin.
    service.environment["MEMORY_ALLOWED_ORIGINS"] = service.base
    yield service.start()
    service.close()


def required(revision: str, folder) -> set[str]:
    """The server scenarios that a revision requires, frozen at its release."""
    listed = node.conformance(folder, "list", "--requirements", revision).stdout
    section = listed.split("Server scenarios")[1].split("Client scenarios")[0]
    return set(re.findall(r"^  - (\S+)", section, re.MULTILINE))


def run(url: str, revision: str, folder) -> tuple[set[str], str]:
    """Scenarios that passed, and everything that was printed."""
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
def test_conformance(revision, path, count, beyond, fixtures, tmp_path, figure):
    wanted = required(revision, tmp_path)
    assert len(wanted) == count, wanted
    passed, said = run(fixtures.base + path, revision, tmp_path)
    figure(f"conformance {revision} at {path}: {len(wanted & passed)} of {count}")
    assert wanted - passed == beyond, said


def test_release_builds_know_no_fixtures(tmp_path):
    """Where the shipped binary is under test, it has no such switch."""
    import service as services

    if services.binary() == debug_binary():
        pytest.skip("only the debug build is there")
    done = services.run("serve", "--conformance", folder=tmp_path)
    assert done.returncode == 64 and "--conformance" in done.stderr
    assert b"test_input_required_result" not in services.binary().read_bytes()
