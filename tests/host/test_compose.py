"""compose/ with podman-compose of Debian, tested over MCP. test_quadlet.py compares its settings with the units."""

import json
import re

import pytest
from deployment import DATABASE, IMAGE, PORT, SERVICE, Client, Deployment, Writer


@pytest.fixture(scope="module")
def compose(service_host):
    """`compose(file, words)` runs podman-compose, without the limits that this machine cannot set."""
    deployment = Deployment(service_host)
    folder = f"{deployment.checkout}/compose"
    deployment.compose_folder = folder
    made = deployment.run(f"{folder}/secrets/create").stdout
    deployment.token = re.search(r"cm_\S+", made)[0]
    modes = deployment.run(f"stat -c '%a' {folder}/secrets {folder}/secrets/cognitive-memory-tokens").stdout.split()
    assert modes == ["700", "644"]
    assert deployment.run(f"{folder}/secrets/create").stdout == "", "existing secrets are kept"
    limits = {} if "pids" in service_host.controllers else {"pids_limit": 0, "mem_limit": "0"}
    # No test may download a model.
    service = limits | {"environment": {"MEMORY_EMBEDDER": "none"}}

    def run(file, words, **options):
        services = {SERVICE: service} if "embedded" in file else {SERVICE: service, DATABASE: limits}
        # JSON is YAML.
        service_host.write(f"{folder}/test.yaml", json.dumps({"services": services}), "svc")
        return deployment.run(f"cd {folder} && podman-compose -f {file} -f test.yaml {words}", timeout=180, **options)

    deployment.compose = run
    return deployment


@pytest.mark.parametrize("file", ["compose.embedded.yaml", "compose.yaml"])
def test_data_survives_kills_and_down(compose, file):
    containers = {SERVICE} if "embedded" in file else {SERVICE, DATABASE}
    compose.compose(file, "up -d")
    try:
        assert set(compose.run("podman ps --format '{{.Names}}'").stdout.split()) == containers
        compose.wait_ready(60)
        assert compose.run(f"podman healthcheck run {SERVICE}").ok
        with compose.client() as client:
            id = client.remember(f"kept by {file}")
            with Writer(client) as writer:
                # podman restarts a killed container; a watchdog is missing.
                compose.kill(compose.pid())
                writer.progress()
                if DATABASE in containers:
                    compose.run(f"podman restart {DATABASE}")
                    writer.progress()
            writer.check()
        pid = compose.pid()
        status = compose.host.run(f"cat /proc/{pid}/status").stdout
        assert re.search(r"^CapEff:\t0+$", status, re.M) and re.search(r"^NoNewPrivs:\t1$", status, re.M)
        assert compose.run(f"podman inspect --format '{{{{.HostConfig.ReadonlyRootfs}}}} {{{{.Config.User}}}}' {SERVICE}").stdout.split() == [
            "true", "65532:65532",
        ]  # fmt: skip
        local = [line.split()[3] for line in compose.host.run(f"ss -ltnH 'sport = :{PORT}'").stdout.splitlines()]
        assert local == [f"127.0.0.1:{PORT}"]
        compose.compose(file, "down")
        assert compose.get("/health/live")[0] == 0
        compose.compose(file, "up -d")
        compose.wait_ready(60)
        with compose.client() as client:
            assert client.contents([id])
            writer.check(client)
        # A wrong token is refused.
        with pytest.raises(Exception), Client(compose.url, "cm_wrong") as client:
            client.call("status")
    finally:
        compose.compose(file, "down", check=False)


def test_the_units_take_over_the_data_of_compose(compose):
    """As described at the end of compose/README.md."""
    compose.compose("compose.yaml", "up -d")
    compose.wait_ready(60)
    with compose.client() as client:
        id = client.remember("moved from compose to systemd")
    compose.compose("compose.yaml", "down")
    for name in ("cognitive-memory-db-password", "cognitive-memory-tokens"):
        compose.run(f"podman secret create {name} {compose.compose_folder}/secrets/{name}")
    compose.install()
    compose.wait_ready()
    with compose.client() as client:
        assert client.contents([id])


def test_the_image_is_built_by_compose(compose):
    """`BUILDAH_FORMAT=docker podman-compose build` keeps the health check, which Compose needs."""
    compose.try_install("--uninstall", check=True)
    compose.run(f"podman untag {IMAGE}")
    compose.run(f"cd {compose.compose_folder} && BUILDAH_FORMAT=docker podman-compose build", timeout=300)
    assert "healthcheck" in compose.run(f"podman image inspect --format '{{{{.HealthCheck}}}}' {IMAGE}").stdout
