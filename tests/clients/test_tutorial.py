"""docs/tutorial.md: every command runs on a fresh data directory, and prints the output that the page shows.

IDs, tokens and times differ from run to run. The test learns which actual value belongs to each value of the page when it
compares an output, and puts the actual value into later commands.
"""

import os
import re
import subprocess

import pytest

from service import REPOSITORY, binary, clean_environment, dies_with_us, free_port, http_get, wait_until

TEXT = (REPOSITORY / "docs/tutorial.md").read_text()

TOKEN = r"cmm_[A-Za-z0-9_-]{43}"
FULL_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SHORT_ID = r"\b[0-9a-f]{8}\b"
TIME = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
DATE = r"\d{4}-\d\d-\d\d"
VALUE = re.compile(
    f"(?P<token>{TOKEN})|(?P<full_id>{FULL_ID})|(?P<time>{TIME})|(?P<date>{DATE})|(?P<short_id>{SHORT_ID})"
)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that follows it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == "", f"a console block starts with output: {block}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def without_values(text: str) -> str:
    """Replaces each value of the text by its kind."""
    return VALUE.sub(lambda match: f"<{match.lastgroup}>", text)


def values(text: str) -> list[tuple[str, str]]:
    return [(match.lastgroup, match[0]) for match in VALUE.finditer(text)]


def defines_something(command: str) -> bool:
    """Returns whether later commands depend on the shell state after this one."""
    return command.startswith("export ") or "() {" in command


class Page:
    """The values of the page with the actual values of this run."""

    def __init__(self):
        self.actual: dict[str, str] = {}

    def fill_in(self, command: str) -> str:
        def actual(match: re.Match) -> str:
            assert match[0] in self.actual, f"{command!r} uses {match[0]}, which no output has shown before"
            return self.actual[match[0]]

        return VALUE.sub(actual, command)

    def compare(self, command: str, shown: str, printed: str) -> None:
        assert without_values(printed) == without_values(shown), f"the output of {command!r} differs from the page"
        for (kind, ours), (_, theirs) in zip(values(shown), values(printed), strict=True):
            # Commands of one second may have the same time, so only IDs and tokens have to agree everywhere.
            if kind not in ("time", "date"):
                assert self.actual.setdefault(ours, theirs) == theirs, f"{command}: {theirs} in the place of {ours}"


@pytest.fixture
def environment(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "cognitive-memory-mcp").symlink_to(binary())
    environment = clean_environment(tmp_path, {"MEMORY_LISTEN": f"127.0.0.1:{free_port()}", "LC_ALL": "C.UTF-8"})
    # The page itself says which embedder it uses.
    del environment["MEMORY_EMBEDDER"]
    return environment | {"PATH": f"{programs}:{os.environ['PATH']}"}


@pytest.fixture
def service(environment, tmp_path):
    [commands] = blocks("sh service")
    log = tmp_path / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands.replace("cognitive-memory-mcp serve", "exec cognitive-memory-mcp serve")],
            cwd=tmp_path, env=environment, stdout=output, stderr=output, preexec_fn=dies_with_us,
        )  # fmt: skip
    try:
        base = f"http://{environment['MEMORY_LISTEN']}"
        wait_until(lambda: process.poll() is not None or http_get(f"{base}/health/ready")[0] == 200, "the service is ready")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_the_tutorial_prints_what_it_shows(service, environment, tmp_path):
    page, definitions = Page(), []
    all_steps = [step for block in blocks("console") for step in steps(block)]
    assert len(all_steps) >= 10, "the console blocks are gone"
    for command, shown in all_steps:
        command = page.fill_in(command)
        if defines_something(command):
            assert shown.strip() == "", f"{command!r} prints nothing"
            definitions.append(command)
            continue
        script = "\n".join([*definitions, command])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, text=True, timeout=30,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        page.compare(command, shown.rstrip(), done.stdout.rstrip())


def test_the_comparison_finds_a_difference():
    page = Page()
    page.compare("first", "Remembered as 75c89612", "Remembered as 0a1b2c3d")
    assert page.fill_in("show 75c89612") == "show 0a1b2c3d"
    for shown, printed in [
        ("Remembered as 75c89612", "Remembered as 99999999"),
        ("Saved 75c89612 as version 2", "Saved 0a1b2c3d as version 3"),
        ("stored 2026-11-29T03:45:52.741295Z", "stored 2026-11-29"),
    ]:
        with pytest.raises(AssertionError):
            page.compare("later", shown, printed)
    with pytest.raises(AssertionError):
        page.fill_in("show 5011de1b")
