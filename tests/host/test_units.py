"""The units with PostgreSQL on systemd and podman, for a user who is not logged in.

In most tests a client outside of the container writes during the fault, and no acknowledged write may be lost."""

import contextlib
import json
import re
import socket
import time

import pytest
from deployment import DATABASE, IMAGE, SERVICE, Deployment, Refused, Writer, frozen_threads

# Shorter limits than the shipped ones, for tests of the behaviour.
QUICK = "[Service]\nRestartSec=1\nWatchdogSec=6\n"
EXIT_CONFIGURATION = 78
# Shipped values of MEMORY_DRAIN_TIMEOUT and StopTimeout=, in seconds.
DRAIN_TIMEOUT, STOP_TIMEOUT = 20, 30


@pytest.fixture(scope="module")
def installed(service_host):
    """The service, installed once for this module, with the writers of all tests, whose writes are checked at the end."""
    deployment = Deployment(service_host).install().wait_ready()
    deployment.writers = []
    return deployment


@pytest.fixture
def service(installed):
    """The service, running and ready at the start of each test."""
    if installed.prop("ActiveState") != "active":
        installed.systemctl("reset-failed", check=False)
        installed.start()
    return installed.wait_ready()


@contextlib.contextmanager
def writing(service):
    """A writer with its own session. At the end, the session still works and every acknowledged write is stored."""
    with service.client() as client:
        with Writer(client) as writer:
            yield writer
            writer.progress()
        writer.check()
    service.writers.append(writer)


# --------------------------------------------------------------------------------------------------- start and stop


def test_the_running_unit_has_the_documented_properties(service):
    unit = service.show()
    expected = {
        "Type": "notify",
        "NotifyAccess": "all",
        "Restart": "always",
        "RestartUSec": "10s",
        "RestartPreventExitStatus": "64 78",
        "WatchdogUSec": "1min",
        "TimeoutStartUSec": "15min",
        "TimeoutStopUSec": "45s",
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "generated",
        "StartLimitIntervalUSec": "0",
    }
    assert {name: unit[name] for name in expected} == expected
    postgres = f"{DATABASE}.service"
    assert postgres in unit["Wants"].split() and postgres in unit["After"].split()
    assert postgres not in unit["Requires"].split(), "with Requires=, a failed database would cancel the start"
    assert "default.target" in unit["WantedBy"]
    assert re.match(r"Serving on 0\.0\.0\.0:8765", unit["StatusText"])
    status = service.systemctl("status", SERVICE).stdout
    assert f'Status: "{unit["StatusText"]}"' in status


def test_the_container_is_confined(service):
    container = json.loads(service.run(f"podman inspect {SERVICE}").stdout)[0]
    assert container["Config"]["User"] == "65532:65532"
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    assert not container["EffectiveCaps"] and not container["BoundingCaps"]
    assert "ENVIRONMENT=production" in container["Config"]["Env"]
    assert [port for ports in container["NetworkSettings"]["Ports"].values() for port in ports or []] == [
        {"HostIp": "127.0.0.1", "HostPort": "8765"}
    ]
    pid = service.pid()
    status = dict(
        line.split(":\t", 1) for line in service.host.run(f"cat /proc/{pid}/status").stdout.splitlines() if ":\t" in line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    # Rootless: UID 65532 of the container is one of the user's subordinate IDs.
    assert int(status["Uid"].split()[0]) > 65536
    mounts = [line.split() for line in service.host.run(f"cat /proc/{pid}/mounts").stdout.splitlines()]
    options = {place: set(settings.split(",")) for _, place, _, settings, *_ in mounts}
    assert "ro" in options["/"]
    assert {"rw", "noexec", "nosuid", "nodev"} <= options["/tmp"]
    writable = {place for place, set_ in options.items() if "rw" in set_ and not re.match(r"/(proc|dev|sys)\b", place)}
    assert writable <= {"/tmp", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/notify",
                        "/run/secrets", "/run/secrets/cognitive-memory-tokens", "/run/secrets/cognitive-memory-db-password"}, writable  # fmt: skip


def test_the_database_is_confined_and_has_shared_memory(service):
    """Everything is read-only except the data and three small file systems. Volumes created by Compose need /dev/shm."""
    mounts = [line.split() for line in service.run(f"podman exec {DATABASE} cat /proc/mounts").stdout.splitlines()]
    options = {place: set(settings.split(",")) for _, place, _, settings, *_ in mounts}
    assert "ro" in options["/"]
    for place in ("/tmp", "/dev/shm", "/run/postgresql", "/var/lib/postgresql/data"):
        assert "rw" in options[place], place
    assert "size=262144k" in options["/dev/shm"]
    assert service.sql("SHOW dynamic_shared_memory_type") == "posix"
    assert service.sql("SHOW data_checksums") == "on"
    assert str(service.run(f"podman port {DATABASE}")) == "", "only the server can reach the database"
    status = service.run(f"podman exec {DATABASE} cat /proc/1/status").stdout
    assert re.search(r"^CapEff:\t0+$", status, re.M) and re.search(r"^NoNewPrivs:\t1$", status, re.M)


def test_a_started_service_answers_the_first_request(service, figure):
    """READY=1 follows a successful request through the router, so the first request after `systemctl start` succeeds."""
    times = []
    for _ in range(3):
        service.stop()
        assert service.prop("ActiveState") == "inactive"
        begin = time.monotonic()
        service.start()
        times.append(time.monotonic() - begin)
        assert service.live, "active, but not answering"
        assert service.ready, service.get("/health/ready")
    figure(f"`systemctl start` to active: {sorted(times)[1]:.2f} s")
    with service.client() as client:
        assert client.tools()


def test_start_stop_and_restart_keep_sessions_usable(service):
    with writing(service) as writer:
        before = service.prop("InvocationID")
        service.restart()
        writer.progress()
        assert service.prop("InvocationID") != before
        begin = time.monotonic()
        service.stop()
        assert time.monotonic() - begin < DRAIN_TIMEOUT, "without long requests, a stop does not wait for the drain timeout"
        unit = service.show()
        assert (unit["ActiveState"], unit["Result"], unit["ExecMainStatus"]) == ("inactive", "success", "0"), unit
        assert service.get("/health/live")[0] == 0
        assert service.systemctl("status", SERVICE, check=False).code == 3
        assert not service.run(f"podman container exists {SERVICE}", check=False).ok, "the container is removed"
        # Restart=always does not apply to a service that was stopped on purpose.
        assert service.prop("ActiveState", DATABASE) == "active"
        service.start()
    last = [line["message"] for line in service.lines() if "reason" in line]
    assert last[-1] == "ended"


def test_a_request_that_has_begun_is_answered_during_a_stop(service):
    """A stop during a request: the status text says so, the answer still arrives, then the service ends."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "remember", "arguments": {"items": [{"content": "said while the service stopped"}]}}}).encode()  # fmt: skip
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {service.token}\r\n"
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        f"MCP-Protocol-Version: 2025-06-18\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", service.port), 30) as connection:
        connection.sendall(head + body[:20])
        # An answer to a later request proves that the server has received this one.
        assert service.live
        begin = time.monotonic()
        service.systemctl("stop", "--no-block", SERVICE)
        sentence = service.wait_property("StatusText", lambda text: text.startswith("Stopping"), timeout=10)
        assert service.prop("ActiveState") == "deactivating"
        connection.sendall(body[20:])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200"), (sentence, answer)
    id = json.loads(answer.partition(b"\r\n\r\n")[2])["result"]["structuredContent"]["memories"][0]["id"]
    service.wait_property("ActiveState", "inactive", timeout=STOP_TIMEOUT)
    assert time.monotonic() - begin < DRAIN_TIMEOUT, "after the last answer, it does not wait for the drain timeout"
    service.start()
    service.wait_ready()
    with service.client() as client:
        assert client.contents([id]) == {id: "said while the service stopped"}


# ----------------------------------------------------------------------------------------------------------- watchdog


def test_heartbeats_arrive_within_the_limit_of_the_watchdog(service):
    with service.dropin(QUICK):
        pings = []

        def ping():
            value = int(service.prop("WatchdogTimestampMonotonic"))
            if value not in pings:
                pings.append(value)
            return len(pings) >= 4

        service.host.wait_for(ping, timeout=15, what="four heartbeats")
        gaps = [(later - earlier) / 1e6 for earlier, later in zip(pings, pings[1:])]
        assert max(gaps) < 6, f"WatchdogSec=6, a heartbeat is due every 2 s: {gaps}"


def test_a_frozen_server_is_restarted_by_the_watchdog(service):
    with service.dropin(QUICK), writing(service) as writer:
        since, before = time.time(), service.prop("NRestarts")
        service.kill(service.pid(), "STOP")
        service.wait_journal("Watchdog timeout", f"-u {SERVICE}", since, timeout=20)
        writer.progress()
        # WatchdogSec=6 and RestartSec=1; the frozen process is killed instead of being asked to stop.
        assert writer.gap() < STOP_TIMEOUT
        assert "watchdog" in service.wait_journal("Failed with result", f"-u {SERVICE}", since)
        assert int(service.prop("NRestarts")) == int(before) + 1


def test_a_hung_server_ends_itself_and_logs_the_cause(service):
    """All threads that serve requests are frozen; the thread that monitors them continues."""
    with service.dropin(QUICK), writing(service) as writer:
        since = time.time()
        with frozen_threads(service.host, service.pid(), "tokio-rt-worker"):
            line = service.wait_journal('"level":"ERROR".*watchdog', f"-t {SERVICE} -o cat", since, timeout=20)
            assert json.loads(line)["message"], line
            writer.progress()
        assert re.search(r"status=70", service.journal(f"-u {SERVICE}", since))


# ------------------------------------------------------------------------------------------------------------- kills


def test_a_killed_server_is_restarted(service, figure):
    """With the limits of the shipped unit."""
    with writing(service) as writer:
        restarts = int(service.prop("NRestarts"))
        begin = time.monotonic()
        service.kill(service.pid())
        service.host.wait_for(lambda: not service.live, timeout=5)
        service.host.wait_for(lambda: service.live, timeout=60)
        took = time.monotonic() - begin
        writer.progress()
        assert int(service.prop("NRestarts")) == restarts + 1
    figure(f"kill -9 of the server to serving: {took:.2f} s, of which RestartSec=10")


def test_a_killed_conmon_takes_the_server_along_and_both_restart(service):
    with service.dropin(QUICK), writing(service) as writer:
        monitor = int(service.prop("MainPID"))
        assert str(service.host.run(f"cat /proc/{monitor}/comm")) == "conmon"
        server = service.pid()
        service.kill(monitor)
        writer.progress()
        assert service.prop("MainPID") != str(monitor)
        assert not service.host.path(f"/proc/{server}").exists(), "the old server still runs beside the new one"


def test_a_killed_database_does_not_restart_the_server(service, figure):
    with writing(service) as writer:
        invocation, restarts = service.prop("InvocationID"), service.prop("NRestarts")
        service.kill(service.pid(DATABASE))
        writer.progress()
        figure(f"kill -9 of PostgreSQL to the next write: {writer.gap():.2f} s, of which RestartSec=5")
        assert service.prop("InvocationID") == invocation and service.prop("NRestarts") == restarts
    causes = {error.message for _, error in writer.failures if isinstance(error, Refused)}
    assert causes and all("database" in cause for cause in causes), causes


# ------------------------------------------------------------------------------------------------ without a database


def test_the_server_starts_without_a_database_and_recovers(service):
    service.stop()
    service.systemctl("mask", "--runtime", "--now", f"{DATABASE}.service")
    try:
        service.start()
        unit = service.show()
        assert unit["ActiveState"] == "active" and unit["NRestarts"] == "0"
        assert "database" in unit["StatusText"], unit["StatusText"]
        assert service.live
        status, report = service.get("/health/ready")
        assert status == 503 and report["status"] == "not_ready" and report["checks"]["database"]["ok"] is False, report
        assert report["checks"]["progress"]["ok"] is True
        check = service.run(f"podman healthcheck run {SERVICE}", check=False)
        assert check.code == 1 and "unhealthy" in check.stdout + check.stderr
        said = service.run(f"podman exec {SERVICE} /{SERVICE} healthcheck", check=False)
        assert said.code == 1 and "database" in said.stdout + said.stderr
        with service.client() as client:
            assert len(client.tools()) >= 6
            for tool, arguments in (
                ("remember", {"items": [{"content": "never stored"}]}),
                ("recall", {"query": "anything"}),
                ("get", {"ids": ["01a207ad-8895-755b-a0f9-b1c641647472"]}),
                ("forget", {"ids": ["01a207ad-8895-755b-a0f9-b1c641647472"]}),
                ("update", {"id": "01a207ad-8895-755b-a0f9-b1c641647472", "content": "x"}),
            ):
                with pytest.raises(Refused) as refused:
                    client.call(tool, **arguments)
                assert refused.value.code == "database_unavailable" and "database" in refused.value.message, tool
            invocation = service.prop("InvocationID")
            service.systemctl("unmask", "--runtime", f"{DATABASE}.service")
            service.start(DATABASE)
            service.wait_ready(30)
            assert service.prop("InvocationID") == invocation, "it recovers without a restart"
            assert client.remember("stored by the same session after the database started")
            assert service.run(f"podman healthcheck run {SERVICE}").ok
            assert "database" not in service.wait_property("StatusText", lambda text: "database" not in text, timeout=10)
    finally:
        service.systemctl("unmask", "--runtime", f"{DATABASE}.service")
        service.start(DATABASE)


def test_a_database_outage_under_load_causes_no_restart(service):
    """The outage is longer than the limit of the watchdog, which must not react."""
    with service.dropin(QUICK), writing(service) as writer:
        invocation, since = service.prop("InvocationID"), time.time()
        service.stop(DATABASE)
        service.host.wait_for(lambda: service.get("/health/ready")[0] == 503, timeout=10)
        pings = int(service.prop("WatchdogTimestampMonotonic"))
        service.host.wait_for(
            lambda: int(service.prop("WatchdogTimestampMonotonic")) > pings + 6_500_000, timeout=20, what="heartbeats", every=0.5
        )
        assert service.live
        service.start(DATABASE)
        writer.progress()
        service.wait_ready()
        assert service.prop("InvocationID") == invocation
    assert writer.gap() > 6
    refused = [error for at, error in writer.failures if at > since and isinstance(error, Refused)]
    assert refused and {error.code for error in refused} == {"database_unavailable"}
    # One message at the beginning of an outage, and one at its end.
    service.wait_journal("the database is back", f"-t {SERVICE} -o cat", since)
    messages = [line["message"] for line in service.lines(since)]
    assert sum(message.startswith("no database") for message in messages) == 1
    assert messages.count("the database is back") == 1


def test_a_hung_database_causes_no_restart(service):
    with service.dropin(QUICK):
        invocation = service.prop("InvocationID")
        folder = service.prop("ControlGroup", DATABASE)
        freeze = service.host.path(f"/sys/fs/cgroup{folder}/cgroup.freeze")
        with service.client() as client:
            known = client.remember("known before the database hung")
            pings = int(service.prop("WatchdogTimestampMonotonic"))
            freeze.write_text("1")
            try:
                service.host.wait_for(
                    lambda: int(service.prop("WatchdogTimestampMonotonic")) > pings + 8_000_000, timeout=25, every=0.5
                )
                assert service.live
            finally:
                freeze.write_text("0")
            service.wait_ready()
            assert client.contents([known])
        assert service.prop("InvocationID") == invocation


# --------------------------------------------------------------------------------------------------------------- logs


def test_the_journal_has_every_line_as_json_and_can_be_filtered(service, figure):
    marker = f"the walrus keeps {time.time()} secrets"
    since = time.time()
    with service.client() as client:
        client.remember(marker)
        client.call("recall", query=marker)
    until = time.time() + 1
    service.wait_journal('"tool":"recall"', f"-t {SERVICE}", since)
    everything = service.lines(service.host.booted_at)
    assert len(everything) > 5
    for line in everything:
        assert {"timestamp", "level", "message", "service"} <= line.keys(), line
    calls = [line["tool"] for line in service.lines(since) if "tool" in line]
    assert calls[-2:] == ["remember", "recall"]
    # Filtered by unit, time and priority, also by root.
    assert '"tool":"recall"' in service.journal(f"-u {SERVICE} -o cat", since)
    assert '"tool":"recall"' in service.journal(f"-t {SERVICE} -o cat --until=@{until:.6f}", since)
    assert '"tool":"recall"' not in service.journal(f"-t {SERVICE} -o cat --until=@{since:.6f}", since - 1)
    assert '"tool":"recall"' in service.journal(f"-t {SERVICE} -p info -o cat", since)
    assert '"tool":"recall"' not in service.journal(f"-t {SERVICE} -p err -o cat", since)
    assert '"tool":"recall"' in service.host.journal(f"_SYSTEMD_USER_UNIT={SERVICE}.service --since=@{since:.3f} -o cat")
    # podman shows the same lines.
    container = [line for line in service.run(f"podman logs {SERVICE}").stdout.splitlines() if line]
    journal = [line for line in service.journal(f"-t {SERVICE} -o cat").splitlines() if line]
    assert container and container == journal[-len(container) :]
    # Messages of podman have another identifier, and no line contains the text of a memory.
    assert {line["service"] for line in everything} == {SERVICE}
    assert marker not in service.host.journal(f"--since=@{since - 1:.3f}")


def test_secrets_are_not_visible_in_journal_inspect_and_proc(service):
    """Neither the token nor the password of the database."""
    password = str(service.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-db-password"))
    assert len(password) > 20 and len(service.token) > 20
    with service.client() as client:
        client.call("status")
    secrets = {"token": service.token, "password": password}
    places = {
        "journal": service.host.journal(this_boot=False) + service.host.journal("-o json", this_boot=False),
        "inspect": service.run(f"podman inspect {SERVICE} {DATABASE}").stdout,
        "units": service.run(f"{service.ctl} cat {SERVICE} {DATABASE}").stdout,
        # Read directly, because a command line with the secrets would be found as well.
        "proc": "".join(
            file.read_bytes().decode(errors="replace")
            for name in ("cmdline", "environ")
            for file in service.host.path("/proc").glob(f"[0-9]*/{name}")
            if readable(file)
        ),
    }
    assert "MEMORY_TOKENS_FILE" in places["proc"], "the environment of the server was read"
    for place, text in places.items():
        for name, secret in secrets.items():
            assert secret not in text, f"the {name} is in the {place}"


def readable(file):
    try:
        file.read_bytes()
        return True
    except OSError:
        return False


# -------------------------------------------------------------------------------------------------------- wrong set-up


def failed(service, since):
    """Waits until the service has failed for good. Returns its properties and its log."""
    service.wait_property("ActiveState", "failed", timeout=30)
    unit = service.show()
    assert unit["NRestarts"] == "0", "there is no restart loop"
    return unit, service.journal(f"-u {SERVICE} -o cat", since)


def test_wrong_settings_are_listed_together_without_a_restart_loop(service):
    wrong = {"MEMORY_LISTEN": "everywhere", "MEMORY_DATABASE_PORT": "99999", "MEMORY_LANGUAGE": "klingon"}
    with service.environment(**wrong):
        since = time.time()
        result = service.systemctl("restart", SERVICE, check=False)
        assert result.code == 1
        unit, log = failed(service, since)
        assert unit["ExecMainStatus"] == str(EXIT_CONFIGURATION)
        assert "status=78/CONFIG" in service.systemctl("status", SERVICE, check=False).stdout
        for name, value in wrong.items():
            assert name in log and value in log, f"{name} is not in the log: {log}"
    service.wait_ready()


def test_an_unknown_environment_is_refused(service):
    with service.environment(MEMORY_ENVIRONMENT="staging"):
        since = time.time()
        service.systemctl("restart", SERVICE, check=False)
        unit, log = failed(service, since)
        assert unit["ExecMainStatus"] == str(EXIT_CONFIGURATION)
        assert "staging" in log and "production" in log and "development" in log


def test_production_without_a_database_setting_is_refused(service):
    tokens = "/run/secrets/cognitive-memory-tokens"
    with service.environment(nothing_else=True, ENVIRONMENT="production", MEMORY_TOKENS_FILE=tokens):
        since = time.time()
        service.systemctl("restart", SERVICE, check=False)
        unit, log = failed(service, since)
        assert unit["ExecMainStatus"] == str(EXIT_CONFIGURATION)
        assert "MEMORY_DATABASE_HOST" in log and "MEMORY_DATABASE_URL" in log


def test_a_missing_secret_is_logged_and_the_start_repeated(service):
    secret = service.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-tokens").stdout
    service.stop()
    service.run("podman secret rm cognitive-memory-tokens")
    try:
        since = time.time()
        assert service.systemctl("start", SERVICE, check=False).code == 1
        service.wait_journal('no secret with name or id "cognitive-memory-tokens"', f"-u {SERVICE}", since)
        # systemd repeats the start every ten seconds until the secret exists.
        assert service.prop("ActiveState") == "activating" and service.prop("SubState") == "auto-restart"
    finally:
        service.run("podman secret create cognitive-memory-tokens -", input=secret.rstrip("\n") + "\n")
    service.restart()
    service.wait_ready()


def test_a_wrong_database_password_is_reported_to_clients(service):
    known = service.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-db-password").stdout
    replace = "podman secret create --replace cognitive-memory-db-password -"
    service.run(replace, input="not the password")
    try:
        service.restart()
        assert service.prop("ActiveState") == "active"
        service.host.wait_for(
            lambda: "does not let user" in service.get("/health/ready")[1]["checks"]["database"]["detail"], timeout=10
        )
        with service.client() as client, pytest.raises(Refused, match="database_unavailable.*MEMORY_DATABASE_PASSWORD"):
            client.call("recall", query="x")
    finally:
        service.run(replace, input=known.rstrip("\n"))
        service.restart()
    service.wait_ready()


def test_an_unknown_key_in_a_unit_is_refused_by_the_installer(service):
    """The generator drops the whole unit. The running service continues, and the installer refuses the file."""
    path = f"{service.units}/{SERVICE}.container.d/50-test.conf"
    service.host.write(path, "[Container]\nNoSuchKey=1\n", "svc")
    try:
        refused = service.try_install()
        assert refused.code == EXIT_CONFIGURATION, refused
        assert "unsupported key 'NoSuchKey'" in refused.stdout and "Nothing was changed." in refused.stderr
        service.systemctl("daemon-reload")
        service.stop()
        said = service.systemctl("start", SERVICE, check=False)
        assert said.code == 5 and "not found" in said.stderr
        dryrun = service.run("/usr/libexec/podman/quadlet --user --dryrun > /dev/null", check=False)
        assert "unsupported key 'NoSuchKey' in group 'Container'" in dryrun.stderr
    finally:
        service.host.path(path).unlink()
        service.systemctl("daemon-reload")
    service.start()
    service.wait_ready()


# -------------------------------------------------------------------------------------------------------- environments


def test_production_and_development_use_different_databases(service):
    since = time.time()
    service.restart()
    service.wait_ready()
    loaded = [line for line in service.lines(since) if line["message"] == "production environment loaded"]
    assert loaded and loaded[-1]["database"] == "cognitive_memory" and loaded[-1]["backend"] == "postgres"
    with service.client() as client:
        secret = client.remember("only production knows the heliotrope")
    with service.environment(ENVIRONMENT="development"):
        since = time.time()
        service.restart()
        # The database is not created implicitly; the message names the remedy.
        detail = service.host.wait_for(
            lambda: (d := service.get("/health/ready")[1].get("checks", {}).get("database", {}).get("detail", "")) and "has no database" in d and d,
            timeout=15,
        )
        assert "cognitive_memory_dev" in detail
        service.run(f"podman exec {DATABASE} createdb -U cognitive_memory cognitive_memory_dev")
        service.wait_ready()
        assert any(line["message"] == "development environment loaded" for line in service.lines(since))
        with service.client() as client:
            assert client.contents([secret]) == {}
            client.remember("only development knows the chartreuse")
    service.wait_ready()
    with service.client() as client:
        assert client.contents([secret])
        hits = client.call("recall", query="chartreuse")["hits"]
        assert not any("chartreuse" in hit["content"] for hit in hits)


def test_settings_come_from_the_file_of_the_environment(service):
    """.env.production is read in production, .env.development is not, and the unit's environment wins."""
    folder = f"{service.home}/.config/{SERVICE}"
    service.host.write(f"{folder}/.env.production", "MEMORY_DRAIN_TIMEOUT=7\nMEMORY_DATABASE_HOST=elsewhere\n", "svc")
    service.host.write(f"{folder}/.env.development", "MEMORY_DRAIN_TIMEOUT=9\n", "svc")
    example = service.host.read(f"{service.checkout}/quadlet/drop-ins/env-file.conf")
    since = time.time()
    with service.dropin(example):
        service.wait_ready()
        loaded = [line for line in service.lines(since) if line["message"] == "production environment loaded"][-1]
        assert loaded["env_file"] == "/config/.env.production"
        shown = service.run(f"podman exec {SERVICE} /{SERVICE} config show").stdout
        assert re.search(r"MEMORY_DRAIN_TIMEOUT\W+7\b", shown), shown
        assert re.search(rf"MEMORY_DATABASE_HOST\W+{DATABASE}\b", shown), shown
        # An error in the file is reported with its location.
        service.host.write(f"{folder}/.env.production", "MEMORY_DRAIN_TIMEOUT=soon\n", "svc")
        since = time.time()
        service.systemctl("restart", SERVICE, check=False)
        unit, log = failed(service, since)
        assert unit["ExecMainStatus"] == str(EXIT_CONFIGURATION)
        assert "MEMORY_DRAIN_TIMEOUT" in log and "soon" in log and ".env.production" in log
    service.wait_ready()


def test_socket_activation_starts_the_service_and_bridges_a_restart(service):
    """quadlet/drop-ins/socket-activation.conf: clients wait during a restart, and the first client starts the service."""
    socket = f"{SERVICE}.socket"
    path = f"{service.home}/.config/systemd/user/{socket}"
    service.stop()
    service.host.write(path, service.host.read(f"{service.checkout}/quadlet/socket/{socket}"), "svc")
    example = service.host.read(f"{service.checkout}/quadlet/drop-ins/socket-activation.conf")
    try:
        with service.dropin(example, restart=False):
            service.systemctl("start", socket)
            try:
                assert service.prop("ActiveState") == "inactive"
                # The connection is accepted: systemd starts the service, which answers the waiting request.
                with service.client() as client:
                    kept = client.remember("The first connection starts the service")
                    assert service.prop("ActiveState") == "active"
                    assert not str(service.run(f"podman port {SERVICE}")), "podman publishes nothing"
                    assert service.run(f"podman healthcheck run {SERVICE}").ok, "the health check inside the container works"
                    # A request after a kill waits for RestartSec and is then answered.
                    service.kill(service.pid())
                    service.wait_property("ActiveState", "activating")
                    assert service.get("/health/live", timeout=30)[0] == 200
                    assert client.contents([kept]) == {kept: "The first connection starts the service"}
            finally:
                service.systemctl("stop", socket, SERVICE)
            assert service.get("/health/live")[0] == 0
    finally:
        service.host.path(path).unlink(missing_ok=True)
        service.systemctl("daemon-reload")
        service.systemctl("reset-failed", SERVICE, check=False)
        service.restart()
    service.wait_ready()


# ------------------------------------------------------------------------------------------------------ backup, restore


def test_a_backup_can_be_restored_into_an_empty_database(service):
    with service.client() as client:
        ids = {client.remember(content): content for content in ("the first of the backup", "the second of the backup")}
        timer = service.run(f"{service.ctl} list-timers --all --no-pager cognitive-memory-backup.timer").stdout
        assert "cognitive-memory-backup.service" in timer
        service.systemctl("start", "cognitive-memory-backup.service")
        dump = str(service.run("ls ~/.local/state/cognitive-memory-backup/cognitive_memory-*.dump | tail -n 1"))
        assert str(service.run(f"stat -c %a {dump} $(dirname {dump})")).split() == ["600", "700"]
        later = client.remember("written after the backup")
        # The database is replaced by an empty one.
        service.stop()
        service.sql("DROP DATABASE cognitive_memory", "postgres")
        service.sql("CREATE DATABASE cognitive_memory", "postgres")
        restore = f"podman exec -i {DATABASE} pg_restore -U cognitive_memory -d cognitive_memory --no-acl --exit-on-error --single-transaction"
        service.run(f"{restore} < {dump}")
        service.start()
        service.wait_ready()
        assert client.contents([*ids, later]) == ids
        assert client.call("recall", query="first of the backup")["hits"][0]["content"] == "the first of the backup"
        for writer in service.writers:
            writer.check(client)


def test_a_backup_of_a_stopped_database_fails(service):
    service.stop(DATABASE)
    try:
        assert service.systemctl("start", "cognitive-memory-backup.service", check=False).code != 0
    finally:
        service.start(DATABASE)
    service.wait_ready()


# --------------------------------------------------------------------------------------------------- reboot and power


def test_the_service_starts_at_boot_without_a_login(service, figure):
    with writing(service) as writer:
        service.host.power_off(reboot=True)
        begin = time.monotonic()
        service.host.boot()
        service.host.wait_for(lambda: service.live, timeout=60, every=0.02)
        figure(f"boot (PID 1 starts) to serving, rootless: {time.monotonic() - begin:.2f} s")
        service.wait_ready()
        writer.progress()
        sessions = service.host.run("loginctl list-sessions --no-legend").stdout
        assert not [line for line in sessions.splitlines() if " manager" not in line], sessions


def test_no_write_is_lost_in_a_power_cut(service):
    with writing(service) as writer:
        service.host.power_cut()
        service.host.boot()
        writer.progress()
        assert service.prop("ActiveState") == "active"


# ------------------------------------------------------------------------------------------------------ after all tests


def test_memory_of_the_server_stays_below_100_mb(service, figure):
    status = service.host.run(f"cat /proc/{service.pid()}/status").stdout
    anonymous = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024
    total = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    figure(f"resident memory in the container, after a reboot and some load: {total:.1f} MB (anonymous: {anonymous:.1f} MB)")
    assert total < 100


def test_no_write_of_this_module_is_lost(service, figure):
    with service.client() as client:
        for writer in service.writers:
            writer.check(client)
    total = sum(len(writer.acknowledged) for writer in service.writers)
    assert len(service.writers) >= 8 and total > 100
    figure(f"writes acknowledged during all kills and outages: {total}, lost: 0")
    assert IMAGE in service.run("podman ps --format '{{.Image}}'").stdout
