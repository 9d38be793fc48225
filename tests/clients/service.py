"""The service as a process: started with the settings of a test, stopped, killed and restarted."""

import ctypes
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
LIBC = ctypes.CDLL(None)

# Time limit in seconds, long enough for a busy machine.
PATIENCE = 30

living: list["Service"] = []


def binary() -> pathlib.Path:
    """Returns the program under test: MEMORY_TEST_BINARY, or the debug build."""
    named = os.environ.get("MEMORY_TEST_BINARY")
    if named:
        return pathlib.Path(named).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    return target / "debug/cognitive-memory-mcp"


def debug_binary() -> pathlib.Path:
    """Returns the debug build, which has additional options for tests."""
    named = os.environ.get("MEMORY_TEST_DEBUG_BINARY")
    return pathlib.Path(named).resolve() if named else REPOSITORY / "target/debug/cognitive-memory-mcp"


def clean_environment(folder: pathlib.Path, settings: dict[str, str]) -> dict[str, str]:
    """Returns the environment of a process, without the settings of the caller."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return kept | {"HOME": str(folder), "MEMORY_LOG_FORMAT": "json", "MEMORY_EMBEDDER": "none"} | settings


def free_port() -> int:
    """Returns a port below the range of outgoing connections, so that it stays free between a stop and the next start."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def dies_with_us() -> None:
    """Sets PR_SET_PDEATHSIG, so that the service is killed when the tests end for any reason."""
    LIBC.prctl(1, signal.SIGKILL)


def wait_until(condition, what: str, patience: float = PATIENCE, pause: float = 0.02):
    """Waits for a true value of `condition`, and returns it."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: did not happen within {patience} s")
        time.sleep(pause)


def http_get(url: str, timeout: float = 5) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return 0, ""


@dataclasses.dataclass(frozen=True)
class Backend:
    """The settings of a database."""

    name: str
    settings: dict[str, str]


class Service:
    """`cognitive-memory-mcp serve`."""

    def __init__(self, folder: pathlib.Path, settings: dict[str, str], tokens: dict[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tokens = tokens or {}
        settings = {"MEMORY_LISTEN": f"127.0.0.1:{self.port}", **settings}
        if self.tokens:
            lines = [
                f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()} project={name}\n"
                for name, token in self.tokens.items()
            ]
            (folder / "tokens").write_text("".join(lines))
            settings["MEMORY_TOKENS_FILE"] = str(folder / "tokens")
        self.environment = clean_environment(folder, settings)
        self.log_path = folder / "service.log"
        self.command = [binary(), "serve"]
        self.process: subprocess.Popen | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    def start(self, ready: bool = True) -> "Service":
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_us,
            )  # fmt: skip
        living.append(self)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def ready():
            assert self.process.poll() is None, f"the service ended with {self.process.returncode}:\n{self.log()}"
            return http_get(f"{self.base}/health/ready")[0] == 200

        wait_until(ready, f"the service is ready; its log:\n{self.log()}")

    def kill(self) -> None:
        """Sends SIGKILL, so that nothing is flushed or closed."""
        self.process.kill()
        self.process.wait(PATIENCE)
        living.remove(self)

    def stop(self) -> int:
        """Shuts the service down, and returns its exit code."""
        self.process.terminate()
        code = self.process.wait(PATIENCE)
        living.remove(self)
        return code

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        if self in living:
            living.remove(self)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]


def run(*arguments: str, folder: pathlib.Path, settings: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = clean_environment(folder, settings or {})
    return subprocess.run(
        [binary(), *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
