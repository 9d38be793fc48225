"""Writes the databases in this folder with the program of commit 625b3ea.

    git worktree add /tmp/old 625b3ea && cargo build --manifest-path /tmp/old/Cargo.toml
    python3 tests/data/databases/make.py /tmp/old/target/debug/cognitive-memory-mcp

Needs root, as tests/host/postgres does. IDs and times differ from run to run; the tests read them from the exports.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LISTEN = "127.0.0.1:18765"
POSTGRES = "/usr/lib/postgresql/17/bin"


def tree() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("MEMORY_TEST_CACHE") or f"{home}/cognitive-memory-mcp") / "host/postgres"


class Service:
    """A running service and the commands of the same program."""

    def __init__(self, binary: str, folder: pathlib.Path, settings: dict[str, str]) -> None:
        self.binary = binary
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ENVIRONMENT": "development",
            "MEMORY_LISTEN": LISTEN,
            "MEMORY_MODEL_SOURCE": str(ROOT / "tests/data/models/bert-cls-dense"),
            "MEMORY_MODEL": "test/bert-cls-dense",
            **settings,
        }
        self.number = 0
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen([binary, "serve"], cwd=folder, env=self.environment, stdout=log, stderr=log)
        self.wait_until(lambda: self.status("/health/ready") == 200, "the service is ready")

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{LISTEN}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_until(self, condition, what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit(f"not within a minute: {what}\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def call(self, tool: str, **arguments) -> dict:
        self.number += 1
        params = {"name": tool, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": params}
        request = urllib.request.Request(
            f"http://{LISTEN}/mcp",
            json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2025-06-18",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            result = json.load(answer)
        if "error" in result or result["result"].get("isError"):
            sys.exit(f"{tool} {arguments}: {result}")
        return result["result"]["structuredContent"]

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [self.binary, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def remember(service: Service, **item) -> str:
    key = item.pop("idempotency_key", None)
    arguments = {"items": [item]} | ({"idempotency_key": key} if key else {})
    return service.call("remember", **arguments)["memories"][0]["id"]


def fill(service: Service) -> None:
    """Stores every kind of record, and the results of changes."""
    remember(service, kind="dialogue", content="Where do walruses live?", session="arctic", turn=1, speaker="Ann")
    remember(service, kind="dialogue", content="On pack ice, Ann.", session="arctic", turn=2, speaker="Bob")
    note = remember(
        service,
        content="The walrus prefers shallow water.",
        tags=["Sea", "näher"],
        metadata={"page": 7, "nested": {"b": [1, 2.5], "a": None}},
        importance=0.8,
        idempotency_key="walrus",
        entities=[{"name": "Walrus", "type": "animal", "properties": {"legs": 0}}, {"name": "Water", "type": "matter"}],
        relations=[{"from": "Walrus", "type": "likes", "to": "Water", "weight": 0.75}],
    )
    remember(service, kind="insight", content="Walruses depend on ice.", sources=[note])
    remember(
        service,
        kind="episode",
        content="Counted walruses from a boat.",
        situation="Fog over the bay.",
        outcome=-0.5,
        lesson="Count on clear days.",
    )
    old = remember(service, content="There are 200,000 walruses.")
    remember(service, content="There are 230,000 walruses.", supersedes=[old])
    remember(service, content="The survey ends in spring.", valid_until="2030-04-01T00:00:00Z", occurred_at="2024-05-06")
    changed = remember(service, content="The station has four rooms.", tags=["station"])
    service.call("update", id=changed, content="The station has five rooms.", tags=["station", "Rooms"], reason="measured")
    service.call("update", id=changed, feedback="helpful")
    deleted = remember(service, content="The boat is red.")
    service.call("forget", ids=[deleted], reason="it was sold")
    restored = remember(service, content="The hut is green.")
    service.call("forget", ids=[restored])
    service.call("forget", ids=[restored], mode="restore")
    protected = remember(service, content="Never feed the walrus.", protected=True, importance=1)
    service.call("update", id=protected, content="Never feed any walrus.", reason="clearer")
    service.call("forget", ids=[protected], reason="a test of the owner")
    left = remember(service, content="The harbour freezes in January.")
    right = remember(service, content="The harbour freezes in February.")
    service.call("review", action="judge", id=left, other=right, judgement="contradiction", reason="heard it on the radio")
    service.call("link", entities=[{"name": "Station", "type": "place"}], relations=[
        {"from": "Walrus", "type": "seen at", "to": "Station", "valid_from": "2024-01-01", "valid_to": "2024-06-01"},
    ])
    service.call("focus", action="add", content="Count the walruses.", importance=0.9)
    dropped = service.call("focus", action="add", content="Buy fuel.", session="trip")
    service.call("focus", action="drop", id=dropped["items"][0]["id"], session="trip")
    saved = service.call("focus", action="add", content="The radio is broken.")
    service.call("focus", action="promote", id=saved["items"][0]["id"], memory=True)
    service.call("recall", query="walrus")
    service.command("token", "create", "laptop")
    service.command("token", "create", "lost", "--project", "other", "--read", "default")
    service.command("token", "revoke", "lost")


def settle(service: Service) -> None:
    """Waits for vectors and statistics, and decides one of the open reviews."""
    service.wait_until(lambda: service.call("status")["index_backlog"] == 0, "everything has a vector")
    time.sleep(6)
    reviews = json.loads(service.command("review", "list", "--json"))
    print(json.dumps(reviews)[:400])
    service.command("review", "approve", reviews["reviews"][-1]["id"])


def sqlite(binary: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        service = Service(binary, folder, {"MEMORY_DATA_DIR": str(folder / "data")})
        fill(service)
        settle(service)
        service.command("export", str(folder / "sqlite.jsonl"))
        service.stop()
        shutil.copy(folder / "data/memory.db", HERE / "625b3ea.db")
        shutil.copy(folder / "sqlite.jsonl", HERE / "625b3ea-sqlite.jsonl")


def postgres(binary: str) -> None:
    server = subprocess.Popen([ROOT / "tests/host/postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    about = json.loads(server.stdout.readline())
    inside = ["chroot", str(tree()), "/usr/bin/env", f"PGPASSWORD={about['password']}", "LC_ALL=C.UTF-8"]
    reach = ["-h", "127.0.0.1", "-p", str(about["port"]), "-U", about["user"]]
    subprocess.run([*inside, f"{POSTGRES}/psql", *reach, "-c", "CREATE DATABASE old"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        url = about["url"].rsplit("/", 1)[0] + "/old"
        service = Service(binary, folder, {"MEMORY_DATABASE_URL": url, "MEMORY_DATABASE_ROW_SECURITY": "off"})
        fill(service)
        settle(service)
        service.command("export", str(folder / "postgres.jsonl"))
        service.stop()
        dump = [*inside, f"{POSTGRES}/pg_dump", *reach, "--no-owner", "--inserts", "--rows-per-insert=100", "old"]
        done = subprocess.run(dump, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("--", "\\")) and line]
        (HERE / "625b3ea-postgres.sql").write_text("\n".join(lines) + "\n")
        shutil.copy(folder / "postgres.jsonl", HERE / "625b3ea-postgres.jsonl")
    server.stdin.close()
    server.wait(60)


if __name__ == "__main__":
    sqlite(sys.argv[1])
    postgres(sys.argv[1])
