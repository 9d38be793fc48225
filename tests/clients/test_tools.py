"""Every tool, tested through a client on both backends. `memory` validates each answer by the output schema of the tool."""

import datetime
import json
import re
import uuid

import jsonschema
import pytest

from client import short

TOOLS = ["remember", "recall", "get", "update", "forget", "focus", "link", "explore", "review", "status"]
NOWHERE = "00000000-0000-7000-8000-000000000000"


def note(content: str, **fields) -> dict:
    return {"content": content, **fields}


# ------------------------------------------------------------------------------------------------ descriptions and schemas


async def test_the_list_of_tools_is_short(memory, figure):
    tools = (await memory.client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS
    size = len(json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools], separators=(",", ":")))
    figure(f"tools/list: {size} bytes, {size / len(tools):.0f} a tool")
    # Limit for all ten tools together.
    assert size < 14_000
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert 20 < len(tool.description) < 400


# Keywords that at least one large provider refuses in the parameters of a function. additionalProperties is missing as
# well, because unknown arguments are tolerated.
REFUSED_KEYWORDS = {
    "$ref", "$defs", "$schema", "oneOf", "allOf", "not", "if", "then", "else", "const", "format", "default", "title",
    "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "dependentRequired",
}  # fmt: skip


def schema_faults(schema: dict, path: str, outermost: bool = True):
    """Returns violations of the rules of OpenAI (functions without `strict`), Gemini and Anthropic, and of our own rules."""
    if not schema:
        return
    for keyword in REFUSED_KEYWORDS & schema.keys() | {word for word in schema if word.startswith("x-")}:
        yield f"{path}: {keyword}"
    if isinstance(schema.get("type"), list):
        yield f"{path}: several types"
    if "enum" in schema and (outermost or schema.get("type") != "string"):
        yield f"{path}: an enum without its type"
    if "anyOf" in schema:
        if outermost:
            yield f"{path}: anyOf at top level"
        for number, variant in enumerate(schema["anyOf"]):
            yield from schema_faults(variant, f"{path}|{number}", False)
    if schema.get("type") == "object":
        if not isinstance(schema.get("properties"), dict):
            yield f"{path}: an object without properties"
        for name in schema.get("required", []):
            if name not in schema.get("properties", {}):
                yield f"{path}: {name} is required but not declared"
        for name, field in schema.get("properties", {}).items():
            yield from schema_faults(field, f"{path}.{name}", False)
    if schema.get("type") == "array":
        if not isinstance(schema.get("items"), dict):
            yield f"{path}: an array without items"
        yield from schema_faults(schema.get("items", {}), f"{path}[]", False)


async def test_schemas_are_accepted_by_every_provider(memory):
    tools = (await memory.client.list_tools()).tools
    faults = []
    for tool in tools:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name) and tool.title
        assert tool.input_schema["type"] == "object" and "properties" in tool.input_schema
        faults += schema_faults(tool.input_schema, tool.name)
        faults += schema_faults(tool.output_schema, f"{tool.name} answers")
    assert not faults, "\n".join(faults)
    relation = tools[0].input_schema["properties"]["items"]["items"]["properties"]["relations"]["items"]
    assert {"from", "type", "to"} <= relation["properties"].keys(), "a model cannot look up the schema of another tool"


async def test_annotations_match_the_effect_of_a_tool(memory):
    hints = {tool.name: tool.annotations for tool in (await memory.client.list_tools()).tools}
    assert {name for name, hint in hints.items() if hint.read_only_hint} == {"recall", "get", "explore", "status"}
    assert {name for name, hint in hints.items() if hint.destructive_hint} == {"forget", "link"}
    assert {name for name, hint in hints.items() if hint.idempotent_hint} == {"remember", "forget"}
    assert not any(hint.open_world_hint for hint in hints.values())


async def test_the_server_introduces_itself(memory):
    assert memory.client.server_info.name == "cognitive-memory-mcp"
    assert memory.client.server_info.version
    for word in ["recall", "remember", "supersedes", "update", "episode", "Forget"]:
        assert word in memory.client.instructions


# ------------------------------------------------------------------------------------------------ remember and get


async def test_a_note_is_stored_and_read(memory):
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)
    output, text = await memory.answer("remember", {"items": [note("Ada prefers tea over coffee.")]})
    assert output["created"] == 1 and output["indexed"] == {"lexical": True, "semantic": False}
    stored = output["memories"][0]
    assert stored["created"] and uuid.UUID(stored["id"]).version == 7 and short(stored["id"]) in text
    read = await memory.one(stored["id"])
    assert read.items() >= {"kind": "note", "content": "Ada prefers tea over coffee.", "importance": 0.5, "version": 1}.items()
    created = datetime.datetime.fromisoformat(read["created_at"])
    assert before < created < datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    assert read["occurred_at"] == read["created_at"]
    assert not read.keys() & {"tags", "metadata", "session", "superseded_by", "deleted_at", "updated_at", "sources", "project"}


async def test_a_batch_stores_all_kinds_with_all_fields(memory):
    source, other = await memory.remember(note("The build broke on Monday."), note("The build broke on Friday."))
    items = [
        {
            "kind": "dialogue", "content": "I moved to Lisbon in March.", "session": "chat-7", "turn": 0, "speaker": "Ada",
            "tags": ["city", "move", "city"], "occurred_at": "2026-03-14T09:30:00+02:00",
        },
        {
            "kind": "note", "content": "The office closes in December.", "importance": 0.9, "valid_until": "2199-12-31",
            "metadata": {"source": "mail", "nested": {"deep": [1, 2.5, None, True, "é"]}}, "occurred_at": "2026-01-02",
        },
        {"kind": "insight", "content": "Builds break at the edges of the week.", "sources": [source, other]},
        {
            "kind": "episode", "content": "Tried to upgrade the database in place.", "situation": "Upgrade of the main database",
            "outcome": -0.5, "lesson": "Take a dump first.",
        },
    ]  # fmt: skip
    ids = await memory.remember(*items)
    read = (await memory.get(*ids))["memories"]
    assert [memory["id"] for memory in read] == ids
    dialogue, office, insight, episode = read
    assert dialogue.items() >= {"session": "chat-7", "turn": 0, "speaker": "Ada", "tags": ["city", "move"]}.items()
    assert dialogue["occurred_at"] == "2026-03-14T07:30:00Z"
    assert office["metadata"] == items[1]["metadata"] and office["importance"] == 0.9
    assert office["valid_until"] == "2199-12-31T00:00:00Z" and office["occurred_at"] == "2026-01-02T00:00:00Z"
    assert insight["sources"] == [source, other]
    assert episode.items() >= {key: items[3][key] for key in ("situation", "outcome", "lesson")}.items()
    # The lesson is always returned, and its words find the episode.
    hit = (await memory.recall("dump"))["hits"][0]
    assert hit["id"] == ids[3] and hit["lesson"] == "Take a dump first."


async def test_a_batch_of_the_largest_size_is_stored(memory):
    items = [note(f"Fact number {n} about the harbour") for n in range(500)]
    output, text = await memory.answer("remember", {"items": items})
    assert output["created"] == 500 and output["memories"] == [] and len(text) < 500, "the text does not list 500 IDs"
    hits = await memory.browse_all()
    assert [hit["content"] for hit in hits] == [item["content"] for item in items[::-1]]
    read = await memory.call("get", ids=[hit["id"] for hit in hits[:200]], max_chars=1_000_000)
    assert len(read["memories"]) == 200
    output, text = await memory.answer("remember", {"items": [*items[:1], *(note(f"New {n}") for n in range(60))]})
    assert output["created"] == 60 and [memory["id"] for memory in output["memories"]] == [hits[-1]["id"]]
    assert "60 new memories" in text


async def test_a_duplicate_returns_the_existing_id(memory):
    [first] = await memory.remember(note("The door code is 4711."))
    output, text = await memory.answer("remember", {"items": [note("The door code is 4711."), note("The door code is 4712.")]})
    assert output["memories"][0] == {"id": first, "created": False} and output["memories"][1]["created"]
    assert output["created"] == 1 and "already there" in text


async def test_repeating_a_call_with_its_key_stores_nothing_twice(memory):
    items = [note("Paid the invoice.", tags=["money"]), note("Called the bank.")]
    first = await memory.remember(*items, idempotency_key="key-1")
    await memory.forget(first[1])
    assert await memory.remember(*items, idempotency_key="key-1") == first
    error = await memory.refused("remember", items=[note("Something else")], idempotency_key="key-1")
    assert error["code"] == "idempotency_conflict" and "key-1" in error["message"]
    assert (await memory.status())["memories"] == 1
    assert await memory.remember(note("Something else"), idempotency_key="key-2")


async def test_a_new_fact_supersedes_the_old_one(memory):
    [old] = await memory.remember(note("Ada lives in Porto."))
    [new] = await memory.remember(note("Ada lives in Lisbon.", supersedes=[old]))
    assert await memory.found("Where does Ada live?") == [new]
    assert await memory.found() == [new]
    assert set(await memory.found("Where does Ada live?", include_outdated=True)) == {old, new}
    assert (await memory.one(old))["superseded_by"] == new
    error = await memory.refused("remember", items=[note("Ada lives in Faro.", supersedes=[old])])
    assert error["code"] == "already_superseded" and new in error["message"]
    assert (await memory.status())["superseded"] == 1
    for field in ("supersedes", "sources"):
        error = await memory.refused("remember", items=[note("Ada lives in Faro.", **{field: [NOWHERE]})])
        assert error["code"] == "not_found" and NOWHERE in error["message"]


async def test_an_expired_memory_is_not_recalled(memory):
    [over] = await memory.remember(note("Coupon for the cinema", valid_until="2020-01-01"))
    [valid] = await memory.remember(note("Coupon for the museum", valid_until="2190-01-01"))
    assert await memory.found("coupon") == [valid]
    assert set(await memory.found("coupon", include_outdated=True)) == {over, valid}


async def test_a_turn_is_stored_once(memory):
    turn = {"kind": "dialogue", "content": "Hello there", "session": "s", "turn": 3}
    [id] = await memory.remember(turn)
    assert await memory.remember(turn) == [id]
    error = await memory.refused("remember", items=[turn | {"content": "Hello again"}])
    assert error["code"] == "turn_exists" and id in error["message"]
    # Equal words in another turn are a separate memory.
    assert await memory.remember(turn | {"turn": 4}) != [id]
    assert (await memory.status())["by_kind"] == {"dialogue": 2}


TEXTS = {
    "one character": "x",
    "one ideograph": "猫",
    "emoji": "🎉🧑‍🚀 party 👩‍👩‍👧‍👦",
    "chinese": "我昨天在北京吃了烤鸭,味道非常好。",
    "japanese": "昨日、東京でラーメンを食べました。",
    "korean": "어제 서울에서 비빔밥을 먹었어요.",
    "arabic": "ذهبت إلى السوق أمس",
    "accents": "Crème brûlée à la carte, naïve façade, Ærøskøbing, Łódź",
    "decomposed": "Cafe\u0301 Mu\u0308nchen",
    "code": "fn main() { println!(\"{}\", a[0] && b || !c); } // x->y::z<T>",
    "address": "See https://example.org/a/b?c=d&e=%20f#g and mail to someone@example.org",
    "quotes": "He said \"it's 'fine'\" — “really” «so»",
    "operators": "NEAR(a b, 5) AND NOT title:x* OR -y ^z (unbalanced \"quote",
    "sql": "'; DROP TABLE memory; --",
    "stop words": "to be or not to be",
    "symbols": "%_\\ <b>&amp;</b> $1 ?1 :name @x {} [] ~ ` |",
    "numbers": "3.14159 1,000,000 0x7F +49 (0)30 123456 v1.2.3-rc.4",
    "only punctuation": "?!... ---",
    "lines": "first line\nsecond line\r\n\ttabbed\u2028separated",
    "right to left marks": "abc \u202efed\u202c ghi",
    "64 KiB": "lorem ipsum dolor " * 3640,
    "64 KiB without a space": "a" * 65_536,
}


@pytest.mark.parametrize("name", TEXTS)
async def test_every_text_comes_back_unchanged_and_is_found_by_itself(memory, name):
    text = TEXTS[name]
    others = [note(other) for key, other in TEXTS.items() if key != name]
    await memory.remember(*others)
    [id] = await memory.remember(note(text))
    assert (await memory.one(id))["content"] == text
    hits = (await memory.recall(text, limit=3, max_chars=1_000_000))["hits"]
    assert hits and hits[0]["id"] == id and hits[0]["content"] == text
    assert hits[0]["why"]["exact"]


# ------------------------------------------------------------------------------------------------ recall


async def test_a_hit_explains_its_rank(memory):
    await memory.remember(*[note(f"Something else happened on day {n}.") for n in range(20)])
    [best, second] = await memory.remember(
        note("The sailing trip to Gotland had wonderful sailing weather."), note("A trip by train.")
    )
    hits = (await memory.recall("How was the sailing trip?"))["hits"]
    assert [hit["id"] for hit in hits] == [best, second]
    assert [hit["why"]["rank"] for hit in hits] == [1, 2]
    assert hits[0]["why"]["score"] > hits[1]["why"]["score"] > 0
    assert sorted(hits[0]["why"]["terms"]) == ["sail", "trip"] and hits[1]["why"]["terms"] == ["trip"]
    assert not hits[0]["why"].get("exact")
    assert (await memory.recall("a trip by train."))["hits"][0]["id"] == second


async def test_filters_work_alone_and_together(memory):
    names = ["plain", "tagged", "chat", "later", "insight", "important"]
    ids = await memory.remember(
        note("The garden is green", occurred_at="2025-01-01", importance=0.1),
        note("The garden is wet", tags=["weather", "rain"], occurred_at="2025-02-01", importance=0.2),
        note("The garden is mine", kind="dialogue", session="s1", turn=1, speaker="Ada", occurred_at="2025-03-01", importance=0.3),
        note("The garden is yours", kind="dialogue", session="s2", turn=1, speaker="Bob", occurred_at="2025-04-01", importance=0.4),
        note("The garden is old", kind="insight", tags=["weather"], occurred_at="2025-05-01", importance=0.5),
        note("The garden is all", tags=["Weather", "soil"], occurred_at="2025-06-01", importance=1),
    )
    cases = [
        ({}, names),
        ({"kinds": ["dialogue"]}, ["chat", "later"]),
        ({"kinds": ["dialogue", "insight"]}, ["chat", "later", "insight"]),
        ({"kinds": ["episode"]}, []),
        ({"tags": ["weather"]}, ["tagged", "insight", "important"]),
        ({"tags": ["weather", "rain"]}, ["tagged"]),
        ({"session": "s1"}, ["chat"]),
        ({"speaker": "Bob"}, ["later"]),
        ({"since": "2025-04-01"}, ["later", "insight", "important"]),
        ({"until": "2025-04-01"}, ["plain", "tagged", "chat"]),
        ({"since": "2025-02-01T00:00:00Z", "until": "2025-03-01T00:00:01+00:00"}, ["tagged", "chat"]),
        ({"min_importance": 0.4}, ["later", "insight", "important"]),
        ({"kinds": ["note"], "tags": ["weather"], "since": "2025-01-15", "min_importance": 0.2}, ["tagged", "important"]),
    ]
    for filters, expected in cases:
        for query in ("garden", None):
            found = await memory.found(query, **filters)
            assert {names[ids.index(id)] for id in found} == set(expected), (query, filters)


async def test_browsing_pages_through_everything_newest_first(memory):
    ids = await memory.remember(*[note(f"Page turner {n}") for n in range(25)])
    found, cursor, pages = [], None, 0
    while True:
        page = await memory.recall(limit=10, **({"cursor": cursor} if cursor else {}))
        assert all("why" not in hit for hit in page["hits"])
        found += [hit["id"] for hit in page["hits"]]
        pages += 1
        # Memories that are stored between two pages do not affect later pages.
        await memory.remember(note(f"Stored between the pages {pages}"))
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert found == ids[::-1] and pages == 3


async def test_searching_pages_through_all_hits(memory):
    ids = await memory.remember(*[note("lighthouse " * (n % 5 + 1) + f"keeper {n}") for n in range(23)])
    whole = await memory.found("lighthouse", limit=100)
    assert set(whole) == set(ids)
    found, cursor = [], {}
    while True:
        page = await memory.recall("lighthouse", limit=7, **cursor)
        assert [hit["why"]["rank"] for hit in page["hits"]] == list(range(len(found) + 1, len(found) + len(page["hits"]) + 1))
        found += [hit["id"] for hit in page["hits"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole
    error = await memory.refused("recall", query="keeper", **cursor)
    assert error["code"] == "invalid_argument" and error["field"] == "cursor"


async def test_max_chars_limits_the_answer(memory):
    ids = await memory.remember(*[note(f"{n} " + "quarry " * 100) for n in range(5)])
    for query in ["quarry", None]:
        shared = await memory.recall(query, max_chars=1500, explain=False)
        assert len(shared["hits"]) == 5 and all(hit["cut"] for hit in shared["hits"]), "every hit gets a part of the limit"
        page = await memory.recall(query, max_chars=400, explain=False)
        assert 0 < len(page["hits"]) < 5
        rest = await memory.recall(query, max_chars=1_000_000, cursor=page["next_cursor"])
        assert {hit["id"] for hit in page["hits"]} | {hit["id"] for hit in rest["hits"]} == set(ids)
        assert len(page["hits"]) + len(rest["hits"]) == 5 and not any(hit.get("cut") for hit in rest["hits"])
        _, text = await memory.answer("recall", {"max_chars": 100} | ({"query": query} if query else {}))
        assert len(text) <= 100


async def test_an_empty_answer_gives_the_reason(memory):
    async def why(query=None, **filters):
        output = await memory.recall(query, **filters)
        assert output["hits"] == [] and output["notes"]
        return " ".join(output["notes"])

    assert "Nothing is stored" in await why("anything")
    assert "Nothing is stored" in await why()
    [old] = await memory.remember(note("An old song"))
    assert "word of the query" in await why("completely unrelated")
    assert 'no memory has any tag' in await why("song", tags=["absent"])
    assert "No memory is of kind episode; stored are 1 note." in await why(kinds=["episode"])
    assert "filters" in await why(since="2020-01-01", until="2020-01-02")
    await memory.update(old, valid_until="2020-01-01")
    assert "include_outdated" in await why()


async def test_an_empty_query_browses_with_a_note(memory):
    ids = await memory.remember(note("One"), note("Two"))
    for query in ("", "   "):
        output = await memory.recall(query)
        assert [hit["id"] for hit in output["hits"]] == ids[::-1] and "newest" in output["notes"][0]


# ------------------------------------------------------------------------------------------------ update


async def test_an_update_is_found_immediately_and_recorded_in_the_history(memory):
    [id] = await memory.remember(note("The meeting is on Tuesday", tags=["work"], metadata={"room": "A", "floor": 2}))
    new = await memory.update(
        id, expected_version=1, content="The meeting is on Thursday", tags=["work", "moved"], importance=0.8,
        metadata={"room": "B", "floor": None, "beamer": True}, occurred_at="2026-02-03", reason="The room was taken",
    )  # fmt: skip
    assert new["version"] == 2 and new["tags"] == ["moved", "work"] and new["importance"] == 0.8
    assert new["metadata"] == {"room": "B", "beamer": True} and new["occurred_at"] == "2026-02-03T00:00:00Z"
    assert new["updated_at"] > new["created_at"]
    assert await memory.one(id) == new
    assert await memory.found("Thursday") == [id] and await memory.found("Tuesday") == []
    history = (await memory.get(id, history=True))["history"]
    assert [entry["version"] for entry in history] == [2, 1], "newest first"
    assert history[0]["reason"] == "The room was taken"
    assert history[0]["old"]["content"] == "The meeting is on Tuesday" and history[0]["new"]["content"] == new["content"]
    assert history[0]["by"].startswith("p"), "the author is the name of the token"


async def test_an_update_of_another_version_is_refused(memory):
    [id] = await memory.remember(note("Version one"))
    await memory.update(id, content="Version two")
    error = await memory.refused("update", id=id, content="Version three", expected_version=1)
    assert error["code"] == "version_conflict" and "version 2" in error["message"] and "get" in error["advice"]
    assert (await memory.one(id))["content"] == "Version two"


async def test_an_update_without_changes_creates_no_version(memory):
    [id] = await memory.remember(note("Same as ever", tags=["a"]))
    assert (await memory.update(id, content="Same as ever", tags=["a"]))["version"] == 1


async def test_the_end_of_validity_can_be_set_and_removed(memory):
    [id] = await memory.remember(note("The road is closed"))
    assert (await memory.update(id, valid_until="2021-05-05"))["valid_until"] == "2021-05-05T00:00:00Z"
    assert await memory.found("road") == []
    assert "valid_until" in await memory.update(id, valid_until=None, importance=0.6), "null means not set"
    assert "valid_until" not in await memory.update(id, valid_until="never")
    assert await memory.found("road") == [id]


async def test_feedback_creates_no_version(memory):
    [id] = await memory.remember(note("Useful hint"))
    for feedback in ("helpful", "not_helpful"):
        assert (await memory.update(id, feedback=feedback))["version"] == 1


async def test_an_episode_can_be_corrected(memory):
    [id] = await memory.remember(
        note("Tried the new oven", kind="episode", situation="Bread", outcome=-1, lesson="More water")
    )
    new = await memory.update(id, outcome=0.5, lesson="Far more water, and a hotter stone")
    assert new.items() >= {"situation": "Bread", "outcome": 0.5, "lesson": "Far more water, and a hotter stone"}.items()
    assert await memory.found("stone") == [id]
    [plain] = await memory.remember(note("Plain"))
    error = await memory.refused("update", id=plain, lesson="None")
    assert error["code"] == "invalid_argument" and error["field"] == "lesson"


# ------------------------------------------------------------------------------------------------ forget


async def test_memories_can_be_deleted_restored_and_purged(memory):
    [kept, gone] = await memory.remember(note("Keep the blue key"), note("Throw the red key away"))
    assert await memory.forget(gone, reason="It was a copy") == 1
    assert await memory.forget(gone) == 0, "it was deleted before"
    assert await memory.found("key") == [kept] and await memory.found() == [kept]
    assert (await memory.get(gone))["missing"] == [gone]
    assert (await memory.one(gone, include_deleted=True))["deleted_at"]
    assert (await memory.status()).items() >= {"memories": 1, "deleted": 1}.items()
    assert (await memory.refused("update", id=gone, content="Changed"))["code"] == "not_found"

    assert await memory.forget(gone, mode="restore") == 1
    assert set(await memory.found("key")) == {kept, gone}
    history = (await memory.get(gone, history=True))["history"]
    assert [entry["reason"] for entry in history if "reason" in entry] == ["It was a copy"]

    assert await memory.forget(gone, mode="purge") == 1
    assert (await memory.get(gone, include_deleted=True, history=True)) == {"memories": [], "missing": [gone]}
    assert (await memory.refused("forget", ids=[gone], mode="restore"))["code"] == "not_found"
    assert (await memory.status()).items() >= {"memories": 1, "deleted": 0}.items()


async def test_forget_is_all_or_nothing(memory):
    [id] = await memory.remember(note("Safe"))
    error = await memory.refused("forget", ids=[id, NOWHERE])
    assert error["code"] == "not_found" and NOWHERE in error["message"] and id not in error["message"]
    assert await memory.found() == [id]


async def test_a_deleted_memory_can_be_stored_again(memory):
    [first] = await memory.remember(note("Again and again"))
    await memory.forget(first)
    [second] = await memory.remember(note("Again and again"))
    assert second != first and await memory.found("again") == [second]


# ------------------------------------------------------------------------------------------------ status, projects


async def test_status_counts_memories_by_kind(memory, kind):
    empty = await memory.status()
    assert empty["memories"] == 0 and empty["database"] == kind and empty["project"].startswith("p")
    assert empty["schema_version"] >= 1 and empty["database_version"] and empty["version"]
    await memory.remember(note("A"), note("B"), note("C", kind="insight"))
    status = await memory.status()
    assert status["memories"] == 3 and status["by_kind"] == {"insight": 1, "note": 2}


async def test_a_project_cannot_read_another(memory, shared):
    from client import over_http

    [mine] = await memory.remember(note("The secret recipe has cardamom"), idempotency_key="k")
    async with over_http(shared.url, next(shared.unused)) as other:
        assert await other.found("cardamom") == [] and await other.found() == []
        assert (await other.get(mine, include_deleted=True))["missing"] == [mine]
        for tool, arguments in [
            ("update", {"id": mine, "content": "Gone"}),
            ("forget", {"ids": [mine], "mode": "purge"}),
            ("remember", {"items": [note("x", supersedes=[mine])]}),
            ("remember", {"items": [note("x", sources=[mine])]}),
        ]:
            assert (await other.refused(tool, **arguments))["code"] == "not_found"
        assert await other.remember(note("The secret recipe has cardamom"), idempotency_key="k") != [mine]
    assert (await memory.one(mine))["version"] == 1
