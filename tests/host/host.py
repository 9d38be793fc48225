"""A Debian 13 host with systemd as PID 1 and podman, in namespaces of this machine, up in about a second.

    with Host() as host:
        host.run("systemctl is-system-running")
        host.load_images("postgres", user="svc")
        host.run("podman run --rm ...", user="svc")
        port = host.forward(8765)        # 127.0.0.1:port leads to 127.0.0.1:8765 on the host
        host.reboot()
        host.power_cut(); host.boot()

`build` creates its file tree and images; keeper.py owns its files and processes. Root of the host is root of this
machine, so only trusted code may run.
"""

from __future__ import annotations

import atexit
import ctypes
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import select
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CGROUP_PREFIX = "memory-test-host-"
CLONE_NEWNET = 0x40000000
# Options of tar that keep numeric owners, and the attributes in which overlayfs marks deleted files.
_EXACTLY = ["--numeric-owner", "--same-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*"]

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_living: list[Host] = []


def cache() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("MEMORY_TEST_CACHE") or f"{home}/cognitive-memory-mcp") / "host"


def cgroup2() -> pathlib.Path | None:
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(place)
    return None


def missing() -> list[str]:
    """Returns the reasons why this machine cannot boot a host; empty if it can."""
    reasons = []
    if sys.platform != "linux":
        return ["the system is not Linux"]
    if os.getuid() != 0:
        return ["the tests do not run as root"]
    for tool in ("unshare", "nsenter", "mount", "ip", "pivot_root", "hostname"):
        if not shutil.which(tool):
            reasons.append(f"the command {tool} is missing")
    group = cgroup2()
    if group is None:
        reasons.append("no cgroup2 file system is mounted")
    else:
        probe = group / f"{CGROUP_PREFIX}probe-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            reasons.append(f"cannot create a cgroup below {group}: {error.strerror}")
    if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        reasons.append("the kernel has no overlayfs")
    if not (cache() / "root").exists() and not shutil.which("debootstrap"):
        reasons.append("there is no Debian tree, and debootstrap, which creates one, is missing")
    if not reasons:
        probe = [
            "unshare",
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--cgroup",
            "--fork",
            "mount",
            "-t",
            "tmpfs",
            "tmpfs",
            "/mnt",
        ]
        done = subprocess.run(probe, capture_output=True, text=True)
        if done.returncode:
            reasons.append(f"cannot create namespaces: {done.stderr.strip()}")
    return reasons


def build(*stages: str) -> None:
    done = subprocess.run([HERE / "build", "--quiet", *stages], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    if done.returncode:
        raise HostError(f"tests/host/build {' '.join(stages)} failed")


def sweep() -> None:
    """Ends processes and removes cgroups of hosts whose keeper was killed."""
    for group in (cgroup2() or pathlib.Path("/nowhere")).glob(CGROUP_PREFIX + "*"):
        _, _, identity = group.name.partition(CGROUP_PREFIX)
        pid, _, born = identity.partition("-")
        if pid.isdigit() and birth(int(pid)) == born:
            continue
        try:
            (group / "cgroup.kill").write_text("1")
        except OSError:
            pass
        for _ in range(200):
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
            if not group.exists():
                break
            time.sleep(0.01)


def birth(pid: int) -> str:
    """Returns the start time of a process, which identifies it together with its PID. Empty if it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class HostError(Exception):
    pass


class CommandFailed(HostError):
    def __init__(self, host: str, command: str, user: str, result: Result) -> None:
        self.result = result
        super().__init__(
            f"on {host}, as {user}: {command}\nexit code {result.code}\n--- stdout\n{result.stdout}\n--- stderr\n{result.stderr}"
        )


@dataclasses.dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        return self.stdout.strip()


class Host:
    """`size` limits the bytes that the host can write. `binds` are (folder here, folder on the host), read-only."""

    def __init__(
        self,
        name: str | None = None,
        *,
        size: str = "8G",
        binds: list[tuple[str, str]] | None = None,
        boot: bool = True,
    ) -> None:
        self.name = name or f"host{next(_numbers)}"
        self.pid = 0
        self.booted_at = 0.0
        self._pidfd = -1
        self._forwards: dict[int, _Forward] = {}
        self._units = itertools.count(1)
        self._uids: dict[str, int] = {}
        self._unit_prefix = f"test-run-{os.getpid()}-{int(time.time() * 1000)}"
        self._lock = threading.RLock()
        build("root")
        store = cache()
        with open(store / ".lock/hosts", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sweep()
        mountpoint = store / ".host"
        mountpoint.mkdir(exist_ok=True)
        # In a session of its own, Ctrl-C reaches only the tests, which shut the host down.
        self.keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, "-I", "-u", str(HERE / "keeper.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.cgroup = cgroup2() / f"{CGROUP_PREFIX}{self.keeper.pid}-{birth(self.keeper.pid)}"
        self.tree = pathlib.Path(f"/proc/{self.keeper.pid}/root{mountpoint}/root")
        wishes = {
            "name": self.name,
            "size": size,
            "cache": str(store),
            "mountpoint": str(mountpoint),
            "cgroup": str(self.cgroup),
            "binds": [[str(here), there] for here, there in binds or []],
        }
        _living.append(self)
        try:
            self._ask(json.dumps(wishes))
            if boot:
                self.boot()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ power

    def _ask(self, request: str) -> dict:
        try:
            self.keeper.stdin.write(request + "\n")
            self.keeper.stdin.flush()
            answer = json.loads(self.keeper.stdout.readline() or '{"error": "the keeper ended"}')
        except OSError as error:
            answer = {"error": str(error)}
        if "error" in answer:
            raise HostError(f"{self.name}: the keeper failed: {answer['error']}")
        return answer

    @property
    def up(self) -> bool:
        if self._pidfd < 0:
            return False
        return not select.select([self._pidfd], [], [], 0)[0]

    def boot(self, *, wait: bool = True, timeout: float = 90) -> None:
        """Starts PID 1. Returns when the boot is complete and the managers of lingering users accept commands, or with
        wait=False when PID 1 accepts commands."""
        with self._lock:
            self.booted_at = time.time()
            self.pid = self._ask("boot")["pid"]
            if self._pidfd >= 0:
                os.close(self._pidfd)
            self._pidfd = os.pidfd_open(self.pid)
        deadline = time.monotonic() + timeout
        while True:
            state = subprocess.run(
                [*self.enter(), "systemctl", "is-system-running", *(["--wait"] if wait else [])],
                capture_output=True,
                text=True,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            ).stdout.strip()
            if state in ("running", "degraded") or (not wait and state in ("starting", "initializing")):
                break
            if not self.up or time.monotonic() > deadline:
                raise HostError(f"{self.name} does not boot, its state is {state or 'unknown'}\n{self.console()}")
            time.sleep(0.02)
        if wait:
            if state == "degraded":
                print(
                    f"{self.name} is degraded:\n" + self.run("systemctl --failed --no-pager", check=False).stdout,
                    file=sys.stderr,
                )
            for user in os.listdir(self.tree / "var/lib/systemd/linger"):
                self.wait_for(lambda user=user: self._manager(user), timeout=30, what=f"the user manager of {user}")

    def power_off(self, *, reboot: bool = False, timeout: float = 150) -> None:
        """Shuts the host down."""
        verb = "reboot" if reboot else "poweroff"
        subprocess.run([*self.enter(), "systemctl", verb, "--no-block"], capture_output=True, stdin=subprocess.DEVNULL)
        try:
            self.wait_for(lambda: not self.up, timeout=timeout, what=f"the {verb}")
        except TimeoutError:
            raise HostError(f"{self.name} does not shut down:\n{self.journal(lines=40)}") from None
        # PID 1 has ended; the keeper waits for the other processes and cleans the cgroup.
        self._ask("kill")

    def reboot(self, *, wait: bool = True) -> None:
        self.power_off(reboot=True)
        self.boot(wait=wait)

    def power_cut(self) -> None:
        """Kills every process at once. Data that the kernel has accepted survives, so a missing fsync is not detected."""
        self._ask("kill")

    def close(self) -> None:
        with self._lock:
            if self in _living:
                _living.remove(self)
            for forward in self._forwards.values():
                forward.close()
            self._forwards.clear()
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1
            if self.keeper.poll() is None:
                try:
                    self.keeper.stdin.close()
                except OSError:
                    pass
                try:
                    self.keeper.wait(40)
                except subprocess.TimeoutExpired:
                    self.keeper.kill()
                    self.keeper.wait()
                    sweep()
            self.keeper.stdout.close()

    # --------------------------------------------------------------------------------------------------- commands

    def enter(self) -> list[str]:
        """Returns the beginning of a command line that runs in the host's namespaces, but in none of its units."""
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", "--"]

    def netns(self) -> list[str]:
        """Returns the beginning of a command line that runs on this machine, but in the host's network."""
        return ["nsenter", "-t", str(self.pid), "-n", "--"]

    def uid(self, user: str) -> int:
        if user not in self._uids:
            for line in (self.tree / "etc/passwd").read_text().splitlines():
                name, _, uid, *_ = line.split(":")
                self._uids[name] = int(uid)
        return self._uids[user]

    def _manager(self, user: str) -> bool:
        return pathlib.Path(f"/proc/{self.pid}/root/run/user/{self.uid(user)}/systemd/private").exists()

    def _as(self, user: str) -> list[str]:
        """Like `enter`, as a user with access to the user manager."""
        runtime = f"/run/user/{self.uid(user)}"
        environment = [
            f"XDG_RUNTIME_DIR={runtime}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus",
            "PATH=/usr/bin:/bin",
        ]
        return [
            *self.enter(),
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--init-groups",
            "env",
            "-i",
            *environment,
        ]

    def command(
        self,
        command: str | list[str],
        user: str = "root",
        *,
        login: bool = False,
        env: dict[str, str] | None = None,
        unit: str | None = None,
    ) -> list[str]:
        """Returns the command line that runs `command` (a line of bash, or words) on the host as a transient unit.

        The unit belongs to PID 1 for root, and to the user manager for a user, so that it is no login session. With
        login=True, or for users whose manager does not run, it is a login session, whose end ends all its processes."""
        words = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        run = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]
        # The journal shows the description instead of the command, which may contain a secret.
        run += ["--expand-environment=no", "--description=a command of the tests"]
        run += [f"--unit={unit}"] if unit else []
        run += [f"--setenv={name}={value}" for name, value in (env or {}).items()]
        # Background processes of the command, such as podman's port forwarder, continue after its end.
        leave = "--property=KillMode=process"
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        if user == "root":
            return [
                *self.enter(),
                *run,
                leave,
                "--working-directory=/root",
                "--setenv=HOME=/root",
                f"--setenv={path}",
                "--",
                *words,
            ]
        if login or not self._manager(user):
            runtime = f"/run/user/{self.uid(user)}"
            session = ["-p", f"User={user}", "-p", "PAMName=login", f"--setenv=XDG_RUNTIME_DIR={runtime}"]
            session += [f"--setenv=DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus"]
            return [
                *self.enter(),
                *run,
                *session,
                f"--working-directory=/home/{user}",
                f"--setenv={path}",
                "--",
                *words,
            ]
        return [
            *self._as(user),
            *run,
            leave,
            "--user",
            f"--working-directory=/home/{user}",
            f"--setenv={path}",
            "--",
            *words,
        ]

    def run(
        self,
        command: str | list[str],
        user: str = "root",
        *,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 120,
        login: bool = False,
        env: dict[str, str] | None = None,
    ) -> Result:
        """Runs a command and waits for its end. Raises CommandFailed for a failure unless check=False."""
        unit = f"{self._unit_prefix}-{next(self._units)}"
        shown = command if isinstance(command, str) else shlex.join(command)
        if not self.up:
            raise HostError(f"{self.name} is off, cannot run: {shown}")
        process = subprocess.Popen(
            self.command(command, user, login=login, env=env, unit=unit),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for pipe in (process.stdin, process.stdout, process.stderr):
            # Programs may open /dev/stdin by name (podman build --file -), which needs the ownership.
            if pipe:
                os.fchown(pipe.fileno(), self.uid(user), -1)
        try:
            out, err = process.communicate(input.encode() if isinstance(input, str) else input, timeout)
        except subprocess.TimeoutExpired:
            # The command is not a child of this process, so systemd on the host has to kill it.
            kill = ["systemctl", "kill", "--signal=KILL", f"{unit}.service"]
            subprocess.run([*self.enter(), *kill], capture_output=True, timeout=20)
            if user != "root" and self._manager(user):
                subprocess.run([*self._as(user), *kill, "--user"], capture_output=True, timeout=20)
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            result = Result(
                -1, out.decode(errors="replace"), err.decode(errors="replace") + f"\ndid not end within {timeout} s"
            )
            raise CommandFailed(self.name, shown, user, result) from None
        result = Result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if check and result.code:
            raise CommandFailed(self.name, shown, user, result)
        return result

    def popen(
        self,
        command: str | list[str],
        user: str = "root",
        *,
        login: bool = False,
        env: dict[str, str] | None = None,
        **options,
    ) -> subprocess.Popen:
        """Starts a command and returns immediately. Killing the Popen does not end the command; closing its stdin may."""
        return subprocess.Popen(self.command(command, user, login=login, env=env), **options)

    def wait_for(self, condition, *, timeout: float = 30, what: str | None = None, every: float = 0.05):
        """Waits until `condition` (a function, or a command line of root) is true. Returns the value of the function."""
        check = condition if callable(condition) else lambda: self.run(condition, check=False).ok
        deadline = time.monotonic() + timeout
        while True:
            value = check()
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {what or condition} did not happen within {timeout} s")
            time.sleep(every)

    def show(self, unit: str, user: str = "root") -> dict[str, str]:
        """Returns the properties of a unit (`systemctl show`)."""
        scope = "" if user == "root" else "--user "
        lines = self.run(f"systemctl {scope}show {shlex.quote(unit)}", user).stdout.splitlines()
        return dict(line.partition("=")[::2] for line in lines if "=" in line)

    @property
    def controllers(self) -> set[str]:
        """The cgroup controllers that the machine delegates. Without them, limits of memory and processes do not work."""
        return set(self.read("/sys/fs/cgroup/cgroup.controllers").split())

    def lift_limits(self, *units: str, user: str = "svc") -> None:
        """Disables PidsLimit= by a drop-in if the machine delegates no controller for it; the container would not start."""
        if "pids" in self.controllers:
            return
        folder = "/etc/containers/systemd" if user == "root" else f"/home/{user}/.config/containers/systemd"
        for unit in units:
            self.write(f"{folder}/{unit}.container.d/90-test-host.conf", "[Container]\nPidsLimit=0\n", user)

    # ------------------------------------------------------------------------------------------------------ files

    def path(self, place: str) -> pathlib.Path:
        """Returns the path of a host's file on this machine, for direct access. Works while the host is off, except below
        /run and /tmp. A symbolic link would lead to a file of this machine, so resolve it first."""
        base = pathlib.Path(f"/proc/{self.pid}/root") if self.up else self.tree
        return base / place.lstrip("/")

    def write(self, place: str, text: str | bytes, user: str = "root", mode: int = 0o644) -> None:
        """Writes a file that the user owns. Creates missing folders, which the user owns as well."""
        target = self.path(place)
        uid = self.uid(user)
        for folder in reversed(target.parents):
            if not folder.exists():
                folder.mkdir()
                os.chown(folder, uid, uid)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        target.chmod(mode)
        os.chown(target, uid, uid)

    def read(self, place: str) -> str:
        return self.path(place).read_text(errors="replace")

    def copy(self, source: str | os.PathLike, place: str, user: str = "root") -> None:
        """Copies a file or a folder from this machine. Keeps the modes; the user becomes the owner."""
        source = pathlib.Path(source)
        if source.is_dir():
            for entry in sorted(source.rglob("*")):
                if entry.is_file():
                    self.write(
                        f"{place}/{entry.relative_to(source)}", entry.read_bytes(), user, entry.stat().st_mode & 0o777
                    )
        else:
            self.write(place, source.read_bytes(), user, source.stat().st_mode & 0o777)

    def copy_repository(self, place: str, user: str = "svc") -> None:
        """Copies the files that git tracks, and new files that are not ignored."""
        command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, check=True, capture_output=True).stdout
        # A tracked file may have been deleted.
        names = b"\0".join(
            name for name in names.split(b"\0") if name and os.path.lexists(os.path.join(os.fsencode(REPOSITORY), name))
        )
        tar = subprocess.Popen(
            ["tar", "-C", str(REPOSITORY), "--null", "-T", "-", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=lambda: (tar.stdin.write(names), tar.stdin.close()), daemon=True).start()
        words = self.command(f"mkdir -p {shlex.quote(place)} && tar -C {shlex.quote(place)} --no-same-owner -x", user)
        subprocess.run(words, stdin=tar.stdout, check=True)
        tar.stdout.close()
        if tar.wait():
            raise HostError("the repository could not be packed")

    def load_images(self, *names: str, user: str = "svc") -> None:
        """Imports images of `build` (see the .json beside each tar) into the user's podman."""
        for name in names:
            stage = "builder" if name == "rust" else "images"
            about = json.loads((cache() / stage / f"{name}.json").read_text())
            changes = " ".join(f"--change {shlex.quote(change)}" for change in about["changes"])
            first, *others = about["names"]
            tags = "".join(f" && podman tag {first} {other}" for other in others)
            with open(cache() / stage / f"{name}.tar", "rb") as tar:
                command = f"podman import --quiet {changes} - {first}{tags}"
                done = subprocess.run(self.command(command, user), stdin=tar, capture_output=True, text=True)
            if done.returncode:
                raise CommandFailed(self.name, command, user, Result(done.returncode, done.stdout, done.stderr))

    def save_podman(self, name: str, key: str, user: str = "svc") -> None:
        """Saves the storage of the user's podman (images, build layers) in the cache, for `restore_podman` on a later host.
        Replaces the storage saved under this name. No container or build may run at the same time."""
        store = cache() / "podman"
        store.mkdir(exist_ok=True)
        new = store / f".{name}@{key}.{os.getpid()}"
        try:
            subprocess.run(
                ["tar", "-C", str(self._podman_store(user)), *_EXACTLY, "-cf", str(new), "storage"], check=True
            )
            for old in store.glob(f"{name}@*.tar"):
                old.unlink(missing_ok=True)
            new.rename(store / f"{name}@{key}.tar")
        finally:
            new.unlink(missing_ok=True)

    def restore_podman(self, name: str, key: str, user: str = "svc") -> bool:
        """Restores the storage saved under this name and key, before the user's first use of podman on this host. Returns
        whether there was one."""
        try:
            kept = open(cache() / "podman" / f"{name}@{key}.tar", "rb")
        except FileNotFoundError:
            return False
        if (self._podman_store(user) / "storage/overlay-images").exists():
            raise HostError(f"the podman of {user} on {self.name} was used already; restore its storage before its first use")
        if user != "root":
            self.run("mkdir -p ~/.local/share/containers", user)
        with kept:
            subprocess.run(["tar", "-C", str(self._podman_store(user)), *_EXACTLY, "-x"], stdin=kept, check=True)
        return True

    def _podman_store(self, user: str) -> pathlib.Path:
        return self.tree / ("var/lib/containers" if user == "root" else f"home/{user}/.local/share/containers")

    # ---------------------------------------------------------------------------------------------------- network

    def socket(self, port: int, *, timeout: float = 10) -> socket.socket:
        """Opens a TCP connection to a port of the host's loopback."""
        result: list = []

        def work() -> None:
            try:
                with open(f"/proc/{self.pid}/ns/net") as namespace:
                    # setns affects only this thread, which ends afterwards. A socket stays in the namespace of its creation.
                    if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(socket.create_connection(("127.0.0.1", port), timeout))
            except BaseException as error:
                result.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        result[0].settimeout(None)
        return result[0]

    def forward(self, port: int) -> int:
        """Returns a port of 127.0.0.1 on this machine that leads to `port` of the host's loopback, also after reboots. If
        no process listens there, a connection is accepted and reset."""
        if port not in self._forwards:
            self._forwards[port] = _Forward(self, port)
        return self._forwards[port].port

    # -------------------------------------------------------------------------------------------------------- logs

    def journal(self, arguments: str = "", *, this_boot: bool = True, lines: int | None = None) -> str:
        """Returns the journal of the system and all users, also while the host is off. Boots are distinguished by time,
        because all of them have the boot ID of the machine."""
        words = ["journalctl", "--no-pager", "--all", "--output=short-precise", *shlex.split(arguments)]
        words += (
            [f"--since=@{self.booted_at:.6f}"] if this_boot and self.booted_at and "--since" not in arguments else []
        )
        words += [f"--lines={lines}"] if lines else []
        if self.up:
            words = [*self.enter(), *words]
        else:
            words = [
                "nsenter",
                "-t",
                str(self.keeper.pid),
                "-m",
                "--",
                "chroot",
                str(self.tree).partition("/root")[2],
                *words,
            ]
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL
        )
        return done.stdout + done.stderr

    def console(self) -> str:
        """Returns the output before systemd took over the console."""
        try:
            return (self.tree.parent / "console").read_text(errors="replace")
        except OSError:
            return ""


class _Forward:
    def __init__(self, host: Host, target: int) -> None:
        self.host = host
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        try:
            server = self.host.socket(self.target)
        except BaseException:
            # SO_LINGER with 0 makes close() reset the connection, as if no process listened.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        for end in (client, server):
            # Without it, a request in two small parts waits 40 ms for an acknowledgement.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()
        client.close()
        server.close()

    def close(self) -> None:
        # shutdown wakes the thread in accept(); close alone does not.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def living() -> list[Host]:
    return list(_living)


@atexit.register
def close_all() -> None:
    for host in living():
        host.close()
