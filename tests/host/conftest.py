"""Fixtures: `host` (one per test module, with the user `svc` and the images loaded) and `new_host` (additional hosts).

If this machine cannot run a host, the tests that need one are skipped and listed in the summary.
MEMORY_TEST_HOST=required turns that into a failure (for CI); MEMORY_TEST_HOST=off skips them on purpose.
"""

import os
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import host as hosts

FIXTURES = {"host", "new_host", "images", "static_binary", "service_host"}
_left_out: list[str] = []
_reasons: list[str] = []
_started = time.time()


def pytest_collection_modifyitems(config, items):
    needing = [item for item in items if FIXTURES & set(getattr(item, "fixturenames", ()))]
    if not needing:
        return
    wish = os.environ.get("MEMORY_TEST_HOST", "")
    reasons = ["MEMORY_TEST_HOST=off"] if wish == "off" else hosts.missing()
    if not reasons:
        return
    if wish == "required":
        raise pytest.UsageError("MEMORY_TEST_HOST=required, but no test host can run on this machine: " + "; ".join(reasons))
    _reasons.extend(reasons)
    for item in needing:
        _left_out.append(item.nodeid)
        item.add_marker(pytest.mark.skip(reason="no test host: " + "; ".join(reasons)))


def pytest_terminal_summary(terminalreporter):
    figures = [
        text
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", [])
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for text in dict.fromkeys(figures):
            terminalreporter.line(text)
    if _left_out:
        write = terminalreporter
        write.section("SKIPPED: NO TEST HOST", "!", red=True, bold=True)
        write.line(f"{len(_left_out)} tests were NOT run. They test the service with systemd and podman.")
        write.line("This machine cannot boot a test host:")
        for reason in _reasons:
            write.line(f"  - {reason}")
        for module in sorted({node.partition("::")[0] for node in _left_out}):
            write.line(f"  skipped: {module}")
        write.line("Requirements: tests/host/README.md. MEMORY_TEST_HOST=required turns this into a failure.")


def pytest_runtest_setup(item):
    global _started
    _started = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for living in hosts.living():
            report.sections.append((f"{living.name}: journal since the test began", _journal(living)))
    return report


def _journal(living):
    try:
        text = living.journal(f"--since=@{_started:.3f} --lines=400", this_boot=False)
        if living.up:
            for user in ("root", "svc"):
                text += f"\n--- podman ps --all ({user})\n{living.run('podman ps --all', user, check=False, timeout=20).stdout}"
        return text
    except Exception as error:
        return f"(unreadable: {error})\n{living.console()}"


@pytest.fixture(scope="session")
def images():
    """The images exist and can be loaded."""
    hosts.build("images")


@pytest.fixture(scope="session")
def static_binary(images):
    """The release binary for the image, compiled once."""
    import deployment

    return deployment.static_binary()


@pytest.fixture(scope="module")
def service_host(static_binary):
    """A booted host with all images in the podman of the user svc, and the repository in ~/cognitive-memory-mcp."""
    import deployment

    with hosts.Host() as one:
        deployment.put_images(one, static_binary)
        yield one


@pytest.fixture
def figure(record_property):
    """Adds a measured value to the summary."""
    return lambda text: record_property("figure", text)


@pytest.fixture
def new_host(images):
    """Starts hosts, which end with the test."""
    made = []

    def make(*names, user="svc", **options):
        one = hosts.Host(**options)
        made.append(one)
        if names:
            one.load_images(*names, user=user)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def host(images):
    """A booted host with the images `debian` and `postgres` in the podman of the user svc."""
    with hosts.Host() as one:
        made_from = (hosts.cache() / ".recipe/images").read_text().strip()
        # Restoring takes one second per module, loading three.
        if not one.restore_podman("images", made_from):
            one.load_images("debian", "postgres", user="svc")
            one.save_podman("images", made_from)
        yield one
