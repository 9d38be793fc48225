"""The test host itself: it behaves like a real host, and leaves nothing behind."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import host as hosts
import pytest

DEBIAN = "docker.io/library/debian:trixie-slim"
POSTGRES = "docker.io/pgvector/pgvector:pg17"
HERE = pathlib.Path(__file__).resolve().parent

# A web server in Perl, the only language in a minimal Debian.
ECHO = r"""
use IO::Socket::INET;
$| = 1;
$SIG{TERM} = sub { print "asked to stop\n"; exit 0 };
my $listener = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
print "listening\n";
while (my $client = $listener->accept) {
    sysread $client, my $request, 9999;
    print $client "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    close $client;
}
"""

UNIT = f"""
[Container]
ContainerName=echo
Image={DEBIAN}
Pull=never
PublishPort=127.0.0.1:8765:80
Volume=%h/echo.pl:/echo.pl:ro
Exec=perl /echo.pl
LogDriver=journald

[Service]
Restart=always
RestartSec=1

[Install]
WantedBy=default.target
"""


def get(port, timeout=3):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=timeout) as answer:
            return answer.read().decode()
    except (OSError, urllib.error.URLError):
        return None


def sessions(host):
    """Returns the login sessions; the session of a user manager has another class."""
    rows = [line.split()[0] for line in host.run("loginctl list-sessions --no-legend").stdout.splitlines()]
    return [row for row in rows if "Class=user" in host.run(f"loginctl show-session {row}").stdout]


# ------------------------------------------------------------------------------------------------ basics


def test_systemd_is_pid_1_and_the_boot_is_complete(host):
    assert host.run("cat /proc/1/comm").stdout == "systemd\n"
    assert host.run("systemctl is-system-running").stdout == "running\n"
    assert host.run("systemctl --failed --no-legend").stdout == ""
    assert host.run("cat /etc/debian_version").stdout.startswith("13")
    assert host.run("hostname").stdout.strip() == host.name
    assert host.run("systemctl is-active network-online.target").stdout == "active\n"


def test_commands_return_output_and_exit_code_and_can_time_out(host):
    done = host.run("cat; echo to stderr >&2; exit 3", input="from stdin\n", check=False)
    assert (done.code, done.stdout, done.stderr) == (3, "from stdin\n", "to stderr\n")
    with pytest.raises(hosts.CommandFailed, match="exit code 3"):
        host.run("exit 3")
    assert host.run(["printf", "%s|", "a b", "$HOME"]).stdout == "a b|$HOME|"
    assert host.run("echo $WHAT", env={"WHAT": "an environment"}).stdout == "an environment\n"
    for user in ("root", "svc", "plain"):
        assert host.run("whoami", user).stdout.strip() == user
        with pytest.raises(hosts.CommandFailed, match="so far"):
            host.run("echo so far; exec sleep 1234", user, timeout=1)
        assert not host.run(f"pgrep -u {user} -f '[s]leep 1234'", check=False).ok


def test_a_background_process_continues_after_its_command(host):
    host.run("nohup sleep 4321 > /dev/null 2>&1 &", "svc")
    assert host.run("pkill -f '[s]leep 4321'", "svc").ok


def test_files_are_written_and_copied_with_owner_and_mode(host, tmp_path):
    host.write("/home/svc/a/b/c", "text", "svc", 0o640)
    assert host.run("stat -c '%U %a' a a/b/c; cat a/b/c", "svc").stdout == "svc 755\nsvc 640\ntext"
    (tmp_path / "one/two").mkdir(parents=True)
    (tmp_path / "one/two/run").write_text("#!/bin/sh\necho it runs\n")
    (tmp_path / "one/two/run").chmod(0o755)
    host.copy(tmp_path / "one", "/home/svc/copied", "svc")
    assert host.run("copied/two/run", "svc").stdout == "it runs\n"
    assert host.read("/home/svc/a/b/c") == "text"
    host.copy_repository("/home/svc/repository")
    assert host.run("stat -c %U repository/Cargo.toml", "svc").stdout == "svc\n"


def test_a_lingering_user_has_a_manager_without_a_login(host):
    assert host.run("systemctl --user is-system-running", "svc").stdout == "running\n"
    assert host.run("loginctl show-user svc -P Linger").stdout == "yes\n"
    assert sessions(host) == []
    assert "app.slice" in host.run("cat /proc/self/cgroup", "svc").stdout


def test_a_boot_does_not_change_kernel_settings_of_the_machine(new_host):
    names = "fs/file-max fs/nr_open fs/inotify/max_user_watches kernel/pid_max kernel/core_pattern vm/max_map_count"

    def read():
        return {name: pathlib.Path("/proc/sys", name).read_text() for name in names.split()}

    before = read()
    new_host()
    assert read() == before


# ------------------------------------------------------------------------------------------------------------ podman


@pytest.mark.parametrize("network", ["pasta", "echonet"])
def test_rootless_podman_publishes_ports(host, network):
    if network == "echonet":
        host.run("podman network create echonet", "svc")
    host.write("/home/svc/echo.pl", ECHO, "svc")
    options = f"--name echo --network {network} --publish 127.0.0.1:8765:80 --volume ./echo.pl:/echo.pl:ro"
    host.run(f"podman run --detach --rm {options} {DEBIAN} perl /echo.pl", "svc")
    port = host.forward(8765)
    host.wait_for(lambda: get(port) == "hello\n", timeout=10)
    # Clients outside of the host use the forwarded port, or run in the host's network namespace.
    client = [sys.executable, "-c", "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8765').read())"]
    done = subprocess.run([*host.netns(), *client], capture_output=True, text=True)
    assert done.stdout == "b'hello\\n'\n", done.stderr
    assert host.run("podman exec echo cat /proc/self/uid_map", "svc").stdout.split()[:3] == ["0", "1000", "1"]
    if network == "echonet":
        found = host.run(f"podman run --rm --network echonet {DEBIAN} getent hosts echo", "svc")
        assert "10.89." in found.stdout
    host.run("podman rm --force --time 0 echo", "svc")
    assert get(port) is None


def test_podman_runs_containers_as_root(new_host):
    host = new_host("debian", user="root")
    assert host.run(f"podman run --rm {DEBIAN} cat /proc/self/uid_map").stdout.split() == ["0", "0", "4294967295"]


def test_podman_builds_without_a_network(host):
    recipe = f"FROM {DEBIAN} AS one\nRUN mkdir /out && echo built > /out/what\nFROM scratch\nCOPY --from=one /out /\n"
    host.run("podman build --quiet --pull=never --network=none --tag built --file - .", "svc", input=recipe)
    host.run("podman save built | tar -x --to-stdout --wildcards '*.tar' | tar -t | grep what", "svc")


def test_build_layers_can_be_restored_on_the_next_host(new_host):
    recipe = f"FROM {DEBIAN}\nRUN rm -r /usr/share/common-licenses && echo built > /what\nCOPY Containerfile /\n"
    build = "podman build --pull=never --network=none --tag built ."
    first = new_host("debian")
    first.write("/home/svc/Containerfile", recipe, "svc")
    assert "Using cache" not in first.run(build, "svc").stdout
    first.save_podman("tried", "a")
    second = new_host()
    assert not second.restore_podman("tried", "b")
    assert second.restore_podman("tried", "a")
    second.write("/home/svc/Containerfile", recipe, "svc")
    assert second.run(build, "svc").stdout.count("Using cache") == 2
    found = second.run("podman run --rm built ls /what /usr/share/common-licenses", "svc", check=False)
    assert found.stdout == "/what\n" and "common-licenses" in found.stderr
    with pytest.raises(hosts.HostError, match="used already"):
        second.restore_podman("tried", "a")
    (hosts.cache() / "podman/tried@a.tar").unlink()


def test_the_postgres_image_behaves_like_the_official_one(host):
    host.run("printf secret | podman secret create password -", "svc")
    variables = "--env POSTGRES_USER=owner --env POSTGRES_DB=memory --env POSTGRES_PASSWORD_FILE=/run/secrets/password"
    variables += " --env POSTGRES_INITDB_ARGS='--data-checksums --auth-host=scram-sha-256'"
    hard = "--read-only --user postgres --cap-drop all --security-opt no-new-privileges --tmpfs /tmp --tmpfs /var/run/postgresql:mode=1777"
    start = f"podman run --detach --rm --name pg --secret password {hard} {variables} --volume data:/var/lib/postgresql/data {POSTGRES}"

    def sql(statement, password="secret"):
        command = f"podman exec --interactive --env PGPASSWORD={password} pg psql -h 127.0.0.1 -U owner -d memory -v ON_ERROR_STOP=1 -Atq"
        return host.run(command, "svc", input=statement, check=False)

    for round in (1, 2):
        host.run(start, "svc")
        host.wait_for(lambda: host.run("podman exec pg pg_isready -q -h 127.0.0.1", "svc", check=False).ok, timeout=30)
        if round == 1:
            assert sql(
                "CREATE EXTENSION vector; CREATE EXTENSION pg_trgm; CREATE TABLE t AS SELECT '[1,2]'::vector AS v"
            ).ok
            assert sql("SHOW data_checksums").stdout == "on\n"
            assert sql("SHOW fsync").stdout == "on\n"
        assert sql("SELECT v FROM t").stdout == "[1,2]\n"
        host.run("podman stop pg", "svc")
    refused = host.run(f"podman run --rm {POSTGRES}", "svc", check=False)
    assert refused.code == 1 and "POSTGRES_PASSWORD" in refused.stderr


def test_podman_compose_starts_a_service(host):
    host.write("/home/svc/echo.pl", ECHO, "svc")
    echo = {
        "image": DEBIAN,
        "command": "perl /echo.pl",
        "volumes": ["./echo.pl:/echo.pl:ro"],
        "ports": ["127.0.0.1:8766:80"],
    }
    host.write("/home/svc/compose.yaml", json.dumps({"services": {"echo": echo}}), "svc")
    host.run("podman-compose up --detach", "svc")
    host.wait_for(lambda: get(host.forward(8766)) == "hello\n", timeout=10)
    host.run("podman-compose down --timeout 1", "svc")


# --------------------------------------------------------------------------------------------------- reboot and power cut


@pytest.fixture(scope="module")
def unit(host):
    """A Quadlet unit that starts at boot."""
    host.write("/home/svc/echo.pl", ECHO, "svc")
    host.write("/home/svc/.config/containers/systemd/echo.container", UNIT, "svc")
    host.run("systemctl --user daemon-reload && systemctl --user start echo", "svc")
    host.wait_for(lambda: get(host.forward(8765)) == "hello\n", timeout=10)
    return host


def test_a_reboot_keeps_files_and_starts_units(unit):
    unit.run("echo kept > /srv/kept; echo gone > /run/gone; echo gone > /tmp/gone")
    before = unit.run("cat /etc/machine-id").stdout
    unit.reboot()
    unit.wait_for(lambda: get(unit.forward(8765)) == "hello\n", timeout=30, what="the service, without a login")
    assert sessions(unit) == []
    assert unit.run("cat /srv/kept; ls /run/gone /tmp/gone", check=False).stdout == "kept\n"
    assert unit.run("cat /etc/machine-id").stdout == before
    assert "asked to stop" in unit.journal(this_boot=False)
    assert "asked to stop" not in unit.journal()


def test_a_power_cut_skips_the_shutdown(unit):
    shutdowns = unit.journal(this_boot=False).count("Reached target shutdown.target")
    unit.power_cut()
    assert not unit.up
    with pytest.raises(hosts.HostError, match="is off"):
        unit.run("true")
    assert unit.read("/srv/kept") == "kept\n"
    assert "listening" in unit.journal(this_boot=False), "the journal is readable while the host is off"
    unit.boot()
    unit.wait_for(lambda: get(unit.forward(8765)) == "hello\n", timeout=30, what="the service")
    assert unit.journal(this_boot=False).count("Reached target shutdown.target") == shutdowns


def test_the_journal_has_messages_of_root_users_and_containers(unit):
    unit.run("logger --tag tester --priority user.warning 'by root'")
    unit.run("logger --tag tester 'by svc'", "svc")
    lines = unit.run("journalctl --sync; journalctl SYSLOG_IDENTIFIER=tester --output=json").stdout.splitlines()
    assert [(e["MESSAGE"], e["PRIORITY"]) for e in map(json.loads, lines)] == [("by root", "4"), ("by svc", "5")]
    assert "listening" in unit.run("journalctl --user --unit echo", "svc").stdout
    assert "listening" in unit.run("podman logs echo", "svc").stderr + unit.run("podman logs echo", "svc").stdout


def test_two_hosts_run_at_the_same_time(new_host):
    one, two = new_host("debian"), new_host("debian")
    for host, text in ((one, "one"), (two, "two")):
        host.write("/home/svc/echo.pl", ECHO.replace("hello\\n", f"{text:5}\\n"), "svc")
        host.run(
            f"podman run --detach --rm --publish 127.0.0.1:8765:80 --volume ./echo.pl:/echo.pl:ro {DEBIAN} perl /echo.pl",
            "svc",
        )
    one.wait_for(lambda: get(one.forward(8765)) == "one  \n", timeout=10)
    two.wait_for(lambda: get(two.forward(8765)) == "two  \n", timeout=10)
    one.power_cut()
    assert get(two.forward(8765)) == "two  \n"


# ------------------------------------------------------------------------------------------------------ clean-up


def remains(pids):
    """Returns the remaining processes, cgroups and mounts of a host, whose keeper is the first of `pids`. Other hosts may
    start and end at the same time."""
    left = [f"process {pid}" for pid in pids if hosts.birth(pid)]
    left += [str(path) for path in hosts.cgroup2().glob(f"{hosts.CGROUP_PREFIX}{pids[0]}-*")]
    left += [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if "/.host" in line]
    return left


OWNER = """
import sys, time
sys.path.insert(0, {here!r})
import host as hosts
one = hosts.Host()
one.load_images("debian")
one.run("podman run --detach --rm {image} sleep 1000", "svc")
pids = [one.keeper.pid]
for procs in one.cgroup.rglob("cgroup.procs"):
    pids += map(int, procs.read_text().split())
print(*pids, flush=True)
{then}
"""


@pytest.mark.parametrize("end", ["close", "exit", "crash", "SIGTERM", "SIGKILL", "SIGKILL of the keeper"])
def test_no_process_cgroup_or_mount_remains(images, end):
    then = {"close": "one.close(); time.sleep(1000)", "exit": "", "crash": "1 / 0"}.get(end, "time.sleep(1000)")
    program = OWNER.format(here=str(HERE), image=DEBIAN, then=then)
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) > 10
        if end.endswith("keeper"):
            os.kill(pids[0], signal.SIGKILL)
            time.sleep(0.5)
            # A killed keeper cannot remove its cgroup; the next host does it.
            hosts.sweep()
        elif end.startswith("SIG"):
            owner.send_signal(getattr(signal, end))
        deadline = time.monotonic() + 15
        while (left := remains(pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
    finally:
        owner.kill()
        owner.communicate()


# ----------------------------------------------------------------------------------------------- output of pytest


def pytest_with(tmp_path, test, **env):
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(test)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(HERE)} | env, capture_output=True, text=True, cwd=tmp_path
    )


def test_a_failed_test_shows_the_journal(images, tmp_path):
    done = pytest_with(tmp_path, "def test_it(new_host):\n    new_host().run('logger a trace of it; false')\n")
    assert done.returncode == 1
    assert "journal since the test began" in done.stdout and "a trace of it" in done.stdout


def test_skipped_host_tests_are_reported(tmp_path):
    test = "def test_with(host):\n    pass\ndef test_without():\n    pass\n"
    done = pytest_with(tmp_path, test, MEMORY_TEST_HOST="off")
    assert done.returncode == 0
    assert "1 passed, 1 skipped" in done.stdout
    assert "SKIPPED: NO TEST HOST" in done.stdout and "1 tests were NOT run" in done.stdout
    # CI requires the tests to run.
    done = pytest_with(tmp_path, test, MEMORY_TEST_HOST="required", PATH="/nowhere")
    assert done.returncode == 4 and "no test host can run on this machine: the command unshare is missing" in done.stderr
