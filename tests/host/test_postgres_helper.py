"""tests/host/postgres, which provides the server for ordinary tests."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import host as hosts
import pytest

HERE = pathlib.Path(__file__).resolve().parent

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="chroot needs root")


class Owner:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [HERE / "postgres", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.process.stdout.readline())

    def sql(self, statement):
        with self.psql(self.about["url"], statement) as psql:
            out, err = psql.communicate()
        return subprocess.CompletedProcess(psql.args, psql.returncode, out, err)

    @staticmethod
    def psql(url, statement):
        words = [
            "chroot",
            str(hosts.cache() / "postgres"),
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            url,
            "-c",
            statement,
        ]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.about["port"]), 1).close()
            return True
        except OSError:
            return False

    def left(self):
        left = [
            line
            for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()
            if "memory-test-postgres" in line
        ]
        if hosts.birth(self.about["pid"]):
            left.append(f"process {self.about['pid']}")
        if pathlib.Path(self.about["data"]).exists():
            left.append(self.about["data"])
        return left


@pytest.fixture
def owner():
    made = Owner()
    yield made
    made.process.kill()
    made.process.wait()


def test_it_serves_postgres_17_with_extensions_and_a_password(owner):
    assert (
        owner.sql("CREATE EXTENSION vector; CREATE EXTENSION pg_trgm; SELECT '[1,2]'::vector <-> '[1,3]'").stdout
        == "1\n"
    )
    assert owner.sql("SHOW server_version_num").stdout.startswith("17")
    assert owner.sql("SHOW fsync").stdout == "on\n"
    wrong = owner.psql(owner.about["url"].replace(owner.about["password"], "wrong"), "SELECT 1")
    assert "password authentication failed" in wrong.communicate()[1]


def test_it_can_be_stopped_killed_frozen_and_started(owner):
    assert owner.sql("CREATE TABLE t AS SELECT 1 AS n").returncode == 0
    for word in ("kill", "stop"):
        assert owner.say(word) == {"ok": True}
        assert not owner.answers()
        assert "does not run" in owner.say("stop")["error"]
        assert owner.say("start") == {"ok": True}
        assert owner.sql("SELECT n FROM t").stdout == "1\n"
    assert owner.say("freeze") == {"ok": True}
    frozen = owner.psql(owner.about["url"], "SELECT 2")
    with pytest.raises(subprocess.TimeoutExpired):
        frozen.wait(0.5)
    assert owner.say("thaw") == {"ok": True}
    assert frozen.communicate(timeout=10)[0] == "2\n"
    assert "unknown command" in owner.say("dance")["error"]


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT", "SIGKILL"])
def test_no_process_mount_or_folder_remains(owner, end):
    if end == "stdin":
        owner.process.stdin.close()
    else:
        owner.process.send_signal(getattr(signal, end))
    owner.process.wait(10)
    if end == "SIGKILL":
        # The server ends immediately; the next one removes its folder.
        subprocess.run([HERE / "postgres", "--", "true"], check=True)
    deadline = time.monotonic() + 5
    while owner.left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert owner.left() == []


def test_a_command_gets_the_url_and_its_exit_code_is_returned():
    script = "case $MEMORY_TEST_POSTGRES in postgres://*@127.0.0.1:*/postgres) exit 7 ;; esac"
    assert subprocess.run([HERE / "postgres", "--conf", "work_mem=8MB", "--", "sh", "-c", script]).returncode == 7


def test_several_servers_run_at_the_same_time():
    owners = [Owner(), Owner()]
    assert owners[0].about["port"] != owners[1].about["port"]
    assert [one.sql("SELECT 1").stdout for one in owners] == ["1\n", "1\n"]
    for one in owners:
        one.process.communicate("")
        assert one.left() == []


def test_a_wrong_setting_is_reported():
    done = subprocess.run(
        [HERE / "postgres", "--conf", "no_such_setting=1", "--", "true"], capture_output=True, text=True
    )
    assert done.returncode != 0 and "no_such_setting" in done.stderr
