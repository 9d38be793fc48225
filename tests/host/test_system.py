"""The system scope: the units installed by root, and the drop-ins for this scope."""

import json
import re
import subprocess
import time

import pytest
from deployment import DATABASE, IMAGE, SERVICE, Deployment, Writer


@pytest.fixture(scope="module")
def service(service_host):
    """The service, installed by root with the images of the user svc."""
    images = [IMAGE, "docker.io/pgvector/pgvector:pg17"]
    host = service_host
    with host.popen(["podman", "save", "-q", "-m", *images], "svc", stdout=subprocess.PIPE) as save:
        subprocess.run(host.command(["podman", "load", "-q"]), stdin=save.stdout, check=True, stdout=subprocess.DEVNULL)
    return Deployment(host, "root").install().wait_ready()


def test_the_running_unit_has_the_documented_properties(service):
    unit = service.show()
    expected = {"Type": "notify", "Restart": "always", "RestartUSec": "10s", "WatchdogUSec": "1min", "ActiveState": "active"}
    assert {name: unit[name] for name in expected} == expected
    assert unit["StatusText"].startswith("Serving on ")
    assert unit["WantedBy"] == str(service.run("systemctl get-default")), "the default target of the machine"
    assert unit["FragmentPath"].startswith("/run/systemd/generator")
    status = service.run(f"cat /proc/{service.pid()}/status").stdout
    assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.M)
    assert re.search(r"^CapEff:\t0+$", status, re.M) and re.search(r"^CapBnd:\t0+$", status, re.M)
    assert service.run(f"podman healthcheck run {SERVICE}").ok


def test_a_killed_or_hung_server_is_restarted(service):
    with service.dropin("[Service]\nRestartSec=1\nWatchdogSec=6\n"), service.client() as client:
        with Writer(client) as writer:
            service.kill(service.pid())
            writer.progress()
            since = time.time()
            service.kill(service.pid(), "STOP")
            service.wait_journal("Watchdog timeout", f"-u {SERVICE}", since)
            writer.progress()
            service.stop()
            assert service.prop("Result") == "success"
            service.start()
            writer.progress()
        writer.check()


def test_the_service_starts_at_boot(service, figure):
    with service.client() as client:
        with Writer(client) as writer:
            service.host.power_off(reboot=True)
            begin = time.monotonic()
            service.host.boot(wait=False)
            service.host.wait_for(lambda: service.live, timeout=60, every=0.02)
            figure(f"boot (PID 1 starts) to serving, system scope: {time.monotonic() - begin:.2f} s")
            service.host.run("systemctl is-system-running --wait", check=False)
            writer.progress()
        writer.check()


def test_passthrough_stores_the_level_as_priority(service):
    """quadlet/drop-ins/log-passthrough.conf: the level of a line becomes its priority in the journal."""
    example = service.host.read(f"{service.checkout}/quadlet/drop-ins/log-passthrough.conf")
    with service.dropin(example):
        service.wait_ready()
        since = time.time()
        service.stop(DATABASE)
        service.host.wait_for(lambda: service.get("/health/ready")[0] == 503, timeout=15)
        service.start(DATABASE)
        service.wait_ready()
        service.wait_journal("the database is back", f"-t {SERVICE} -o cat -p info", since)
        errors = service.journal(f"-t {SERVICE} -p err -o cat", since)
        assert "no database" in errors and "the database is back" not in errors
        for line in service.lines(since):
            assert line["service"] == SERVICE
    service.wait_ready()


def test_tokens_can_be_an_encrypted_credential(service):
    """quadlet/drop-ins/credentials.conf: an encrypted file is the source of the tokens."""
    tokens = service.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-tokens").stdout.rstrip("\n")
    line = f"{tokens}\nother cm_a-token-of-the-credential\n"
    sealed = service.run(
        "mkdir -p /etc/credstore.encrypted && systemd-creds encrypt --with-key=host --name=cognitive-memory-tokens - "
        "/etc/credstore.encrypted/cognitive-memory-tokens", input=line, check=False,
    )  # fmt: skip
    if not sealed.ok:
        pytest.skip(f"systemd-creds does not work in the test host: {sealed.stderr}")
    assert "a-token-of-the-credential" not in service.host.read("/etc/credstore.encrypted/cognitive-memory-tokens")
    example = service.host.read(f"{service.checkout}/quadlet/drop-ins/credentials.conf")
    with service.dropin(example):
        service.wait_ready()
        token, service.token = service.token, "cm_a-token-of-the-credential"
        try:
            with service.client() as client:
                assert client.call("status")
        finally:
            service.token = token
    service.run("podman secret create --replace cognitive-memory-tokens -", input=tokens + "\n")
    service.restart()
    service.wait_ready()


def test_the_backup_writes_a_dump_below_var_lib(service):
    service.systemctl("start", "cognitive-memory-backup.service")
    dumps = service.run("ls /var/lib/cognitive-memory-backup").stdout.split()
    assert len(dumps) == 1 and dumps[0].endswith(".dump")


def test_data_survives_an_uninstallation(service):
    with service.client() as client:
        id = client.remember("kept by the machine")
    service.try_install("--uninstall", check=True)
    assert service.show()["LoadState"] == "not-found"
    service.try_install(check=True)
    service.wait_ready()
    with service.client() as client:
        assert client.contents([id])
    secrets = json.loads(service.run("podman secret inspect cognitive-memory-tokens").stdout)
    assert len(secrets) == 1
