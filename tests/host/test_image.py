"""The image of the Containerfile: built from a binary that was compiled before, and once completely without a network."""

import hashlib
import json
import os
import pathlib
import re
import time

import host as hosts
import pytest
from deployment import IMAGE, REPOSITORY, SERVICE, build_image, put_images, static_binary

# The aim is 20 MB; the segmenter of scripts without spaces and the YAML reader added the rest.
MOST_BYTES = 24 * 1000 * 1000
CONFINED = "--read-only --cap-drop=all --security-opt=no-new-privileges --network=none"


MODEL = "all-MiniLM-L6-v2"
MOST_BYTES_WITH_MODEL = 110 * 1000 * 1000
MULTILINGUAL = "multilingual-e5-small"
MOST_BYTES_MULTILINGUAL = 160 * 1000 * 1000


def check_image(host, image=IMAGE, most=MOST_BYTES, more=frozenset()):
    """Checks the properties that every build of the image must have. Returns its size in bytes."""
    about = json.loads(host.run(f"podman image inspect {image}", "svc").stdout)[0]
    config = about["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == [f"/{SERVICE}"] and config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8765/tcp"]
    assert not config.get("Volumes"), "a missing mount must fail instead of filling an anonymous volume"
    assert about["HealthCheck" if "HealthCheck" in about else "Healthcheck"]["Test"] == ["CMD", f"/{SERVICE}", "healthcheck"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == SERVICE
    assert {"description", "licenses", "version", "revision"} <= {name.rpartition(".")[2] for name in labels}
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "Cargo.toml").read_text(), re.M)[1]
    assert labels["org.opencontainers.image.version"] == version
    assert not any("PASSWORD" in each or "TOKEN" in each for each in config["Env"])
    assert about["Size"] <= most, about["Size"]
    # Only the binary, the certificates, the data folder, and the requested additions.
    words = f"cd \"$(podman image mount {image})\" && find . -mindepth 1 -printf '%y %m %U:%G %p\\n'"
    found = sorted(host.run(["podman", "unshare", "sh", "-c", words], "svc").stdout.splitlines())
    paths = {line.split(" ./")[1]: line.split(" ./")[0] for line in found}
    assert {path for path in paths if path.split("/")[0] not in more} == {SERVICE, "data", "etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt"}
    assert paths[SERVICE] == "f 755 0:0" and paths["data"].endswith(" 65532:65532")
    certificates = host.run(["podman", "unshare", "sh", "-c", f'cat "$(podman image mount {image})"/etc/ssl/certs/*'], "svc").stdout
    assert certificates.count("BEGIN CERTIFICATE") > 50
    return about["Size"]


def test_the_image_contains_only_the_binary_and_certificates(service_host, figure):
    size = check_image(service_host)
    figure(f"image: {size / 1e6:.1f} MB, of which the binary {static_binary().stat().st_size / 1e6:.1f} MB")


def test_commands_run_in_a_confined_container(service_host):
    version = service_host.run(f"podman run --rm {CONFINED} {IMAGE} --version", "svc").stdout
    assert version.startswith(SERVICE)
    wrong = service_host.run(f"podman run --rm {CONFINED} {IMAGE} --no-such-option", "svc", check=False)
    assert wrong.code == 64
    # Production reports all missing settings together.
    asked = service_host.run(f"podman run --rm {CONFINED} -e ENVIRONMENT=production {IMAGE}", "svc", check=False)
    said = asked.stdout + asked.stderr
    assert asked.code == 78 and "MEMORY_DATABASE_URL" in said and "MEMORY_TOKENS" in said


def run_image_with_model(host, target, folder, most):
    """Builds a target with the model of a folder, without a network, and starts it. Returns its size in bytes, the output of
    `model verify`, and the beginning of a command inside the container."""
    put_images(host, static_binary())
    image = f"localhost/{target}"
    build_image(host, image, f"--target {target} --volume {folder}:/mnt/model:ro --build-arg MODEL_SOURCE=/mnt/model")
    size = check_image(host, image, most, {"models"})
    options = f"{CONFINED} -e MEMORY_AUTH=none"
    verified = host.run(f"podman run --rm {options} {image} model verify", "svc").stdout
    assert "damaged" not in verified and "missing" not in verified, verified
    host.run(f"podman run -d --name image-test {options} -v image-test:/data {image}", "svc")
    inside = f"podman exec image-test /{SERVICE}"
    host.run(f"{inside} remember 'The canary release is rolled back when the error rate doubles.'", "svc")
    return size, verified, inside


def test_the_image_with_the_model_recalls_by_meaning(new_host, figure):
    host = new_host(binds=[(hosts.cache().parent / "models" / MODEL, "/srv/model")])
    size, _, inside = run_image_with_model(host, "with-model", "/srv/model", MOST_BYTES_WITH_MODEL)
    figure(f"image with the model: {size / 1e6:.1f} MB")

    def found() -> bool:
        answer = host.run(f"{inside} recall --json 'undo a deployment because of failures'", "svc", check=False)
        return answer.code == 0 and "canary" in answer.stdout

    host.wait_for(found, timeout=60, what="a memory without a common word")


def test_the_multilingual_image_is_built_from_a_folder(new_host, figure):
    """MEMORY_TEST_MULTILINGUAL_MODEL names a folder with the real model. Without it, a tiny XLM-RoBERTa stands in."""
    real = os.environ.get("MEMORY_TEST_MULTILINGUAL_MODEL")
    folder = pathlib.Path(real) if real else REPOSITORY / "tests/data/models/xlm-roberta-prompts"
    host = new_host(binds=[(folder, "/srv/model")])
    size, verified, inside = run_image_with_model(host, "with-model-multilingual", "/srv/model", MOST_BYTES_MULTILINGUAL)
    assert MULTILINGUAL in verified, verified
    kind = "multilingual model" if real else "stand-in for the multilingual model"
    figure(f"image with the {kind}: {size / 1e6:.1f} MB")

    def embedded() -> bool:
        answer = host.run(f"{inside} status --json", "svc", check=False)
        return answer.code == 0 and MULTILINGUAL in answer.stdout

    host.wait_for(embedded, timeout=60, what="the model")
    if real:
        answer = host.run(f"{inside} recall --json 'eine Auslieferung wegen Fehlern zurücknehmen'", "svc")
        assert "canary" in answer.stdout, answer.stdout


@pytest.fixture
def embedded(service_host):
    """Starts the image as process 1 of a read-only container without capabilities, on the embedded database."""
    host = service_host
    options = f"{CONFINED} -e MEMORY_AUTH=none -e MEMORY_DATABASE_URL=sqlite:/data/memory.db -e ENVIRONMENT=production -e MEMORY_EMBEDDER=none"

    def start(volume="-v image-test:/data"):
        host.run(f"podman run -d --name image-test {options} {volume} {IMAGE}", "svc")

    yield start
    host.run("podman rm -f -t 0 image-test; podman volume rm -f image-test", "svc", check=False)


def test_process_1_is_confined_and_stops_on_sigterm(service_host, embedded):
    host = service_host
    embedded()
    host.wait_for(
        lambda: host.run(f"podman exec image-test /{SERVICE} healthcheck", "svc", check=False).ok, timeout=20, what="the health check"
    )
    pid = int(str(host.run("podman inspect --format '{{.State.Pid}}' image-test", "svc")))
    status = host.run(f"grep -E 'NSpid|CapEff|NoNewPrivs' /proc/{pid}/status").stdout
    assert re.search(r"NSpid:.*\t1$", status, re.M) and re.search(r"CapEff:\t0+$", status, re.M), status
    # The kernel ignores signals to process 1 that have no handler; podman would then kill it, with exit code 137.
    host.run("podman stop -t 20 image-test", "svc")
    assert str(host.run("podman inspect --format '{{.State.ExitCode}}' image-test", "svc")) == "0"
    log = host.run("podman logs image-test", "svc").stdout
    assert [json.loads(line) for line in log.splitlines() if line][-1]["message"] == "ended"
    # It also starts again after a kill.
    host.run("podman start image-test", "svc")
    host.run("podman kill -s KILL image-test", "svc")
    host.run("podman start image-test", "svc")
    host.wait_for(lambda: host.run(f"podman exec image-test /{SERVICE} healthcheck", "svc", check=False).ok, timeout=20)


def test_a_missing_volume_fails_with_a_message(service_host, embedded):
    embedded(volume="")
    code = str(service_host.run("podman wait image-test", "svc", timeout=30))
    log = service_host.run("podman logs image-test 2>&1", "svc").stdout
    assert code in ("69", "78"), (code, log)
    assert "/data" in log


def test_podman_build_of_the_checkout_without_a_network(new_host, figure):
    """Builds with the unchanged Containerfile, a substitute for the official Rust image, and the crates in a folder.

    The layer of compiled dependencies is cached for later runs; without it the build takes many minutes."""
    hosts.build("builder", "vendor")
    host = new_host(binds=[(hosts.cache() / "vendor", "/srv/vendor")], size="10G")
    key = hashlib.sha256()
    manifests = sorted(REPOSITORY.glob("crates/*/Cargo.toml"))
    for part in ("Cargo.lock", "Cargo.toml", "Containerfile", ".cargo/config.toml", *manifests):
        key.update((REPOSITORY / part).read_bytes())
    key.update((hosts.cache() / ".recipe/builder").read_bytes())
    name = key.hexdigest()[:32]
    kept = host.restore_podman("build", name)
    if not kept:
        host.load_images("rust")
    host.copy_repository("/home/svc/src")
    begin = time.monotonic()
    options = "--pull=never --network=none --format docker --volume /srv/vendor:/usr/local/cargo/vendor:ro"
    built = host.run(f"cd src && podman build {options} -t {IMAGE} . 2>&1", "svc", timeout=3600).stdout
    took = time.monotonic() - begin
    assert kept == ("Using cache" in built), built[-3000:]
    if not kept:
        host.save_podman("build", name)
    size = check_image(host)
    assert SERVICE in host.run(f"podman run --rm {CONFINED} {IMAGE} --version", "svc").stdout
    figure(f"`podman build .`, dependencies {'cached' if kept else 'compiled'}: {took:.0f} s, {size / 1e6:.1f} MB")
