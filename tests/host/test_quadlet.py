"""The unit files: the output of podman's generator, which systemd must accept. Nothing is started.

The output is compared with `snapshots/`; MEMORY_TEST_UPDATE=1 rewrites them for a review."""

import difflib
import json
import os
import pathlib
import re

import pytest
from deployment import DATABASE, REPOSITORY, SERVICE

QUADLET = REPOSITORY / "quadlet"
SNAPSHOTS = pathlib.Path(__file__).resolve().parent / "snapshots"
GENERATOR = "/usr/libexec/podman/quadlet"
PIECES = ("*.container", "*.network", "*.volume")


def generate(host, scope, folder, *dropins):
    """Returns the generated units of a folder of quadlet/, and the errors of the generator."""
    host.run("rm -rf /srv/units /srv/out && mkdir -p /srv/units /srv/out")
    for pattern in PIECES:
        for file in (QUADLET / folder).glob(pattern):
            host.copy(file, f"/srv/units/{file.name}")
    for dropin in dropins:
        host.copy(dropin, f"/srv/units/{SERVICE}.container.d/{dropin.name}")
    option = "--user" if scope == "user" else ""
    environment = {"QUADLET_UNIT_DIRS": "/srv/units"}
    user = "svc" if scope == "user" else "root"
    said = host.run(f"{GENERATOR} {option} --dryrun > /dev/null", user, env=environment, check=False).stderr
    complaints = [line for line in said.splitlines() if line.strip() and "Loading source" not in line]
    host.run(f"chown {user} /srv/out && chmod 755 /srv/units")
    host.run(f"{GENERATOR} {option} --no-kmsg-log /srv/out", user, env=environment, check=not complaints)
    units = {
        name: host.read(f"/srv/out/{name}") for name in host.run("ls /srv/out").stdout.split() if name.endswith(".service")
    }
    return units, complaints


def comparable(text):
    """Returns the unit with sorted options, whose order varies."""
    lines = []
    for line in text.splitlines():
        if line.startswith(("ExecStart=", "ExecStop=")) and " --" in line:
            command, *options = re.split(r" (?=--|-[a-z]\b)", line)
            lines += [command, *sorted("  " + option for option in options)]
        elif line.strip() and not line.startswith("#"):
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("folder", [".", "embedded"])
@pytest.mark.parametrize("scope", ["user", "system"])
def test_the_generated_units_match_the_snapshot(host, scope, folder):
    units, complaints = generate(host, scope, folder)
    assert not complaints
    expected = {f"{SERVICE}.service", "cognitive-memory-frontend-network.service"}
    expected |= {"cognitive-memory-data-volume.service"} if folder == "embedded" else {
        f"{DATABASE}.service", f"{DATABASE}-volume.service", "cognitive-memory-backend-network.service"}  # fmt: skip
    assert set(units) == expected, "the generator drops a unit with an unknown key"
    text = "".join(f"==> {name}\n{comparable(text)}\n" for name, text in sorted(units.items()))
    file = SNAPSHOTS / f"{'postgres' if folder == '.' else folder}.{scope}.txt"
    if os.environ.get("MEMORY_TEST_UPDATE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    difference = difflib.unified_diff(file.read_text().splitlines(), text.splitlines(), "snapshot", "generated", lineterm="")
    assert not (lines := list(difference)), "\n".join(lines)


@pytest.mark.parametrize("folder", [".", "embedded"])
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_accepts_the_generated_units(host, scope, folder):
    generate(host, scope, folder)
    if folder == ".":
        host.copy(QUADLET / "backup", "/srv/out")
    option = "--user" if scope == "user" else ""
    user = "svc" if scope == "user" else "root"
    host.run("chmod -R a+rX /srv/out")
    checked = host.run(
        f"systemd-analyze {option} --man=no verify /srv/out/*.service", user, env={"SYSTEMD_UNIT_PATH": "/srv/out:"}, check=False
    )
    assert "cognitive-memory" not in checked.stdout + checked.stderr and checked.ok, checked


@pytest.mark.parametrize("scope", ["user", "system"])
@pytest.mark.parametrize("folder", [".", "embedded"])
def test_the_unit_has_the_required_options(host, scope, folder):
    unit = generate(host, scope, folder)[0][f"{SERVICE}.service"]
    lines = unit.splitlines()
    for line in (
        "Type=notify", "NotifyAccess=all", "Restart=always", "RestartSec=10", "WatchdogSec=60", "TimeoutStartSec=900",
        "TimeoutStopSec=45", "RestartPreventExitStatus=64 78", "StartLimitIntervalSec=0", "WantedBy=default.target",
    ):  # fmt: skip
        assert line in lines, line
    run = next(line for line in lines if line.startswith("ExecStart="))
    for option in (
        "--sdnotify=container", "--user 65532:65532", "--read-only", "--read-only-tmpfs=false", "--cap-drop all",
        "--security-opt no-new-privileges", "--env ENVIRONMENT=production", "--env=WATCHDOG_USEC", "--stop-timeout 30",
        "--publish 127.0.0.1:8765:8765", "--pull never", "--health-on-failure none", "--log-driver journald",
    ):  # fmt: skip
        assert option in run or option.replace(" ", "=") in run, f"{option} is not in {run}"
    assert '"/cognitive-memory-mcp","healthcheck"' in run.replace("\\", "")
    assert "network-online.target" in unit
    if folder == ".":
        wants = " ".join(re.findall(r"^(?:Wants|After)=(.*)$", unit, re.M))
        assert wants.count(f"{DATABASE}.service") >= 2
        assert f"{DATABASE}.service" not in " ".join(re.findall(r"^(?:Requires|BindsTo|Requisite)=(.*)$", unit, re.M))


@pytest.mark.parametrize("dropin", sorted((QUADLET / "drop-ins").glob("*.conf")), ids=lambda path: path.stem)
@pytest.mark.parametrize("scope", ["user", "system"])
def test_every_example_drop_in_changes_the_unit(host, scope, dropin):
    plain, _ = generate(host, scope, ".")
    units, complaints = generate(host, scope, ".", dropin)
    assert not complaints and set(units) == set(plain)
    assert comparable(units[f"{SERVICE}.service"]) != comparable(plain[f"{SERVICE}.service"]), "the drop-in changes nothing"


def test_the_build_unit_tags_the_image(host):
    host.run("rm -rf /srv/units /srv/out && mkdir -p /srv/units /srv/out && chown svc /srv/out")
    host.copy(QUADLET / f"build/{SERVICE}.build", f"/srv/units/{SERVICE}.build")
    said = host.run(f"{GENERATOR} --user --dryrun", "svc", env={"QUADLET_UNIT_DIRS": "/srv/units"})
    assert "unsupported" not in said.stderr
    assert "--tag localhost/cognitive-memory-mcp:latest" in said.stdout.replace("--tag=", "--tag ")


def test_an_unknown_key_is_reported(host, tmp_path):
    """Shows that the tests above can fail."""
    broken = tmp_path / "broken.conf"
    broken.write_text("[Container]\nNoSuchKey=1\n")
    units, complaints = generate(host, "user", ".", broken)
    assert f"{SERVICE}.service" not in units
    assert any("unsupported key 'NoSuchKey' in group 'Container'" in line for line in complaints)


# ------------------------------------------------------------------------------------------------------ comparison with compose


def container(name):
    """Returns the [Container] section of a unit, with all values of each key."""
    settings = {}
    section = ""
    for line in (QUADLET / name).read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Container]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


@pytest.mark.parametrize(
    "unit, file, service",
    [
        (f"{SERVICE}.container", "compose.yaml", SERVICE),
        (f"{DATABASE}.container", "compose.yaml", DATABASE),
        (f"embedded/{SERVICE}.container", "compose.embedded.yaml", SERVICE),
    ],
)
def test_compose_has_the_settings_of_the_units(host, unit, file, service):
    """A different path of the data would lose it at the change from one to the other."""
    host.copy(REPOSITORY / "compose" / file, f"/srv/{file}")
    text = host.run(f"python3 -c 'import json, yaml; print(json.dumps(yaml.safe_load(open(\"/srv/{file}\"))))'").stdout
    whole = json.loads(text)
    compose, quadlet = whole["services"][service], container(unit)
    one = {key: values[-1] for key, values in quadlet.items()}
    assert compose["container_name"] == one["ContainerName"]
    assert compose["image"] == one["Image"]
    # Data: volume and mount point must be identical.
    volumes = set()
    for mount in quadlet.get("Volume", []):
        source, place = mount.split(":")[:2]
        name = re.search(r"^VolumeName=(.+)$", (QUADLET / pathlib.Path(unit).parent / source).read_text(), re.M)[1]
        volumes.add((name, place))
    assert volumes == {
        (whole["volumes"][source]["name"], place) for source, place in (mount.split(":")[:2] for mount in compose.get("volumes", []))
    }
    # Settings, without the quotes that the unit needs.
    environment = dict(value.strip('"').split("=", 1) for value in quadlet["Environment"])
    assert compose["environment"] == environment
    networks = {re.search(r"^NetworkName=(.+)$", (QUADLET / name).read_text(), re.M)[1] for name in quadlet["Network"]}
    assert {whole["networks"][name]["name"] for name in compose["networks"]} == networks
    internal = {definition["name"] for definition in whole["networks"].values() if definition.get("internal")}
    assert internal == {name for name in networks | internal if "Internal=true" in (QUADLET / f"{name}.network").read_text()}
    ports = [re.sub(r"\$\{MEMORY_PORT:-(\d+)\}", r"\1", port) for port in compose.get("ports", [])]
    assert ports == quadlet.get("PublishPort", [])
    assert set(compose["secrets"]) == {secret.split(",")[0] for secret in quadlet["Secret"]}
    # Confinement.
    assert compose["user"] in (one["User"], f"{one['User']}:{one.get('Group')}")
    assert compose["read_only"] is (one["ReadOnly"] == "true")
    assert [capability.lower() for capability in compose["cap_drop"]] == [one["DropCapability"]]
    assert ("no-new-privileges" in compose["security_opt"]) is (one["NoNewPrivileges"] == "true")
    assert compose["pids_limit"] == int(one["PidsLimit"])
    # /var/run is /run in the image.
    assert {mount.replace("/var/run/", "/run/") for mount in compose["tmpfs"]} == set(quadlet["Tmpfs"])
    assert compose["stop_grace_period"] == f"{one['StopTimeout']}s"
    assert compose["stop_signal"] == one.get("StopSignal", "SIGTERM")
    assert compose.get("shm_size") == one.get("ShmSize")
    memory = re.search(r"^MemoryMax=(.+)$", (QUADLET / unit).read_text(), re.M)[1]
    assert compose["mem_limit"].lower() == memory.lower()
    if "healthcheck" in compose:
        assert compose["healthcheck"]["test"] == ["CMD", *json.loads(one["HealthCmd"])]
