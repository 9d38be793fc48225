"""quadlet/install.sh on a fresh machine: refusals, the embedded variant, updates, rollback, uninstallation.

The tests of this file build on one another; test_units.py and test_system.py install the other variants."""

import json
import re
import subprocess
import time

import pytest
from deployment import DATABASE, IMAGE, PORT, SERVICE, Client, Deployment, Writer

EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CONFIG = 64, 69, 70, 78


@pytest.fixture(scope="module")
def fresh(service_host):
    """Nothing is installed; the image exists, as after a first build."""
    return Deployment(service_host)


def everything(deployment):
    """Returns everything that an installation can change."""
    home = deployment.home
    files = f"find {home} -xdev -not -path '{home}/.local/share/containers/*' -not -path '{home}/.cache/*' -type f -printf '%p %s %T@\\n' | sort"
    podman = "podman images -a --no-trunc --format '{{.Id}} {{.Names}}'; podman volume ls -q; podman secret ls --format '{{.ID}} {{.Name}}'; podman network ls -q; podman ps -aq"  # fmt: skip
    units = f"{deployment.ctl} list-unit-files --no-legend 'cognitive*'; ls /var/lib/systemd/linger"
    found = [deployment.run(command, login=deployment.user == "plain").stdout for command in (files, podman, units)]
    # The order of podman's lists varies.
    return "\n".join(sorted("".join(found).splitlines()))


def refused(deployment, *options, code=EX_UNAVAILABLE, **kind):
    """Checks that the installation is refused without changes. Returns the output."""
    before = everything(deployment)
    result = deployment.try_install(*options, **kind)
    assert result.code == code, result
    assert everything(deployment) == before
    return result.stdout + result.stderr


# -------------------------------------------------------------------------------------------------------- refusals


def test_a_dry_run_changes_nothing(fresh):
    before = everything(fresh)
    result = fresh.try_install("--dry-run", check=True)
    assert "Nothing was changed." in result.stdout
    for planned in (
        "podman secret create cognitive-memory-tokens", "podman secret create cognitive-memory-db-password",
        f"{fresh.units}/{SERVICE}.container", f"{fresh.units}/{DATABASE}.volume", "systemctl --user daemon-reload",
        f"systemctl --user restart {SERVICE}.service", "cognitive-memory-backup.timer",
    ):  # fmt: skip
        assert planned in result.stdout, planned
    model = fresh.try_install("--dry-run", "--with-model", check=True).stdout
    assert "podman build --format docker --target with-model -t" in model
    model = fresh.try_install("--dry-run", "--with-model-multilingual", check=True).stdout
    assert "podman build --format docker --target with-model-multilingual -t" in model
    assert everything(fresh) == before


def test_wrong_usage_exits_with_64(fresh):
    for options in (
        ["--no-such-option"], ["--port", "99999"], ["--port"], ["--purge"], ["--image", "two words"],
        ["--with-model", "--image", "example.org/memory"], ["--with-model-multilingual", "--image", "example.org/memory"],
    ):  # fmt: skip
        result = fresh.try_install(*options)
        assert result.code == EX_USAGE and "install.sh:" in result.stderr, (options, result)
    assert "--dry-run" in fresh.try_install("--help", check=True).stdout


@pytest.mark.parametrize("version, says", [("4.3.1", "has no Quadlet"), ("5.0.2", "is too old")])
def test_an_old_podman_is_refused(fresh, version, says):
    fresh.host.write("/srv/old/podman", f'#!/bin/sh\n[ "$1" = --version ] && echo "podman version {version}" && exit\nexit 1\n', mode=0o755)
    text = refused(fresh, before="PATH=/srv/old:$PATH")
    assert f"podman {version} {says}" in text and "5.4" in text and "compose/" in text


def test_selinux_without_a_policy_for_containers_is_refused(fresh):
    """Without the policy, SELinux blocks every container with messages that do not name the cause."""
    fresh.host.write("/srv/selinux/getenforce", "#!/bin/sh\necho Enforcing\n", mode=0o755)
    text = refused(fresh, before="PATH=/srv/selinux:$PATH")
    assert "SELinux is enforcing and has no policy for containers" in text and "dnf install container-selinux" in text
    policy = "/usr/share/containers/selinux/contexts"
    fresh.host.write(policy, "")
    try:
        said = fresh.try_install("--dry-run", before="PATH=/srv/selinux:$PATH")
        assert said.ok and "SELinux is enforcing; the data is in named volumes" in said.stdout
    finally:
        fresh.host.path(policy).unlink()


def test_a_port_in_use_is_refused(fresh):
    fresh.run(f"systemd-run --user --collect --unit=squatter python3 -m http.server --bind 127.0.0.1 {PORT}")
    try:
        fresh.host.wait_for(lambda: fresh.host.run(f"ss -ltnH 'sport = :{PORT}'").stdout, timeout=10)
        text = refused(fresh)
        assert f"port {PORT} is taken by python3" in text and "--port 8766" in text
    finally:
        fresh.run("systemctl --user stop squatter")


def test_a_unit_with_an_unknown_key_is_refused(fresh):
    path = f"{fresh.checkout}/quadlet/{SERVICE}.container"
    unit = fresh.host.read(path)
    fresh.host.write(path, unit.replace("[Container]\n", "[Container]\nNoSuchKey=1\n"), "svc")
    try:
        text = refused(fresh, code=EX_CONFIG)
        assert "unsupported key 'NoSuchKey'" in text and "Nothing was changed." in text
    finally:
        fresh.host.write(path, unit, "svc")


def test_a_unit_that_systemd_rejects_is_refused(fresh):
    path = f"{fresh.checkout}/quadlet/backup/cognitive-memory-backup.service"
    unit = fresh.host.read(path)
    fresh.host.write(path, unit.replace("Type=oneshot", "Type=onceshot"), "svc")
    try:
        assert "onceshot" in refused(fresh, code=EX_CONFIG)
    finally:
        fresh.host.write(path, unit, "svc")


def test_scopes_need_the_matching_user(fresh):
    text = refused(fresh, "--system")
    assert "--system needs root" in text and "sudo" in text
    result = fresh.host.run(f"cd {fresh.checkout} && quadlet/install.sh", check=False)
    assert result.code == EX_UNAVAILABLE and "you are root" in result.stdout


NO_LINGER = """polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.login1.set-self-linger" && subject.user == "plain") { return polkit.Result.NO; }
});
"""


def test_a_user_who_may_not_linger_is_refused(fresh):
    """The user `plain` may not run services without a login."""
    fresh.host.write("/etc/polkit-1/rules.d/10-no-linger.rules", NO_LINGER)
    fresh.host.run("systemctl restart polkit")
    plain = Deployment(fresh.host, "plain")
    text = refused(plain, "--embedded", login=True)
    assert "loginctl enable-linger plain" in text


def test_all_problems_are_reported_together(fresh):
    plain = Deployment(fresh.host, "plain")
    fresh.run(f"systemd-run --user --collect --unit=squatter python3 -m http.server --bind 127.0.0.1 {PORT}")
    try:
        fresh.host.wait_for(lambda: fresh.host.run(f"ss -ltnH 'sport = :{PORT}'").stdout, timeout=10)
        text = refused(plain, "--embedded", login=True)
    finally:
        fresh.run("systemctl --user stop squatter")
    assert "Problems: 2. Nothing was changed." in text and "linger" in text and "is taken" in text


# ----------------------------------------------------------------------------------------------------- embedded database


def test_install_prints_a_configuration_that_works(fresh, figure):
    begin = time.monotonic()
    result = fresh.install("--embedded").installed
    figure(f"install.sh --embedded, image there, to ready: {time.monotonic() - begin:.1f} s")
    assert fresh.ready, "the service is ready when the script ends"
    # HTTP clients: the printed address and header.
    blocks = [json.loads(block) for block in re.findall(r"^  \{\n.*?^  \}$", result.stdout, re.M | re.S)]
    over_http = next(block for block in blocks if "url" in block["mcpServers"]["cognitive-memory"])["mcpServers"]["cognitive-memory"]
    assert over_http["url"] == f"http://127.0.0.1:{PORT}/mcp"
    token = over_http["headers"]["Authorization"].removeprefix("Bearer ")
    assert token == fresh.token
    assert f"claude mcp add --scope user --transport http cognitive-memory {over_http['url']}" in result.stdout
    with Client(fresh.url, token) as client:
        fresh.first = client.remember("remembered through the printed configuration")
    # Clients that start a command: the printed command, run as the user.
    command = next(block for block in blocks if "command" in block["mcpServers"]["cognitive-memory"])["mcpServers"]["cognitive-memory"]
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "get", "arguments": {"ids": [fresh.first]}}},
    ]
    process = fresh.host.popen(
        [command["command"], *command["args"]], "svc", env=command["env"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said, _ = process.communicate("".join(json.dumps(message) + "\n" for message in messages), timeout=30)
    answers = {answer["id"]: answer for answer in map(json.loads, said.splitlines())}
    assert answers[1]["result"]["serverInfo"]["name"] == SERVICE
    memory = answers[2]["result"]["structuredContent"]["memories"][0]
    assert memory["content"] == "remembered through the printed configuration"
    # A request without a token is refused.
    assert fresh.get("/mcp")[0] == 401


def test_the_installation_stores_only_hashes_and_one_volume(fresh):
    secrets = fresh.run("podman secret ls --format '{{.Name}}'").stdout.split()
    assert secrets == ["cognitive-memory-tokens"], "the embedded database needs no password"
    kept = fresh.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-tokens").stdout
    assert fresh.token not in kept and "sha256:" in kept, "only the hash is stored"
    assert fresh.run("podman volume ls -q").stdout.split() == ["cognitive-memory-data"]
    modes = fresh.run(f"stat -c '%a %n' {fresh.units}/*").stdout
    assert f"644 {fresh.units}/{SERVICE}.container" in modes


def test_a_second_run_changes_nothing(fresh):
    before, invocation = everything(fresh), fresh.prop("InvocationID")
    result = fresh.try_install(check=True)
    assert "units are up to date" in result.stdout and "YOUR-TOKEN" in result.stdout
    assert fresh.prop("InvocationID") == invocation
    assert everything(fresh) == before


def test_the_other_kind_of_database_is_refused(fresh):
    text = refused(fresh, "--postgres")
    assert "embedded" in text and "--uninstall" in text


def test_another_port_is_remembered(fresh):
    fresh.install("--port", "9000")
    other = fresh.host.forward(9000)
    with Client(f"http://127.0.0.1:{other}/mcp", fresh.token) as client:
        assert client.contents([fresh.first])
    assert fresh.get("/health/live")[0] == 0
    invocation = fresh.prop("InvocationID")
    assert "127.0.0.1:9000/mcp" in fresh.try_install(check=True).stdout
    assert fresh.prop("InvocationID") == invocation
    fresh.install("--port", str(PORT))
    fresh.wait_ready()


def test_a_kill_loses_nothing_in_the_embedded_database(fresh):
    with fresh.dropin("[Service]\nRestartSec=1\nWatchdogSec=6\n"), fresh.client() as client:
        with Writer(client) as writer:
            for _ in range(3):
                fresh.kill(fresh.pid())
                writer.progress()
            fresh.host.power_cut()
            fresh.host.boot()
            writer.progress()
        writer.check()


def test_an_unwritable_volume_stops_the_service_with_a_message(fresh):
    """No restart helps, so there is no restart loop, and the message names the folder."""
    place = str(fresh.run("podman volume inspect --format '{{.Mountpoint}}' cognitive-memory-data"))
    fresh.stop()
    fresh.run(f"podman unshare chown -R 0:0 {place} && podman unshare chmod -R go-w {place}")
    try:
        since = time.time()
        assert fresh.systemctl("start", SERVICE, check=False).code == 1
        unit = fresh.show()
        log = fresh.journal(f"-u {SERVICE} -o cat", since)
        assert "/data" in log, log
        assert unit["ExecMainStatus"] == str(EX_CONFIG) and unit["NRestarts"] == "0", (unit["ExecMainStatus"], log)
    finally:
        fresh.run(f"podman unshare chown -R 65532:65532 {place} && podman unshare chmod -R u+w {place}")
    fresh.systemctl("reset-failed", SERVICE)
    fresh.start()
    fresh.wait_ready()


def change_containerfile(deployment, old, new):
    path = f"{deployment.checkout}/Containerfile"
    text = deployment.host.read(path)
    assert old in text
    deployment.host.write(path, text.replace(old, new), "svc")


def image_id(deployment, name):
    return str(deployment.run(f"podman image inspect --format '{{{{.Id}}}}' {name}"))


def test_an_upgrade_keeps_the_data(fresh):
    """`git pull && install.sh --build` keeps the previous image under another tag."""
    old = image_id(fresh, IMAGE)
    change_containerfile(fresh, 'title="cognitive-memory-mcp"', 'title="cognitive-memory-mcp, the next"')
    with fresh.client() as client:
        with Writer(client) as writer:
            fresh.install("--build")
            writer.progress()
        writer.check()
        assert client.contents([fresh.first])
    new = image_id(fresh, IMAGE)
    assert new != old and image_id(fresh, "localhost/cognitive-memory-mcp:previous") == old
    running = str(fresh.run(f"podman container inspect --format '{{{{.Image}}}}' {SERVICE}"))
    assert running == new
    # Back to the previous image, as docs/operations.md describes.
    fresh.run(f"podman tag localhost/cognitive-memory-mcp:previous {IMAGE}")
    fresh.restart()
    fresh.wait_ready()
    with fresh.client() as client:
        writer.check(client)
    assert str(fresh.run(f"podman container inspect --format '{{{{.Image}}}}' {SERVICE}")) == old


def test_an_upgrade_that_does_not_start_is_rolled_back(fresh):
    old = image_id(fresh, IMAGE)
    change_containerfile(fresh, 'CMD ["serve"]', 'CMD ["serve", "--no-such-option"]')
    try:
        result = fresh.try_install("--build")
    finally:
        change_containerfile(fresh, 'CMD ["serve", "--no-such-option"]', 'CMD ["serve"]')
    assert result.code == EX_SOFTWARE, result
    assert "--no-such-option" in result.stdout and "Going back to the previous installation" in result.stdout
    fresh.wait_ready()
    assert image_id(fresh, IMAGE) == old
    with fresh.client() as client:
        assert client.contents([fresh.first])


def test_uninstall_keeps_the_data_and_a_new_installation_finds_it(fresh):
    mine = f"{fresh.units}/{SERVICE}.container.d/mine.conf"
    fresh.host.write(mine, "[Service]\nRestartSec=3\n", "svc")
    result = fresh.try_install("--uninstall", check=True)
    assert "Kept" in result.stdout and "volume cognitive-memory-data" in result.stdout
    assert fresh.get("/health/live")[0] == 0
    assert fresh.show()["LoadState"] == "not-found"
    left = fresh.run(f"find {fresh.units} -type f").stdout.split()
    assert [path for path in left if "90-test-host" not in path] == [mine], "drop-ins of the user are kept"
    fresh.host.path(mine).unlink()
    again = fresh.try_install("--embedded", check=True)
    assert "Your token" not in again.stdout, "the previous token is still valid"
    fresh.wait_ready()
    with fresh.client() as client:
        assert client.contents([fresh.first])


def test_purge_asks_and_then_deletes_everything(fresh):
    asked = fresh.try_install("--uninstall", "--purge")
    assert asked.code == EX_USAGE and "Nothing was changed" in asked.stdout + asked.stderr
    assert fresh.ready
    planned = fresh.try_install("--uninstall", "--purge", "--dry-run", check=True)
    assert "volume cognitive-memory-data" in planned.stdout and fresh.ready
    fresh.try_install("--uninstall", "--purge", "--yes", check=True)
    assert fresh.run("podman volume ls -q; podman secret ls -q; podman ps -aq").stdout.split() == []
    assert "cognitive" not in fresh.run("podman network ls --format '{{.Name}}'").stdout


# ------------------------------------------------------------------------------------------------------- PostgreSQL


def test_postgres_data_survives_an_uninstallation(fresh):
    fresh.install()
    with fresh.client() as client:
        first = client.remember("kept by PostgreSQL through an uninstall")
    before, invocation = everything(fresh), fresh.prop("InvocationID")
    assert "units are up to date" in fresh.try_install(check=True).stdout
    assert fresh.prop("InvocationID") == invocation and everything(fresh) == before
    fresh.try_install("--uninstall", check=True)
    # The database exists without its password; a new password would not match.
    password = fresh.run("podman secret inspect --showsecret --format '{{.SecretData}}' cognitive-memory-db-password").stdout
    fresh.run("podman secret rm cognitive-memory-db-password")
    text = refused(fresh)
    assert "its password (secret cognitive-memory-db-password) is gone" in text and "A lost database password" in text
    fresh.run("podman secret create cognitive-memory-db-password -", input=password.rstrip("\n"))
    fresh.try_install("--no-backup", check=True)
    fresh.wait_ready()
    with fresh.client() as client:
        assert client.contents([first])
    assert not fresh.host.path(f"{fresh.home}/.config/systemd/user/cognitive-memory-backup.timer").exists()
