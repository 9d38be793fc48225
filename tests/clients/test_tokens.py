"""Tokens in the database, while the service runs: created, used, replaced, revoked, expired."""

import concurrent.futures
import datetime
import json
import os
import stat
import time

import pytest
from service import run, wait_until
from wire import call, request, send


def token(service, *arguments: str):
    # The command uses the settings of the service to find the database.
    return run("token", *arguments, folder=service.folder, settings=service.environment)


def secret(service, *arguments: str) -> str:
    made = token(service, *arguments, "--json")
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["secret"]


def status(service, bearer: str) -> int:
    return send(service, body=request("tools/list"), Authorization=f"Bearer {bearer}").status


def tool(service, bearer: str, name: str, **arguments) -> dict:
    answer = send(service, body=call(name, arguments), Authorization=f"Bearer {bearer}")
    assert answer.status == 200, answer
    return answer.json["result"]


@pytest.fixture
def service(new_service, backend):
    return new_service(backend, MEMORY_AUTH="tokens")


def test_tokens_can_be_created_replaced_and_revoked_while_the_service_runs(service):
    assert status(service, "cmm_nobody-has-this-one") == 401
    laptop = secret(service, "create", "laptop", "--project", "work", "--read", "shared,team")
    assert laptop.startswith("cmm_") and len(laptop) == 47
    assert status(service, laptop) == 200, "it is valid immediately"
    told = tool(service, laptop, "status")["structuredContent"]
    assert told["project"] == "work" and told["readable_projects"] == ["shared", "team", "work"]

    listed = token(service, "list")
    assert "laptop" in listed.stdout and laptop[:10] in listed.stdout and "valid" in listed.stdout
    assert laptop not in listed.stdout + service.log()
    again = token(service, "create", "laptop")
    assert again.returncode == 64 and "already" in again.stderr

    renewed = secret(service, "rotate", "laptop")
    assert status(service, renewed) == 200
    wait_until(lambda: status(service, laptop) == 401, "the old secret becomes invalid", pause=0.1)
    revoked = token(service, "revoke", "laptop")
    assert revoked.returncode == 0, revoked.stderr
    wait_until(lambda: status(service, renewed) == 401, "the revoked token becomes invalid", pause=0.1)
    assert token(service, "revoke", "nobody").returncode == 64
    assert token(service, "rotate", "laptop").returncode == 64


def test_an_expired_token_is_refused(service):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=4)
    short = secret(service, "create", "guest", "--expires", soon.isoformat())
    assert status(service, short) == 200
    wait_until(lambda: status(service, short) == 401, "it expires", pause=0.2)
    assert "expired" in token(service, "list").stdout
    past = token(service, "create", "late", "--expires", "2020-01-01")
    assert past.returncode == 64 and "future" in past.stderr


def test_a_flood_of_wrong_tokens_does_not_block_valid_ones(service):
    laptop = secret(service, "create", "laptop")
    wrong = [f"cmm_wrong-token-{number:06}" for number in range(400)]
    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        answers = threads.map(lambda bearer: status(service, bearer), wrong)
        for _ in range(20):
            assert status(service, laptop) == 200
        assert set(answers) == {401}


def test_invalid_names_and_times_of_tokens_are_reported(service):
    for arguments, word in [
        (["create", "two words"], "two words"),
        (["create", "a", "--project", "x/y"], "--project"),
        (["create", "a", "--read", "ok,n o"], "--read"),
        (["create", "a", "--expires", "tomorrow"], "expires"),
    ]:
        refused = token(service, *arguments)
        assert refused.returncode == 64 and word in refused.stderr, refused


def test_a_read_only_project_cannot_be_changed(service):
    team = secret(service, "create", "team", "--project", "team")
    laptop = secret(service, "create", "laptop", "--project", "work", "--read", "team")
    stored = tool(service, team, "remember", items=[{"content": "The team meets on Mondays"}])
    id = stored["structuredContent"]["memories"][0]["id"]
    hits = tool(service, laptop, "recall", query="team meets")["structuredContent"]["hits"]
    assert [hit["id"] for hit in hits] == [id]
    for name, arguments in [
        ("update", {"id": id, "content": "changed"}),
        ("forget", {"ids": [id], "mode": "purge"}),
        ("remember", {"items": [{"content": "x", "supersedes": [id]}]}),
    ]:
        refused = tool(service, laptop, name, **arguments)
        assert refused["isError"] and refused["structuredContent"]["error"]["code"] == "not_found", (name, refused)
    # A memory of a read-only project can be a source.
    based = tool(service, laptop, "remember", items=[{"content": "y", "sources": [id]}])
    assert not based.get("isError")
    kept = tool(service, team, "get", ids=[id])["structuredContent"]["memories"][0]
    assert kept["content"] == "The team meets on Mondays" and kept["version"] == 1


def test_a_reached_quota_is_explained(new_service, backend):
    service = new_service(backend, MEMORY_PROJECT_MAX_MEMORIES="2", MEMORY_PROJECT_MAX_BYTES="1000")
    send(service, body=call("remember", {"items": [{"content": "one"}, {"content": "two"}]}))
    for items, figures in [([{"content": "three"}], ("3", "2 are allowed")), ([{"content": "one"}, {"content": "x" * 2000}], ("3", "2"))]:
        refused = send(service, body=call("remember", {"items": items})).json["result"]
        error = refused["structuredContent"]["error"]
        assert error["code"] == "limit_exceeded" and all(figure in error["message"] for figure in figures), error
        assert "MEMORY_PROJECT_MAX_MEMORIES" in error["advice"]
    again = send(service, body=call("remember", {"items": [{"content": "one"}]})).json["result"]
    assert not again.get("isError"), "a duplicate is accepted at the limit"


def test_the_control_socket_is_accessible_only_to_the_owner(new_service, sqlite):
    service = new_service(sqlite, MEMORY_AUTH="tokens")
    path = os.path.join(sqlite.settings["MEMORY_DATA_DIR"], "memory.db.control")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_ISSOCK(os.stat(path).st_mode)
    service.stop()
    assert not os.path.exists(path)
    # Without a running service, the command opens the file.
    laptop = secret(service, "create", "laptop")
    service.start()
    assert status(service, laptop) == 200
    service.kill()
    assert os.path.exists(path), "left over"
    service.start()
    desktop = secret(service, "create", "desktop")
    assert status(service, desktop) == 200
