"""Fixtures: `backend` (an empty SQLite, then PostgreSQL database), `memory` (a client with a separate project on a shared
service), `new_service` (a separate service), `make_backend` (additional databases).

PostgreSQL comes from MEMORY_TEST_POSTGRES (the URL of a superuser), or from tests/host/postgres. Without either, its
tests are skipped and listed in the summary; MEMORY_TEST_POSTGRES=required turns that into a failure.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import service as services
from client import over_http
from service import Backend, Service

HELPER = services.REPOSITORY / "tests/host/postgres"
# Projects on the shared service of each backend; every test uses another one.
PROJECTS = 1_000
_left_out: list[str] = []
_names = itertools.count()


def pytest_configure(config):
    if not services.binary().exists():
        raise pytest.UsageError(f"{services.binary()} does not exist: run `cargo build`, or set MEMORY_TEST_BINARY")


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url():
    """The URL of a server on which databases can be created."""
    named = os.environ.get("MEMORY_TEST_POSTGRES", "")
    if named.startswith("postgres"):
        yield named
        return
    reason = None
    if os.getuid() != 0:
        reason = "tests/host/postgres needs root, and MEMORY_TEST_POSTGRES is not set"
    elif not HELPER.exists():
        reason = "tests/host/postgres does not exist"
    if reason is None:
        server = subprocess.Popen([HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = server.stdout.readline()
        if line:
            try:
                yield json.loads(line)["url"]
            finally:
                server.stdin.close()
                server.wait(60)
            return
        reason = f"tests/host/postgres ended with {server.wait(60)}: {server.stderr.read()[-2000:]}"
    if named == "required":
        pytest.fail(f"no PostgreSQL: {reason}")
    _left_out.append(reason)
    pytest.skip(f"no PostgreSQL: {reason}")


def execute(url: str, statement: str) -> None:
    """Executes a statement outside of a transaction."""
    import pg8000.native

    parts = urllib.parse.urlsplit(url)
    connection = pg8000.native.Connection(
        parts.username, host=parts.hostname, port=parts.port or 5432, database=parts.path.strip("/"),
        password=urllib.parse.unquote(parts.password or ""),
    )  # fmt: skip
    try:
        connection.run(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def make_backend(request, tmp_path_factory):
    """Creates empty databases: make_backend("sqlite"), make_backend("postgres")."""

    def make(kind: str) -> Backend:
        number = f"{os.getpid()}_{next(_names)}"
        if kind == "sqlite":
            folder = tmp_path_factory.mktemp("sqlite")
            return Backend("sqlite", {"MEMORY_DATA_DIR": str(folder)})
        url = request.getfixturevalue("postgres_url")
        name = f"memory_clients_{number}"
        execute(url, f"CREATE DATABASE {name}")
        database = urllib.parse.urlsplit(url)._replace(path=f"/{name}").geturl()
        return Backend("postgres", {"MEMORY_DATABASE_URL": database})

    return make


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def kind(request):
    """The name of the backend. A test that uses it, directly or indirectly, runs on both."""
    return request.param


@pytest.fixture
def backend(kind, make_backend):
    """An empty database."""
    return make_backend(kind)


@pytest.fixture
def sqlite(make_backend):
    """An empty SQLite database."""
    return make_backend("sqlite")


@pytest.fixture(scope="session")
def shared(kind, make_backend, tmp_path_factory):
    """A running service with many projects, each with a token."""
    tokens = {f"p{number}": f"token-of-project-{number:04}" for number in range(PROJECTS)}
    service = Service(tmp_path_factory.mktemp(f"shared-{kind}"), make_backend(kind).settings, tokens)
    service.unused = iter(tokens.values())
    service.start()
    yield service
    service.close()


@pytest.fixture
async def memory(shared):
    """A client over HTTP, in a project that no other test uses."""
    async with over_http(shared.url, next(shared.unused)) as client:
        yield client


@pytest.fixture
def new_service(tmp_path):
    """Starts services, which end with the test: new_service(backend, MEMORY_X="...", ready=False, tokens={...})."""
    made = []

    def make(backend: Backend, ready: bool = True, tokens: dict | None = None, **settings: str) -> Service:
        service = Service(tmp_path / f"service-{len(made)}", backend.settings | settings, tokens)
        made.append(service)
        return service.start(ready)

    yield make
    for service in made:
        service.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for service in services.living:
            report.sections.append((f"log of the service in {service.folder}", "\n".join(service.log().splitlines()[-60:])))
        folder = item.funcargs.get("tmp_path")
        for log in sorted(folder.rglob("stdio*.log")) if folder else []:
            report.sections.append((f"log of {log.name}", log.read_text(errors="replace")[-4000:]))
    return report


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "no PostgreSQL" in str(report.longrepr)]
    if skipped:
        terminalreporter.section("SKIPPED: NO POSTGRESQL", "!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests were NOT run on PostgreSQL:")
        for reason in sorted({str(report.longrepr[2]) for report in skipped}):
            terminalreporter.line(f"  - {reason}")
        terminalreporter.line("MEMORY_TEST_POSTGRES=required turns this into a failure.")
    figures = [text for reports in terminalreporter.stats.values() for report in reports
               for name, text in getattr(report, "user_properties", []) if name == "figure"]  # fmt: skip
    if figures:
        terminalreporter.section("figures")
        for text in sorted(set(figures)):
            terminalreporter.line(text)


@pytest.fixture
def figure(record_property):
    """Adds a measured value to the summary."""
    return lambda text: record_property("figure", text)
