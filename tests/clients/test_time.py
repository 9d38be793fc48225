"""Episodes, history, `as_of` recalls, usage statistics, protected memories and reviews, for clients and owners."""

import json
import stat
import urllib.parse
import uuid

import pytest

from client import over_http, short
from service import run, wait_until

NOWHERE = "00000000-0000-7000-8000-000000000000"


def note(content: str, **fields) -> dict:
    return {"content": content, **fields}


def episode(content: str, situation: str, lesson: str, **fields) -> dict:
    return {"kind": "episode", "content": content, "situation": situation, "outcome": -0.5, "lesson": lesson, **fields}


# ------------------------------------------------------------------------------------------------ episodes


async def test_an_episode_is_recalled_by_situation_by_lesson_and_by_what_happened(memory):
    [id] = await memory.remember(
        episode("The rollout stopped halfway.", "Upgrading PostgreSQL under replication", "Rehearse on a staging copy first"),
    )
    await memory.remember(note("Tea is in the cupboard."))
    for query in ["replication upgrades", "rehearse staging", "halfway rollout"]:
        hits = (await memory.recall(query))["hits"]
        assert [hit["id"] for hit in hits] == [id]
        assert hits[0]["lesson"] == "Rehearse on a staging copy first" and hits[0]["outcome"] == -0.5


async def test_the_lesson_is_the_last_part_to_be_cut(memory):
    lesson = "Always check the free space of the archive before " + "a long run " * 10
    await memory.remember(episode("It failed. " * 2_000, "Nightly archive " * 200, lesson))
    for query in ["nightly archive", None]:
        output, text = await memory.answer("recall", {"max_chars": 1_000} | ({"query": query} if query else {}))
        [hit] = output["hits"]
        assert hit["cut"] and hit["lesson"] == lesson and lesson.strip() in text
        assert 800 < len(text) <= 1_000 and hit["content"] and hit["situation"]
        _, text = await memory.answer("recall", {"max_chars": 100} | ({"query": query} if query else {}))
        assert len(text) <= 100


# ------------------------------------------------------------------------------------------------ history


async def test_the_history_has_old_and_new_value_author_and_reason(memory):
    [first] = await memory.remember(note("Ada lives in Berlin", tags=["ada"]))
    await memory.update(first, content="Ada lives in Hamburg", importance=0.9, reason="she moved")
    await memory.forget(first, reason="by mistake")
    await memory.forget(first, mode="restore", reason="it was right")
    [second] = await memory.remember(note("Ada lives in Lisbon", supersedes=[first]))
    output = await memory.get(first, history=True)
    told = [(entry["version"], entry["change"], entry.get("reason")) for entry in output["history"]]
    assert told == [
        (5, "superseded", f"superseded by {second}"),
        (4, "restored", "it was right"), (3, "deleted", "by mistake"), (2, "updated", "she moved"), (1, "created", None),
    ]  # fmt: skip
    superseded, restored, deleted, updated, created = output["history"]
    assert "old" not in created and all(entry["by"] for entry in output["history"])
    assert updated["old"] == {"content": "Ada lives in Berlin", "importance": 0.5}
    assert updated["new"] == {"content": "Ada lives in Hamburg", "importance": 0.9}
    assert deleted["old"] == {"deleted_at": None} and deleted["new"] == {"deleted_at": restored["old"]["deleted_at"]}
    assert superseded["new"] == {"superseded_by": second}


async def test_a_version_conflict_names_the_current_version(memory):
    [id] = await memory.remember(note("one"))
    await memory.update(id, content="two")
    error = await memory.refused("update", id=id, content="three", expected_version=1)
    assert (error["code"], error["current_version"]) == ("version_conflict", 2) and "2" in error["text"]


async def test_a_restored_version_is_identical(memory):
    [id] = await memory.remember(episode("what", "in the aviary", "so", tags=["b", "a"], metadata={"k": [1]}, session="s", speaker="Ada"))
    before = await memory.one(id)
    await memory.forget(id)
    assert await memory.found("aviary") == []
    await memory.forget(id, mode="restore")
    after = await memory.one(id)
    assert {"version": 3} == {key: after[key] for key in after if key != "updated_at" and after[key] != before[key]}
    assert await memory.found("aviary") == [id]


async def test_chains_of_successors_are_visible(memory):
    ids = await memory.remember(note("plan A"))
    for text in ["plan B", "plan C"]:
        ids += await memory.remember(note(text, supersedes=[ids[-1]]))
    first, second, third = (await memory.get(*ids))["memories"]
    assert (first["superseded_by"], first["current"]) == (ids[1], ids[2]) and "supersedes" not in first
    assert (second["supersedes"], second["superseded_by"], second["current"]) == ([ids[0]], ids[2], ids[2])
    assert third["supersedes"] == [ids[1]] and not third.keys() & {"superseded_by", "current"}
    error = await memory.refused("remember", items=[note("plan D", supersedes=[ids[0]])])
    assert error["code"] == "already_superseded" and ids[1] in error["text"]


# ------------------------------------------------------------------------------------------------ as_of


async def test_an_as_of_recall_returns_the_former_texts(memory):
    [fact] = await memory.remember(note("The office is in Zurich"))
    [gone] = await memory.remember(note("The office has a canteen"))
    [old] = await memory.remember(note("The office key is under the mat"))
    then = (await memory.one(old))["created_at"]
    await memory.update(fact, content="The headquarters is in Geneva")
    await memory.forget(gone)
    [new] = await memory.remember(note("The office key is with the porter", supersedes=[old]))

    assert set(await memory.found("office")) == {new}
    output = await memory.recall("office", as_of=then)
    assert {hit["id"]: hit["content"] for hit in output["hits"]} == {
        fact: "The office is in Zurich", gone: "The office has a canteen", old: "The office key is under the mat",
    }  # fmt: skip
    assert all("superseded_by" not in hit and "deleted_at" not in hit and hit["version"] == 1 for hit in output["hits"])
    # Words that occur only in former versions find these versions.
    assert await memory.found("Zurich", as_of=then) == [fact] and await memory.found("Zurich") == []
    assert await memory.found("Geneva", as_of=then) == []
    assert await memory.found("The office is in Zurich", as_of=then, limit=1) == [fact], "the former text ranks first"
    assert [hit["id"] for hit in await memory.browse_all(as_of=then)] == [old, gone, fact]
    assert await memory.found(as_of=then, limit=1) == [old]
    assert await memory.found("office", as_of=(await memory.one(fact))["created_at"]) == [fact]
    long_ago = await memory.recall("office", as_of="1999-12-31")
    assert long_ago["hits"] == [] and long_ago["notes"]
    assert set(await memory.found("office", as_of=then, kinds=["episode"])) == set()


async def test_an_as_of_recall_over_many_changes_reports_omitted_ones(memory):
    [first] = await memory.remember(note("a heron stood at the pond"))
    then = (await memory.one(first))["created_at"]
    ids = [first]
    for start in range(0, 1_000, 500):
        ids += await memory.remember(*[note(f"a heron at pond {start + n}") for n in range(500)])
    then = (await memory.one(ids[-1]))["created_at"]
    items = [note(f"survey {n}", supersedes=ids[n : n + 200]) for n in range(0, len(ids), 200)]
    await memory.remember(*items)
    output = await memory.recall("heron pond", as_of=then)
    assert len(output["hits"]) == 10 and "1000" in output["notes"][0]
    assert (await memory.recall("heron pond"))["hits"] == []


@pytest.mark.parametrize("at, words", [
    ("2199-01-01", ["not in the future"]), ("1969-12-31", ["1970"]), ("someday", ["2026"]), ("2026-13-01", ["2026"]),
])  # fmt: skip
async def test_invalid_as_of_times_are_refused(memory, at, words):
    error = await memory.refused("recall", query="x", as_of=at)
    assert error["code"] == "invalid_argument" and error["field"] == "as_of"
    assert any(word in error["text"] for word in words), error["text"]


async def test_invalid_times_of_memories_are_refused(memory):
    for field, value in [("occurred_at", "1969-12-31"), ("occurred_at", "2199-01-01"), ("valid_until", "1960-01-01")]:
        error = await memory.refused("remember", items=[note("x", **{field: value})])
        assert error["code"] == "invalid_argument" and error["field"] == f"items[0].{field}"


# ------------------------------------------------------------------------------------------------ usage


async def test_importance_and_votes_change_the_ranking_and_are_explained(memory):
    ids = await memory.remember(*[note(f"walrus sighting number{word}") for word in ["one", "two", "three"]])
    plain, important, unhelpful = ids
    await memory.update(important, importance=1.0)
    for _ in range(3):
        await memory.update(unhelpful, feedback="not_helpful")
    hits = (await memory.recall("walrus sighting"))["hits"]
    assert [hit["id"] for hit in hits] == [important, plain, unhelpful]
    assert hits[0]["why"]["factors"].startswith("×1.1") and "importance" in hits[0]["why"]["factors"]
    assert "factors" not in hits[1]["why"]
    assert hits[2]["why"]["factors"].startswith("×0.9") and "feedback" in hits[2]["why"]["factors"]
    await memory.update(unhelpful, feedback="helpful")
    assert (await memory.one(unhelpful))["version"] == 1, "a vote does not create a version"
    error = await memory.refused("update", id=NOWHERE, feedback="helpful")
    assert error["code"] == "not_found"


async def test_all_boosts_together_do_not_outrank_a_better_match(memory):
    answer, other = await memory.remember(
        note("heron heron heron", importance=0.0), note("a heron among very many other words of another kind", importance=1.0)
    )
    for _ in range(5):
        await memory.update(answer, feedback="not_helpful")
        await memory.update(other, feedback="helpful")
    assert await memory.found("heron") == [answer, other], "the better match stays first"


async def test_pages_continue_the_same_list(memory):
    await memory.remember(*[note(f"osprey number {n}", importance=(n * 37 % 100) / 100) for n in range(120)])
    seen, cursor = [], {}
    while True:
        page = await memory.recall("osprey", limit=25, max_chars=100_000, **cursor)
        seen += [hit["id"] for hit in page["hits"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 120
    assert seen[:100] == await memory.found("osprey", limit=100, max_chars=100_000)
    weights = [(await memory.one(id))["importance"] for id in seen[:5]]
    assert weights == sorted(weights, reverse=True) and weights[0] > 0.9


# ------------------------------------------------------------------------------------------------ near-duplicates


async def test_near_duplicates_are_reported_and_stored(memory):
    [old] = await memory.remember(note("The build server runs Debian 12 in the cellar"))
    output, text = await memory.answer("remember", {"items": [
        note("The build server runs Debian 13 in the cellar"), note("Quokkas are marsupials"),
    ]})  # fmt: skip
    [similar], none = output["memories"][0]["similar"], output["memories"][1]
    assert output["created"] == 2 and similar["id"] == old and 0.6 <= similar["similarity"] < 1
    assert similar["content"].startswith("The build server") and short(old) in text and "similar" not in none
    turns = [note(f"yes, I do think so {n}", kind="dialogue", session="s", turn=n) for n in range(3)]
    output, _ = await memory.answer("remember", {"items": turns})
    assert not any("similar" in each for each in output["memories"]) and "notes" not in output
    output, text = await memory.answer("remember", {"items": [note(f"the same again {n}") for n in range(51)]})
    assert "50" in output["notes"][0] and output["notes"][0] in text


# ------------------------------------------------------------------------------------------------ reviews


async def test_a_protected_memory_changes_only_by_a_review(memory):
    [id, free] = await memory.remember(note("The safe's code is with the notary", protected=True), note("The code is 1234"))
    assert (await memory.one(id))["protected"]
    output, text = await memory.answer("remember", {"items": [note("The code is 1234", protected=True)]})
    assert output["created"] == 0 and output["memories"][0]["merged"] == ["protected"] and "protected" in text
    owner_decides = await memory.answer("update", {"id": free, "protected": False})
    assert owner_decides[0]["review"]["state"] == "open"
    output, text = await memory.answer("update", {"id": id, "content": "The code is 0000", "feedback": "helpful", "reason": "mail"})
    assert output["memory"]["content"] == "The safe's code is with the notary" and output["memory"]["version"] == 1
    review = output["review"]
    assert (review["state"], review["action"], review["reason"]) == ("open", "update", "mail")
    assert review["change"] == {"content": "The code is 0000"}
    assert f"Not changed: protected. Request {short(review['id'])} awaits the owner: `cognitive-memory-mcp review`." in text
    [other] = await memory.remember(note("Another code"))
    output, text = await memory.answer("forget", {"ids": [id, other]})
    assert output["changed"] == 1 and output["reviews"][0]["action"] == "delete" and short(other) in text
    assert f"Not deleted: protected. Request {short(output['reviews'][0]['id'])} awaits the owner" in text
    assert await memory.found("notary") == [id]
    error = await memory.refused("remember", items=[note("The code is 1111", supersedes=[id])])
    assert error["code"] == "protected" and "judge" in error["advice"] and await memory.found("1111") == []
    await memory.update(id, protected=False)
    assert (await memory.one(id))["protected"]
    output, text = await memory.answer("review", {"action": "list"})
    assert [each["action"] for each in output["reviews"]] == ["update", "delete", "update", "update"]
    assert all(short(each["id"]) in text for each in output["reviews"])
    for word in ["approve", "reject", "undo"]:
        error = await memory.refused("review", action=word, id=review["id"])
        assert error["code"] == "invalid_argument", "a client cannot approve"


async def test_a_candidate_can_be_judged(memory):
    berlin, lisbon, other = await memory.remember(
        note("Ada lives in Berlin near the river"), note("Ada lives in Lisbon near the river"), note("Quokkas are marsupials")
    )
    output, text = await memory.answer("review", {"action": "candidates"})
    [pair] = output["candidates"]
    assert (pair["keep"]["id"], pair["replace"]["id"]) == (lisbon, berlin)
    assert f"keep {short(lisbon)} (newer" in text and f"replace {short(berlin)} (older" in text
    assert (await memory.answer("review", {"action": "candidates", "id": berlin}))[0]["candidates"] == [pair]
    assert (await memory.answer("review", {"action": "candidates", "id": other}))[0].get("candidates", []) == []
    judged = {"action": "judge", "keep": lisbon, "replace": berlin, "judgement": "contradiction", "reason": "she moved"}
    output, text = await memory.answer("review", judged)
    [review] = output["reviews"]
    assert (review["action"], review["state"]) == ("supersede", "approved") and f"review undo {short(review['id'])}" in text
    assert review["change"] == {"by": lisbon, "judgement": "contradiction"}
    assert (await memory.one(berlin))["superseded_by"] == lisbon, "applied immediately, like supersedes"
    output, text = await memory.answer("review", judged)
    assert output["reviews"] == [] and "already superseded" in text
    assert (await memory.answer("review", {"action": "candidates"}))[0].get("candidates", []) == [], "judged already"
    output, _ = await memory.answer("review", {"action": "judge", "keep": berlin, "replace": other, "judgement": "unrelated"})
    assert output["reviews"][0]["state"] == "dismissed"
    assert (await memory.answer("review", {"action": "list"}))[0]["reviews"] == []
    assert len((await memory.answer("review", {"action": "list", "id": berlin}))[0]["reviews"]) == 2


async def test_candidates_can_be_limited_to_an_entity_or_a_session(memory):
    ada = {"entities": [{"name": "Ada"}]}
    home, away, bread, boat, ship = await memory.remember(
        note("Ada lives in Berlin", **ada), note("Her house stands by the Tagus, in Lisbon", **ada),
        note("Bread needs yeast and flour", session="kitchen"), note("Boats need a mast and sails", session="harbour"),
        note("Boats need a mast and sails and a crew", session="harbour"),
    )  # fmt: skip
    pairs = lambda output: {frozenset((pair["keep"]["id"], pair["replace"]["id"])) for pair in output.get("candidates", [])}  # noqa: E731
    everything = await memory.call("review", action="candidates")
    assert pairs(everything) == {frozenset((boat, ship))}, "the texts have no common words"
    assert pairs(await memory.call("review", action="candidates", entity="ADA")) == {frozenset((home, away))}
    assert pairs(await memory.call("review", action="candidates", session="harbour")) == {frozenset((boat, ship))}
    assert pairs(await memory.call("review", action="candidates", session="kitchen")) == set()
    assert pairs(await memory.call("review", action="candidates", entity="Ada", session="kitchen")) == set()
    await memory.call("review", action="judge", keep=away, replace=home, judgement="contradiction")
    assert pairs(await memory.call("review", action="candidates", entity="Ada")) == set(), "judged already"
    # Only the newest memories that mention the entity are compared, so the answer stays small.
    await memory.remember(*(note(f"Ada did thing {n}", **ada) for n in range(30)))
    many = await memory.call("review", action="candidates", entity="Ada")
    assert len(many["candidates"]) == 20
    for arguments, field in [
        ({"action": "candidates", "entity": "Nobody"}, "entity"),
        ({"action": "candidates", "entity": " "}, "entity"),
        ({"action": "candidates", "session": " "}, "session"),
        ({"action": "candidates", "id": bread, "entity": "Ada"}, "entity"),
        ({"action": "list", "session": "harbour"}, "session"),
    ]:
        error = await memory.refused("review", **arguments)
        assert error["code"] == "invalid_argument" and error["field"] == field, (arguments, error)


async def test_invalid_judgements_are_refused(memory):
    a, b, c = await memory.remember(note("one thing"), note("another thing"), note("nothing"))
    [d] = await memory.remember(note("a better thing", supersedes=[c]))
    judge = {"action": "judge", "judgement": "duplicate"}
    for arguments, code, field in [
        ({**judge, "keep": a, "replace": a}, "invalid_argument", "replace"),
        ({**judge, "replace": a}, "invalid_argument", "keep"),
        ({**judge, "keep": a}, "invalid_argument", "replace"),
        ({**judge, "id": a}, "invalid_argument", "keep"),
        ({"action": "judge", "keep": a, "replace": b}, "invalid_argument", "judgement"),
        ({**judge, "replace": a, "keep": NOWHERE}, "not_found", None),
        ({**judge, "replace": "x", "keep": a}, "invalid_argument", "replace"),
        # A cycle, and a memory that already has another successor.
        ({**judge, "replace": d, "keep": c}, "invalid_argument", "keep"),
        ({**judge, "replace": c, "keep": a}, "invalid_argument", "replace"),
        ({"action": "list", "other": a}, "invalid_argument", "other"),
        ({"action": "list", "id": a, "reason": " "}, "invalid_argument", "reason"),
        ({"action": "candidates", "id": NOWHERE}, "not_found", None),
    ]:
        error = await memory.refused("review", **arguments)
        assert error["code"] == code and error.get("field") == field, (arguments, error)
    assert (await memory.answer("review", {"action": "list"}))[0]["reviews"] == []


# ------------------------------------------------------------------------------------------------ commands of the owner


def settings_of(service) -> dict[str, str]:
    return {name: value for name, value in service.environment.items() if name.startswith("MEMORY_")}


def owner(service, *arguments: str, code: int = 0) -> dict | str:
    done = run("review", *arguments, "--json", folder=service.folder, settings=settings_of(service))
    assert done.returncode == code, (arguments, done)
    return json.loads(done.stdout) if code == 0 else done.stderr


async def test_the_owner_approves_and_undoes_on_the_command_line(new_service, backend):
    service = new_service(backend, MEMORY_REVIEW_DAYS="2")
    async with over_http(service.url) as memory:
        [id] = await memory.remember(note("The password is with Ada", protected=True))
        before = await memory.one(id)
        review = (await memory.answer("update", {"id": id, "content": "The password is with Bob", "reason": "he said so"}))[0]["review"]
        assert review["until"][:10] > review["at"][:10]
        assert [each["id"] for each in owner(service, "list")["reviews"]] == [review["id"]]
        shown = owner(service, "show", review["id"])
        assert shown["memories"][0]["content"] == "The password is with Ada"
        plain = run("review", "show", review["id"], folder=service.folder, settings=settings_of(service)).stdout
        assert all(word in plain for word in ["open", "he said so", "The password is with Ada", "Bob"])
        assert owner(service, "approve", review["id"], "--reason", "asked him")["reviews"][0]["state"] == "approved"
        assert "approved" in owner(service, "approve", review["id"], code=1)
        changed = await memory.get(id, history=True)
        assert changed["memories"][0]["content"] == "The password is with Bob"
        last = changed["history"][0]
        assert last["by"] == "owner" and review["id"] in last["reason"] and "asked him" in last["reason"]
        assert await memory.found("Bob") == [id]
        owner(service, "undo", review["id"])
        after = await memory.one(id)
        assert after["content"] == before["content"] and after["version"] == 3 and await memory.found("Bob") == []
        other = (await memory.answer("forget", {"ids": [id], "mode": "purge"}))[0]["reviews"][0]
        owner(service, "reject", other["id"])
        assert await memory.found("Ada") == [id]
        assert owner(service, "list")["reviews"] == [] and len(owner(service, "list", "--all")["reviews"]) == 2
        assert "not found" in owner(service, "approve", NOWHERE, code=1)
        assert "ID: expected the ID of a review" in owner(service, "show", "nonsense", code=1)
        assert owner(service, "list", "--all", "--project", "another")["reviews"] == []


async def test_quotas_apply_to_approved_changes_and_to_the_graph(new_service, backend):
    service = new_service(backend, MEMORY_PROJECT_MAX_BYTES="100", MEMORY_PROJECT_MAX_ENTRIES="2")
    async with over_http(service.url) as memory:
        [id] = await memory.remember(note("short", protected=True))
        review = (await memory.call("update", id=id, content="x" * 200))["review"]
        told = owner(service, "approve", review["id"], code=1)
        assert "bytes" in told and "100 are allowed" in told
        assert (await memory.one(id))["content"] == "short" and (await memory.status())["open_reviews"] == 1
        await memory.call("link", relations=[{"from": "Ada", "type": "knows", "to": "Bob"}])
        for tool, arguments in [("link", {"entities": [{"name": "Cem"}]}), ("remember", {"items": [note("y", entities=["Cem"])]})]:
            error = await memory.refused(tool, **arguments)
            assert error["code"] == "limit_exceeded" and "3 entities, 2 are allowed" in error["message"]
            assert "MEMORY_PROJECT_MAX_ENTRIES" in error["advice"]
        assert (await memory.status())["memories"] == 1
        for number in range(5):
            await memory.call("focus", action="add", content=f"item {number}")
        assert [item["content"] for item in (await memory.call("focus"))["items"]] == ["item 4", "item 3"]
        assert [item["content"] for item in (await memory.call("focus", archived=True))["items"]] == ["item 2", "item 1"]


async def test_only_the_owner_can_use_the_control_socket(new_service, sqlite):
    service = new_service(sqlite)
    [database] = [path for path in sorted(_files(sqlite)) if path.suffix == ".db"]
    socket = database.with_name(database.name + ".control")
    mode = socket.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    import httpx2

    async with httpx2.AsyncClient(trust_env=False) as http:
        for path in ["/review", "/control", "/mcp/review"]:
            command = {"project": "default", "command": {"command": "list", "all": True, "limit": 10}}
            assert (await http.post(service.base + path, json=command)).status_code == 404, "not over the network"
    async with over_http(service.url) as memory:
        [id] = await memory.remember(note("kept", protected=True))
        review = (await memory.answer("forget", {"ids": [id]}))[0]["reviews"][0]
    # The socket file of a killed service is ignored, and without a service the command opens the database.
    service.kill()
    assert socket.exists()
    assert owner(service, "list")["reviews"][0]["id"] == review["id"]
    service.start()
    assert owner(service, "approve", review["id"])["reviews"][0]["state"] == "approved"
    socket.unlink()
    assert "has the database" in owner(service, "list", code=69)


def _files(backend):
    import pathlib

    return pathlib.Path(backend.settings["MEMORY_DATA_DIR"]).rglob("*")


# ------------------------------------------------------------------------------------------------ purge


def _dump(backend) -> bytes:
    """Returns the whole database as text: on PostgreSQL every table by COPY, like a dump."""
    if backend.name == "sqlite":
        return b"".join(path.read_bytes() for path in _files(backend) if path.is_file())
    import pg8000.native

    parts = urllib.parse.urlsplit(backend.settings["MEMORY_DATABASE_URL"])
    connection = pg8000.native.Connection(
        parts.username, host=parts.hostname, port=parts.port or 5432, database=parts.path.strip("/"),
        password=urllib.parse.unquote(parts.password or ""),
    )  # fmt: skip
    try:
        tables = connection.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        rows = [str(connection.run(f'SELECT t::text FROM "{table}" t')) for [table] in tables]
        return "\n".join(rows).encode()
    finally:
        connection.close()


async def test_a_purge_leaves_no_trace(new_service, backend):
    service = new_service(backend)
    canary = f"canary{uuid.uuid4().hex}"
    async with over_http(service.url) as memory:
        [other] = await memory.remember(note("an innocent bystander about birds"))
        [id] = await memory.remember(
            episode(f"{canary} one", f"{canary} two", f"{canary} three", tags=[f"{canary}-tag"], metadata={canary: canary},
                    session=f"{canary}-session", speaker=canary, sources=[other], protected=True),
        )  # fmt: skip
        free = await memory.remember(note(f"{canary} five about birds", sources=[id]))
        await memory.update(free[0], content=f"{canary} six about birds", reason=f"{canary} seven")
        judged = {"action": "judge", "replace": free[0], "keep": other, "judgement": "duplicate", "reason": f"{canary} eight"}
        await memory.answer("review", judged)
        await memory.answer("update", {"id": id, "content": f"{canary} nine", "reason": f"{canary} ten"})
        for content in (f"{canary} eleven", f"{canary} six about birds"):
            item = (await memory.answer("focus", {"action": "add", "content": content}))[0]["items"][0]["id"]
            kept = (await memory.answer("focus", {"action": "promote", "id": item, "memory": True}))[0]["memory"]
            await memory.answer("focus", {"action": "promote", "id": item})
            if kept != free[0]:
                await memory.forget(kept, mode="purge")
        await memory.forget(free[0])
        assert canary.encode() in _dump(backend)
        purge = (await memory.answer("forget", {"ids": [id, free[0]], "mode": "purge"}))[0]
        assert purge["changed"] == 1
        owner(service, "approve", purge["reviews"][0]["id"])
        assert (await memory.get(id, free[0], include_deleted=True, history=True))["memories"] == []
        assert await memory.found(canary) == [] and await memory.found("birds") == [other]
        wait_until(lambda: _gone(backend, canary), "the canary is removed")


def _gone(backend, canary: str) -> bool:
    left = _dump(backend)
    assert canary.encode() not in left, "left behind: " + str(left[max(0, left.index(canary.encode()) - 200):][:400])
    return True
