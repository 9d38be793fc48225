"""An installation of the service on a test host, made by quadlet/install.sh, and clients that write to it.

    service = Deployment(host).install()
    with service.client() as client, Writer(client) as writer:
        ...                                # kill something
        writer.progress()                  # the same session still works
    writer.check()                         # every acknowledged write is stored

The binary is compiled once on this machine, or given by MEMORY_TEST_STATIC_BINARY. The image is built in seconds by the
unchanged Containerfile, with a substitute for the compiler that copies this binary.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request

import anyio.from_thread
import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client

import host as hosts
from host import REPOSITORY, Host, Result

SERVICE = "cognitive-memory-mcp"
DATABASE = "cognitive-memory-postgres"
IMAGE = "localhost/cognitive-memory-mcp:latest"
PORT = 8765
TARGET = f"{os.uname().machine}-unknown-linux-musl"
PATIENCE = 15


# ------------------------------------------------------------------------------------------------------------ the image


def static_binary() -> pathlib.Path:
    """Returns the binary of the profile `dist` for the image, and compiles it if it is not up to date."""
    given = os.environ.get("MEMORY_TEST_STATIC_BINARY")
    if given:
        return pathlib.Path(given)
    command = ["cargo", "build", "--quiet", "--profile", "dist", "--locked", "--target", TARGET, "--bin", SERVICE]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdin=subprocess.DEVNULL)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    return target / TARGET / "dist" / SERVICE


def builder_image() -> str:
    """Returns the name of the compiler's image in the Containerfile."""
    return re.search(r"^ARG BUILDER_IMAGE=(\S+)", (REPOSITORY / "Containerfile").read_text(), re.M)[1]


# Replaces the Rust image: its `cargo build` copies the binary.
STAND_IN = f"""\
FROM docker.io/library/debian:trixie-slim
COPY ca-certificates.crt /etc/ssl/certs/
COPY {SERVICE} /prebuilt/
RUN mkdir -p /prebuilt/lib/rustlib/{TARGET}/lib \\
 && printf '#!/bin/sh\\necho /prebuilt\\n' > /usr/local/bin/rustc \\
 && printf '#!/bin/sh\\n' > /usr/local/bin/musl-gcc \\
 && printf '#!/bin/sh\\nmkdir -p target/{TARGET}/dist && cp /prebuilt/{SERVICE} target/{TARGET}/dist/\\n' > /usr/local/bin/cargo \\
 && chmod 755 /usr/local/bin/*
"""


def put_images(host: Host, binary: pathlib.Path) -> None:
    """Loads Debian, PostgreSQL, the compiler substitute and our image into the podman of the user svc."""
    key = hashlib.sha256()
    for part in (
        (hosts.cache() / ".recipe/images").read_bytes(),
        (REPOSITORY / "Containerfile").read_bytes(),
        STAND_IN.encode(),
        binary.read_bytes(),
    ):
        key.update(hashlib.sha256(part).digest())
    name = key.hexdigest()[:32]
    if host.restore_podman("service", name):
        return
    made_from = (hosts.cache() / ".recipe/images").read_text().strip()
    if not host.restore_podman("images", made_from):
        host.load_images("debian", "postgres")
        host.save_podman("images", made_from)
    put_stand_in(host, binary)
    build_image(host)
    host.save_podman("service", name)


def put_stand_in(host: Host, binary: pathlib.Path) -> None:
    folder = "/home/svc/stand-in"
    host.write(f"{folder}/Containerfile", STAND_IN, "svc")
    host.write(f"{folder}/ca-certificates.crt", host.path("/etc/ssl/certs/ca-certificates.crt").read_bytes(), "svc")
    host.write(f"{folder}/{SERVICE}", binary.read_bytes(), "svc", 0o755)
    host.run(f"podman build --pull=never --network=none -t {builder_image()} {folder} && rm -r {folder}", "svc")


def build_image(host: Host, tag: str = IMAGE, options: str = "") -> None:
    """Builds the image with the unchanged Containerfile."""
    folder = "/home/svc/build"
    host.copy_repository(folder)
    host.run(f"podman build --format docker --network=none {options} -t {tag} {folder} && rm -r {folder}", "svc", timeout=300)


# ----------------------------------------------------------------------------------------------------- the installation


class Deployment:
    """`user` "root" means the system scope. `checkout` is the path of the repository on the host."""

    def __init__(self, host: Host, user: str = "svc") -> None:
        self.host = host
        self.user = user
        self.home = "/root" if user == "root" else f"/home/{user}"
        self.checkout = f"{self.home}/cognitive-memory-mcp"
        self.units = "/etc/containers/systemd" if user == "root" else f"{self.home}/.config/containers/systemd"
        self.ctl = "systemctl" if user == "root" else "systemctl --user"
        self.token = ""
        self.port = host.forward(PORT)
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        if not host.path(self.checkout).exists():
            host.copy_repository(self.checkout, user)
        # Without a delegated controller, containers with a process limit do not start.
        host.lift_limits(SERVICE, DATABASE, user=user)
        # These tests do not need recall by meaning and must not download a model.
        host.write(f"{self.units}/{SERVICE}.container.d/90-test-host-embedder.conf", "[Container]\nEnvironment=MEMORY_EMBEDDER=none\n", user)

    def run(self, command: str, **options) -> Result:
        return self.host.run(command, self.user, **options)

    def install(self, *options: str, check: bool = True, **kind) -> Deployment:
        self.installed = self.try_install(*options, check=check, **kind)
        found = re.search(r"^  (cm_\S+)$", self.installed.stdout, re.M)
        if found:
            self.token = found[1]
        return self

    def try_install(self, *options: str, check: bool = False, before: str = "", **kind) -> Result:
        """Runs install.sh. `before` are assignments for its environment."""
        scope = "--system" if self.user == "root" else "--user"
        words = shlex.join(["quadlet/install.sh", scope, *options])
        return self.run(f"cd {self.checkout} && {before} {words}", check=check, timeout=300, **kind)

    # ------------------------------------------------------------------------------------------------------- state

    def show(self, unit: str = SERVICE) -> dict[str, str]:
        return self.host.show(f"{unit}.service", self.user)

    def prop(self, name: str, unit: str = SERVICE) -> str:
        return str(self.run(f"{self.ctl} show {unit}.service -P {name}"))

    def systemctl(self, *words: str, check: bool = True, timeout: float = 120) -> Result:
        return self.run(f"{self.ctl} {shlex.join(words)}", check=check, timeout=timeout)

    def start(self, unit: str = SERVICE) -> None:
        self.systemctl("start", unit)

    def stop(self, unit: str = SERVICE) -> None:
        self.systemctl("stop", unit)

    def restart(self, unit: str = SERVICE) -> None:
        self.systemctl("restart", unit)

    def pid(self, name: str = SERVICE) -> int:
        """Returns the PID on the host of process 1 of the container."""
        return int(str(self.run(f"podman inspect --format '{{{{.State.Pid}}}}' {name}")))

    def kill(self, pid: int, signal: str = "KILL") -> None:
        self.host.run(f"kill -{signal} {pid}")

    def get(self, path: str, timeout: float = 5) -> tuple[int, dict]:
        """Returns status and JSON of a GET, or status 0 without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, {}

    @property
    def live(self) -> bool:
        return self.get("/health/live")[0] == 200

    @property
    def ready(self) -> bool:
        return self.get("/health/ready")[0] == 200

    def wait_ready(self, timeout: float = 60) -> Deployment:
        try:
            self.host.wait_for(lambda: self.ready, timeout=timeout, what="/health/ready", every=0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.get('/health/ready')}") from None
        return self

    def wait_property(self, name: str, wish, timeout: float = 60, unit: str = SERVICE) -> str:
        check = wish if callable(wish) else lambda value: value == wish
        value = ""

        def look() -> bool:
            nonlocal value
            value = self.prop(name, unit)
            return check(value)

        try:
            self.host.wait_for(look, timeout=timeout, what=f"{name} of {unit}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}, it is {value!r}") from None
        return value

    def journal(self, arguments: str = "", since: float | None = None) -> str:
        """Returns the journal that the installing user sees: `journalctl --user`, or root's `journalctl`."""
        scope = "" if self.user == "root" else "--user "
        since = self.host.booted_at if since is None else since
        return self.run(f"journalctl {scope}--no-pager --since=@{since:.6f} {arguments}").stdout

    def wait_journal(self, pattern: str, arguments: str, since: float, timeout: float = 30) -> str:
        """Waits for a line that matches, and returns the first one."""
        found = self.host.wait_for(
            lambda: re.search(f"^.*(?:{pattern}).*$", self.journal(arguments, since), re.M),
            timeout=timeout, what=f"{pattern!r} in the journal {arguments}", every=0.2,
        )  # fmt: skip
        return found[0]

    def lines(self, since: float | None = None) -> list[dict]:
        """Returns the log lines of the server, each of which is a JSON object."""
        # conmon keeps the newline in the message, and journalctl adds another one.
        text = self.journal(f"-t {SERVICE} -o cat", since)
        return [json.loads(line) for line in text.splitlines() if line]

    # --------------------------------------------------------------------------------------------------------- drop-ins

    @contextlib.contextmanager
    def dropin(self, text: str, unit: str = SERVICE, restart: bool = True, name: str = "50-test"):
        """Adds a drop-in to the unit, and afterwards removes it and restarts the unit."""
        path = f"{self.units}/{unit}.container.d/{name}.conf"
        self.host.write(path, text, self.user)
        self.systemctl("daemon-reload")
        try:
            if restart:
                self.restart(unit)
            yield
        finally:
            self.host.path(path).unlink(missing_ok=True)
            if self.host.up:
                self.systemctl("daemon-reload")
                self.systemctl("reset-failed", unit, check=False)
                self.restart(unit)

    def environment(self, *, nothing_else: bool = False, **settings: str):
        """Adds settings to those of the unit, or replaces them, without a restart."""
        lines = "".join(f'Environment="{name}={value}"\n' for name, value in settings.items())
        return self.dropin("[Container]\n" + ("Environment=\n" if nothing_else else "") + lines, restart=False)

    # ---------------------------------------------------------------------------------------------------------- clients

    def client(self, **options) -> Client:
        return Client(self.url, self.token, **options)

    def sql(self, statement: str, database: str = "cognitive_memory") -> str:
        command = f"podman exec -i {DATABASE} psql -qAtX -v ON_ERROR_STOP=1 -U cognitive_memory -d {database}"
        return str(self.run(command, input=statement))


class Refused(Exception):
    """An error of a tool, with the `code` and `message` that a model reads."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Gateway(httpx2.AsyncHTTPTransport):
    """Answers 502 during an outage, as a proxy does. The SDK ends its session when a connection breaks, which would hide
    whether the service keeps sessions usable."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
            await response.aread()
            return response
        except httpx2.TransportError as error:
            return httpx2.Response(502, text=repr(error), request=request)


class Client:
    """One session of the official SDK, which stays open during faults of the service."""

    def __init__(self, url: str, token: str = "", mode: str = "auto", gateway: bool = True) -> None:
        self.url, self.token, self.mode, self.gateway = url, token, mode, gateway

    def __enter__(self) -> Client:
        # An open portal without a session would prevent the end of the interpreter.
        with contextlib.ExitStack() as stack:
            self._portal = stack.enter_context(anyio.from_thread.start_blocking_portal())
            self._mcp = stack.enter_context(self._portal.wrap_async_context_manager(self._connect()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextlib.asynccontextmanager
    async def _connect(self):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        transport = Gateway() if self.gateway else None
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False, transport=transport) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with mcp.Client(transport, mode=self.mode, read_timeout_seconds=PATIENCE) as client:
                yield client

    def tools(self) -> list[str]:
        return sorted(tool.name for tool in self._portal.call(self._mcp.list_tools).tools)

    def call(self, tool: str, **arguments) -> dict:
        result = self._portal.call(self._mcp.call_tool, tool, arguments)
        if result.is_error:
            error = (result.structured_content or {}).get("error", {})
            raise Refused(error.get("code", "?"), error.get("message") or str(result.content))
        return result.structured_content

    def remember(self, content: str, **arguments) -> str:
        return self.call("remember", items=[{"content": content}], **arguments)["memories"][0]["id"]

    def contents(self, ids: list[str]) -> dict[str, str]:
        found = {}
        for start in range(0, len(ids), 200):
            unread = ids[start : start + 200]
            while unread:
                answer = self.call("get", ids=unread)
                found |= {memory["id"]: memory["content"] for memory in answer["memories"]}
                unread = answer.get("not_read", [])
        return found


class Writer:
    """Writes continuously over one session and records the acknowledged writes. A failed write is repeated with its
    idempotency key until it succeeds."""

    _made = 0

    def __init__(self, client: Client) -> None:
        Writer._made += 1
        self.client = client
        self.name = f"writer {Writer._made} of {os.getpid()}"
        self.acknowledged: dict[str, str] = {}
        self.times: list[float] = []
        self.failures: list[tuple[float, Exception]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        self.progress()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(60)

    def _work(self) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            content = f"{self.name} noted the number {number}"
            while not self._end.is_set():
                try:
                    id = self.client.remember(content, idempotency_key=content)
                except Exception as error:
                    self.failures.append((time.time(), error))
                    time.sleep(0.02)
                else:
                    self.acknowledged[id] = content
                    self.times.append(time.time())
                    break
            time.sleep(0.005)

    def progress(self, timeout: float = 60) -> None:
        """Waits for two more acknowledged writes; the first one may have begun before the call."""
        before, deadline = len(self.times), time.monotonic() + timeout
        while len(self.times) < before + 2:
            last = self.failures[-1][1] if self.failures else None
            assert self._thread.is_alive() and time.monotonic() < deadline, f"no write within {timeout} s; last failure: {last!r}"
            time.sleep(0.01)

    def gap(self) -> float:
        """Returns the longest time between two acknowledged writes, in seconds."""
        return max((after - before for before, after in zip(self.times, self.times[1:])), default=0.0)

    def check(self, client: Client | None = None) -> None:
        """Checks that every acknowledged write is stored unchanged and once."""
        found = (client or self.client).contents(list(self.acknowledged))
        lost = {id: content for id, content in self.acknowledged.items() if found.get(id) != content}
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged writes are lost: {list(lost.items())[:3]}"
        assert len(set(self.acknowledged.values())) == len(self.acknowledged)


# ------------------------------------------------------------------------------------------------------ frozen threads


@contextlib.contextmanager
def frozen_threads(host: Host, pid: int, name: str):
    """Stops the threads with this name in a process of the host, as a debugger does."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt = 0x4206, 0x4207
    # The PID of the process on this machine.
    words = [*host.enter(), "readlink", f"/proc/{pid}/ns/pid"]
    namespace = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    here = [
        process for process in pathlib.Path("/proc").glob("[0-9]*")
        if _quiet(lambda process=process: os.readlink(process / "ns/pid")) == namespace
        and (process / "status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
    ]  # fmt: skip
    assert len(here) == 1, here
    tasks = [task for task in (here[0] / "task").iterdir() if (task / "comm").read_text().strip() == name]
    assert tasks, [(task / "comm").read_text() for task in (here[0] / "task").iterdir()]
    end, started, failed = threading.Event(), threading.Event(), []

    def trace() -> None:
        # The traced threads continue when the tracing thread ends.
        for task in tasks:
            for request in (seize, interrupt):
                if libc.ptrace(request, int(task.name), None, None):
                    failed.append(f"ptrace {request:#x} {task}: {os.strerror(ctypes.get_errno())}")
        started.set()
        left = [int(task.name) for task in tasks]
        while left and not end.wait(0.02):
            # A killed thread disappears only after its tracer has waited for it.
            left = [task for task in left if not _has_ended(task)]
        end.wait()

    thread = threading.Thread(target=trace, daemon=True)
    thread.start()
    started.wait()
    try:
        assert not failed, failed
        yield len(tasks)
    finally:
        end.set()
        thread.join()


def _has_ended(task: int) -> bool:
    try:
        pid, status = os.waitpid(task, os.WNOHANG | 0x40000000)  # __WALL: threads too
    except ChildProcessError:
        return True
    return pid == task and not os.WIFSTOPPED(status)


def _quiet(read):
    try:
        return read()
    except OSError:
        return None
