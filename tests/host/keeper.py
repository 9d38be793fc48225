"""Owns the files, the cgroup and PID 1 of one test host. host.py starts it in a private mount namespace.

The files are an overlay whose changes are in a tmpfs. It is mounted in the mount namespace of this process only, and
disappears with the last process of the namespace. PID 1 of the host is killed when this process ends, and this process
ends when its stdin is closed. If the tests are killed, only an empty cgroup remains, which the next host removes.

Requests are lines on stdin, answers are lines of JSON on stdout:
    boot    starts PID 1                 {"pid": its PID on this machine}
    kill    kills all processes          {"ok": true}
    end     ends like a closed stdin
"""

import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
HERE = pathlib.Path(__file__).resolve().parent


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Keeper:
    def __init__(self, wishes: dict) -> None:
        self.name = wishes["name"]
        self.cgroup = pathlib.Path(wishes["cgroup"])
        self.mountpoint = wishes["mountpoint"]
        self.root = f"{self.mountpoint}/root"
        self.unshare: subprocess.Popen | None = None
        # Prevents `build` from replacing the tree while a host uses it.
        self.in_use = open(f"{wishes['cache']}/.lock/root", "w")
        fcntl.flock(self.in_use, fcntl.LOCK_SH)
        self.make_files(wishes)

    def make_files(self, wishes: dict) -> None:
        mount("-t", "tmpfs", "-o", f"mode=755,size={wishes['size']}", "tmpfs", self.mountpoint)
        for folder in ("root", "upper", "work", "home", "containers"):
            os.mkdir(f"{self.mountpoint}/{folder}")
        tree = f"{wishes['cache']}/root"
        layers = f"lowerdir={tree},upperdir={self.mountpoint}/upper,workdir={self.mountpoint}/work"
        mount("-t", "overlay", "-o", layers, "overlay", self.root)
        # podman mounts overlays, which the kernel refuses on top of an overlay, so these folders are plain tmpfs.
        shutil.copytree(f"{tree}/home", f"{self.mountpoint}/home", symlinks=True, dirs_exist_ok=True)
        for user in os.listdir(f"{tree}/home"):
            owner = os.stat(f"{tree}/home/{user}")
            for folder, _, files in os.walk(f"{self.mountpoint}/home/{user}"):
                for entry in (".", *files):
                    os.chown(os.path.join(folder, entry), owner.st_uid, owner.st_gid, follow_symlinks=False)
        mount("--bind", f"{self.mountpoint}/home", f"{self.root}/home")
        os.makedirs(f"{self.root}/var/lib/containers", exist_ok=True)
        mount("--bind", f"{self.mountpoint}/containers", f"{self.root}/var/lib/containers")
        for source, target in wishes["binds"]:
            place = f"{self.root}{target}"
            os.makedirs(place, exist_ok=True)
            mount("--bind", source, place)
            mount("-o", "remount,bind,ro", place)
        # With an empty machine ID, every first boot would apply the presets of all units.
        pathlib.Path(f"{self.root}/etc/machine-id").write_text(os.urandom(16).hex() + "\n")
        pathlib.Path(f"{self.root}/etc/hostname").write_text(self.name + "\n")
        with open(f"{self.root}/etc/hosts", "a") as hosts:
            hosts.write(f"127.0.1.1 {self.name}\n")

    def boot(self) -> dict:
        if self.unshare and self.unshare.poll() is None:
            raise RuntimeError("the host is already up")
        self.remove_cgroup()
        self.cgroup.mkdir()

        def enter() -> None:
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            (self.cgroup / "cgroup.procs").write_text("0")

        flags = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child=KILL")
        with open(f"{self.mountpoint}/console", "ab") as console:
            self.unshare = subprocess.Popen(
                ["unshare", *flags, "sh", str(HERE / "init"), self.root, self.name],
                preexec_fn=enter,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.unshare.poll() is None:
            for pid in children(self.unshare.pid):
                try:
                    if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                        return {"pid": pid}
                except OSError:
                    pass
            time.sleep(0.01)
        self.kill()
        raise RuntimeError("PID 1 did not start: " + pathlib.Path(f"{self.mountpoint}/console").read_text())

    def kill(self) -> dict:
        if self.unshare and self.unshare.poll() is None:
            for pid in children(self.unshare.pid):
                os.kill(pid, signal.SIGKILL)
            try:
                self.unshare.wait(20)
            except subprocess.TimeoutExpired:
                self.unshare.kill()
        return {"ok": True}

    def remove_cgroup(self) -> None:
        deadline = time.monotonic() + 10
        while self.cgroup.exists():
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.cgroup} cannot be removed")
            time.sleep(0.005)


def main() -> None:
    # Only the tests react to Ctrl-C; they close stdin of this process when they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = None
    try:
        keeper = Keeper(json.loads(sys.stdin.readline()))
        print(json.dumps({"ok": True}), flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                break
            try:
                answer = {"boot": keeper.boot, "kill": keeper.kill}[line.strip()]()
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        raise
    finally:
        if keeper:
            keeper.kill()
            keeper.remove_cgroup()


main()
