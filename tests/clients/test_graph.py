"""Working memory and graph, tested through a client on both backends."""

import asyncio
import datetime

import pytest

from client import over_http, short

NOWHERE = "00000000-0000-7000-8000-000000000000"


async def focus(client, action: str, /, **arguments) -> dict:
    output, text = await client.answer("focus", {"action": action, **arguments})
    assert all(short(item["id"]) in text and item["content"] in text for item in output["items"])
    assert all(note in text for note in output.get("notes", []))
    return output


async def kept(memory, **arguments) -> list[str]:
    return [item["content"] for item in (await focus(memory, "list", **arguments))["items"]]


async def link(memory, **arguments) -> dict:
    return (await memory.answer("link", arguments))[0]


async def explore(memory, mode: str, **arguments) -> dict:
    output, text = await memory.answer("explore", {"mode": mode, **arguments})
    assert all(entity["name"] in text for entity in output["entities"])
    assert ("(partial)" in text) == output["partial"]
    return output


def names(output: dict) -> list[str]:
    return [entity["name"] for entity in output["entities"]]


def nested(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


# ------------------------------------------------------------------------------------------------ focus


async def test_working_memory_keeps_the_ten_items_touched_last(memory):
    first = (await focus(memory, "add", content="thought 0"))["items"][0]
    assert first["importance"] == 0.5
    for number in range(1, 10):
        assert "evicted" not in await focus(memory, "add", content=f"thought {number}")
    await focus(memory, "touch", id=first["id"])
    added = await focus(memory, "add", content="one too many")
    assert [item["content"] for item in added["evicted"]] == ["thought 1"]
    assert added["evicted"][0]["reason"].startswith("evicted: least recently touched")
    assert await kept(memory) == ["one too many", "thought 0", *(f"thought {n}" for n in range(9, 1, -1))]
    archived = (await focus(memory, "list", archived=True))["items"]
    assert [(item["content"], item["reason"]) for item in archived] == [("thought 1", "evicted: least recently touched")]
    again = await focus(memory, "add", content="thought 0")
    assert "already" in again["notes"][0] and again["items"][0]["id"] == first["id"]


@pytest.mark.timeout(600)
async def test_ten_thousand_items_leave_the_newest_ten_in_working_memory(memory):
    for number in range(9_999):
        await focus(memory, "add", content=f"thought {number}")
    added = await focus(memory, "add", content="thought 9999")
    assert [item["content"] for item in added["evicted"]] == ["thought 9989"]
    assert await kept(memory) == [f"thought {number}" for number in range(9_999, 9_989, -1)]


async def test_the_most_important_item_stays_longest(memory):
    await focus(memory, "add", content="vital", importance=0.9)
    for number in range(12):
        await focus(memory, "add", content=f"passing {number}")
    assert "vital" in await kept(memory)
    for number in range(9):
        await focus(memory, "add", content=f"vital {number}", importance=1)
    told = await focus(memory, "add", content="the last straw")
    assert [item["content"] for item in told["evicted"]] == ["vital"] and "importance above 0.8" in told["notes"][0]


async def test_an_archived_item_can_be_restored_or_stored_as_a_memory(memory):
    [item] = (await focus(memory, "add", content="Ask Ada about the cipher", session="monday"))["items"]
    dropped = await focus(memory, "drop", id=item["id"], session="monday", reason="asked")
    assert dropped["items"][0]["reason"] == "asked" and await kept(memory, session="monday") == []
    back = await focus(memory, "restore", id=item["id"], session="monday")
    assert back["items"][0]["created_at"] == item["created_at"]
    assert await kept(memory, session="monday") == ["Ask Ada about the cipher"] and await kept(memory) == []
    stored = await focus(memory, "save", id=item["id"], session="monday")
    assert await kept(memory, session="monday") == []
    assert (await memory.one(stored["memory"])).items() >= {"kind": "note", "session": "monday"}.items()
    assert await memory.found("cipher") == [stored["memory"]]
    # A repetition from the archive, with the former name of the action, returns the same memory.
    assert (await focus(memory, "promote", id=item["id"], session="monday", memory=True))["memory"] == stored["memory"]
    # A purge also removes the item from the archive.
    await memory.forget(stored["memory"], mode="purge")
    assert (await focus(memory, "list", archived=True, session="monday"))["items"] == []


async def test_the_archive_is_listed_in_pages(memory):
    for number in range(35):
        await focus(memory, "add", content=f"item {number}", session="long")
    first = await focus(memory, "list", archived=True, session="long")
    rest = await focus(memory, "list", archived=True, session="long", cursor=first["next_cursor"])
    assert "next_cursor" not in rest
    assert [item["content"] for item in first["items"] + rest["items"]] == [f"item {n}" for n in range(24, -1, -1)]
    error = await memory.refused("focus", action="list", archived=True, session="other", cursor=first["next_cursor"])
    assert error["field"] == "cursor"


async def test_concurrent_sessions_have_separate_working_memories(memory):
    async def work(session: str) -> None:
        for number in range(15):
            await focus(memory, "add", content=f"{session} {number}", session=session)

    await asyncio.gather(*(work(f"s{number}") for number in range(8)))
    for number in range(8):
        assert await kept(memory, session=f"s{number}") == [f"s{number} {n}" for n in range(14, 4, -1)]


async def test_focus_refuses_invalid_arguments(memory):
    for arguments, field in [
        ({"action": "add"}, "content"),
        ({"action": "add", "content": "  "}, "content"),
        ({"action": "add", "content": "x", "importance": 1.5}, "importance"),
        ({"action": "add", "content": "x" * 20_000}, "content"),
        ({"action": "add", "content": "x", "session": " "}, "session"),
        ({"action": "touch"}, "id"),
        ({"action": "drop", "id": "first"}, "id"),
        ({"action": "forget"}, "action"),
        ({"action": "list", "acton": "add"}, "acton"),
    ]:
        error = await memory.refused("focus", **arguments)
        assert error["code"] == "invalid_argument" and error["field"] == field, error
    for action in ("touch", "drop", "restore", "save", "promote"):
        error = await memory.refused("focus", action=action, id=NOWHERE)
        assert error["code"] == "not_found" and "focus" in error["advice"]


async def test_the_capacity_is_a_setting(new_service, backend):
    service = new_service(backend, MEMORY_FOCUS_CAPACITY="2")
    async with over_http(service.url) as memory:
        for number in range(4):
            await focus(memory, "add", content=f"item {number}")
        assert await kept(memory) == ["item 3", "item 2"]


# ------------------------------------------------------------------------------------------------ link and explore


async def test_links_are_merged_and_traversed(memory):
    output = await link(
        memory,
        entities=[{"name": "Ada Lovelace", "type": "Person", "properties": {"born": 1815, "note": {"g": True}}}],
        relations=[
            {"from": "Ada Lovelace", "type": "knows", "to": "Charles Babbage", "weight": 0.9},
            {"from": "Charles Babbage", "type": "designed", "to": "Analytical Engine"},
            {"from": "Luigi Menabrea", "type": "wrote about", "to": "analytical engine"},
        ],
    )
    assert output.items() >= {"created": 7, "changed": 0, "erased": 0}.items()
    new = 'New entities: "Ada Lovelace", "Charles Babbage", "Analytical Engine", "Luigi Menabrea".'
    assert new in output["notes"], output["notes"]
    output = await link(memory, entities=[{"name": "ADA LOVELACE", "properties": {"born": None, "note": {"h": 1}}}])
    assert output.items() >= {"created": 0, "changed": 1}.items() and '"Ada Lovelace"' in output["notes"][0]

    near = await explore(memory, "neighbours", name="ada lovelace")
    assert names(near) == ["Ada Lovelace", "Charles Babbage"] and not near["partial"]
    assert near["entities"][0] == {"name": "Ada Lovelace", "type": "person", "properties": {"note": {"g": True, "h": 1}}, "distance": 0}
    assert near["relations"] == [{"from": "Ada Lovelace", "type": "knows", "to": "Charles Babbage", "weight": 0.9}]
    far = await explore(memory, "neighbours", name="Ada Lovelace", depth=3)
    assert [(entity["name"], entity["distance"]) for entity in far["entities"]] == [
        ("Ada Lovelace", 0), ("Charles Babbage", 1), ("Analytical Engine", 2), ("Luigi Menabrea", 3),
    ]  # fmt: skip
    assert names(await explore(memory, "neighbours", name="Ada Lovelace", depth=3, type="knows")) == ["Ada Lovelace", "Charles Babbage"]
    small = await explore(memory, "neighbours", name="Ada Lovelace", depth=3, limit=2)
    assert len(small["entities"]) == 2 and small["partial"]

    path = await explore(memory, "path", name="Luigi Menabrea", to="Ada Lovelace")
    assert names(path) == ["Luigi Menabrea", "Analytical Engine", "Charles Babbage", "Ada Lovelace"]
    assert [relation["type"] for relation in path["relations"]] == ["wrote about", "designed", "knows"]
    none = await explore(memory, "path", name="Luigi Menabrea", to="Ada Lovelace", depth=2)
    assert names(none) == [] and "at most 2" in none["notes"][0] and not none["partial"]

    assert names(await explore(memory, "list", type="PERSON")) == ["Ada Lovelace"]
    page = await explore(memory, "list", limit=2)
    assert names(page) == ["Ada Lovelace", "Analytical Engine"] and page["partial"]
    assert names(await explore(memory, "list", after=names(page)[-1])) == ["Charles Babbage", "Luigi Menabrea"]
    assert names(await explore(memory, "list", name="CHARLES")) == ["Charles Babbage"]

    suggested = await explore(memory, "suggest", name="Ada Lovelace")
    assert names(suggested) == ["Analytical Engine"] and "1 shared neighbour" in suggested["entities"][0]["why"]


async def test_an_ended_relation_is_found_as_of_an_earlier_time(memory):
    job = {"from": "Grace", "type": "works at", "to": "Navy"}
    await link(memory, relations=[job | {"valid_from": "1973-12-01"}])
    await link(memory, relations=[job | {"unlink": "end", "valid_to": "1986-12-31"}])
    await link(memory, relations=[job | {"valid_from": "1987-08-01", "valid_to": "1996-08-14"}])

    async def at(time: str | None) -> list[tuple]:
        output = await explore(memory, "neighbours", name="Grace", **({"valid_at": time} if time else {}))
        return [(relation["valid_from"][:4], relation["valid_to"][:4]) for relation in output["relations"]]

    assert await at("1980-01-01") == [("1973", "1986")]
    assert await at("1987-01-15") == [] and await at(None) == []
    assert await at("1990-01-01T00:00:00Z") == [("1987", "1996")]
    output = await link(memory, relations=[{"from": "grace", "to": "NAVY", "unlink": "erase"}])
    assert output["erased"] == 2 and await at("1980-01-01") == []
    assert (await link(memory, entities=[{"name": "Navy", "erase": True}]))["erased"] == 1
    assert names(await explore(memory, "list")) == ["Grace"]


async def test_traversal_ends_on_cycles_and_hubs(memory):
    ring = [{"from": f"n{n}", "type": "next", "to": f"n{(n + 1) % 12}"} for n in range(12)]
    spokes = [{"from": "hub", "type": "holds", "to": f"leaf {n}"} for n in range(600)]
    await link(memory, relations=ring + spokes + [{"from": "hub", "type": "holds", "to": "n0"}])
    around = await explore(memory, "neighbours", name="n6", depth=5)
    assert len(around["entities"]) == 11 and not around["partial"]
    hub = await explore(memory, "neighbours", name="hub", depth=2, limit=100)
    assert len(hub["entities"]) == 100 and hub["partial"]
    assert len((await explore(memory, "path", name="leaf 7", to="n6"))["entities"]) == 9


async def test_a_batch_with_an_invalid_link_is_refused_as_a_whole(memory):
    good = {"from": "a", "type": "near", "to": "b"}
    cases = [
        ({"relations": [good, {"from": "Ada", "type": "likes", "to": " ADA"}]}, "relations[1].to", "another entity"),
        ({"relations": [good | {"weight": 1.5}]}, "relations[0].weight", "from 0 to 1"),
        ({"relations": [good | {"weight": "NaN"}]}, "relations[0].weight", None),
        ({"relations": [good | {"valid_from": "someday"}]}, "relations[0].valid_from", "such as 2026"),
        ({"relations": [good | {"valid_from": "0001-01-01"}]}, "relations[0].valid_from", "1970"),
        ({"relations": [good | {"valid_from": "2030-01-01", "valid_to": "2020-01-01"}]}, "relations[0].valid_to", "after valid_from"),
        ({"relations": [{"from": "a", "to": "b"}]}, "relations[0].type", None),
        ({"relations": [{"from": "", "type": "near", "to": "b"}]}, "relations[0].from", None),
        ({"relations": [good, {"from": "a", "type": "far", "to": "b", "unlink": "end"}]}, "relations[1].type", "explore"),
        ({"entities": [{"name": "x", "properties": nested(20)}]}, "entities[0].properties", "8 deep"),
        ({"entities": [{"name": "nobody", "erase": True}]}, "entities[0].name", "existing entity"),
        ({"entities": [{"name": "x" * 300}]}, "entities[0].name", "256"),
        ({"entities": [{"name": f"e{n}"} for n in range(10_000)]}, "entities and relations", "at most 1000"),
        ({}, "entities", "at least one"),
    ]
    for arguments, field, words in cases:
        error = await memory.refused("link", **arguments)
        assert error["code"] == "invalid_argument" and error["field"] == field, error
        assert words is None or words in error["expected"], error
    assert names(await explore(memory, "list")) == [], "none of them stored anything"
    await link(memory, relations=[good])
    for arguments, field in [
        ({"mode": "neighbours"}, "name"),
        ({"mode": "path", "name": "a", "to": "c"}, "to"),
        ({"mode": "neighbours", "name": "a", "depth": 6}, "depth"),
        ({"mode": "path", "name": "a", "to": "b", "depth": 11}, "depth"),
        ({"mode": "neighbours", "name": "a", "limit": 0}, "limit"),
        ({"mode": "neighbours", "name": "a", "as_of": "1066-10-14"}, "as_of"),
        ({"mode": "dance", "name": "a"}, "mode"),
    ]:
        error = await memory.refused("explore", **arguments)
        assert error["code"] == "invalid_argument" and error["field"] == field, error
    await link(memory, entities=[{"name": "Jupiter"}])
    assert '"Jupiter"' in (await memory.refused("explore", mode="neighbours", name="jupyter"))["expected"]


# ------------------------------------------------------------------------------------------------ memories and graph


async def test_memories_are_found_by_the_entities_they_mention(memory):
    tea, coffee, other = await memory.remember(
        {"content": "She drinks tea at four", "entities": ["Ada Lovelace"]},
        {
            "content": "He prefers coffee, and she sometimes joins him",
            "entities": [{"name": "Charles", "type": "person"}, "ada lovelace"],
            "relations": [{"from": "Charles", "type": "friend of", "to": "Ada Lovelace"}],
        },
        {"content": "The kettle drinks a lot of power", "tags": ["kitchen"]},
    )
    output, text = await memory.answer("get", {"entities": ["ADA LOVELACE", "Nobody"]})
    assert output["missing"] == ["Nobody"] and [m["id"] for m in output["memories"]] == [coffee, tea]
    [ada] = output["entities"]
    assert ada["name"] == "Ada Lovelace" and ada["memories"] == [coffee, tea]
    assert ada["relations"] == [{"from": "Charles", "type": "friend of", "to": "Ada Lovelace", "weight": 1.0}]
    assert "Charles -friend of-> Ada Lovelace" in text

    # The texts contain no word of the query; the entity finds them.
    hits = (await memory.recall("ada lovelace's hobbies"))["hits"]
    assert [hit["id"] for hit in hits] == [coffee, tea]
    assert all(hit["why"]["entities"] == ["Ada Lovelace"] and hit["why"]["entity_bonus"] > 0 for hit in hits)
    # A memory with both the words and the entity ranks first; the bonus is bounded.
    hits = (await memory.recall("What drinks does Ada Lovelace like?"))["hits"]
    assert [hit["id"] for hit in hits][0] == tea and other in [hit["id"] for hit in hits]
    best = max(hit["why"]["score"] for hit in hits)
    assert all(hit["why"].get("entity_bonus", 0) <= best * 0.25 + 0.001 for hit in hits)
    assert "entities" not in next(hit["why"] for hit in hits if hit["id"] == other)
    # Filters apply to this channel as well, and deleted memories are not found.
    assert await memory.found("Ada Lovelace", tags=["kitchen"]) == []
    assert await memory.found("Ada Lovelace", kinds=["episode"]) == []
    await memory.forget(tea)
    assert await memory.found("Ada Lovelace") == [coffee]
    await memory.forget(coffee, mode="purge")
    assert (await memory.get(entities=["Ada Lovelace"]))["entities"][0]["memories"] == []
    assert names(await explore(memory, "list", type="person")) == ["Charles"]


async def test_shared_memories_suggest_links(memory):
    for number in range(3):
        await memory.remember({"content": f"meeting {number}", "entities": ["Ann", "Bea"] + (["Cem"] if number else [])})
    suggested = await explore(memory, "suggest", name="ann")
    assert [(e["name"], e["why"]) for e in suggested["entities"]] == [("Bea", "3 memories mention both"), ("Cem", "2 memories mention both")]
    await link(memory, relations=[{"from": "Ann", "type": "knows", "to": "Bea"}])
    assert names(await explore(memory, "suggest", name="ann")) == ["Cem"]


async def test_a_bad_mention_stores_nothing(memory):
    for item, field in [
        ({"entities": [7]}, "items[0].entities[0]"),
        ({"entities": [{"type": "person"}]}, "items[0].entities[0].name"),
        ({"entities": [""]}, "items[0].entities[0].name"),
        ({"entities": [{"name": "x", "erase": True}]}, "items[0].entities[0].erase"),
        ({"entities": [f"e{n}" for n in range(51)]}, "items[0].entities"),
        ({"relations": [{"from": "a", "type": "is", "to": "A"}]}, "items[0].relations[0].to"),
        ({"relations": [{"from": "a", "type": "is", "to": "b", "unlink": "end"}]}, "items[0].relations[0].unlink"),
    ]:
        error = await memory.refused("remember", items=[{"content": "text", **item}])
        assert error["code"] == "invalid_argument" and error["field"] == field, error
    assert await memory.found() == [] and names(await explore(memory, "list")) == []


async def test_a_project_cannot_read_the_graph_of_another(memory, shared):
    await memory.remember({"content": "Where the treasure lies", "entities": ["Treasure"]})
    await link(memory, relations=[{"from": "Treasure", "type": "lies under", "to": "Old Oak"}])
    await focus(memory, "add", content="dig at night")
    async with over_http(shared.url, next(shared.unused)) as other:
        assert names(await explore(other, "list")) == [] and await kept(other) == []
        assert (await other.refused("explore", mode="neighbours", name="Treasure"))["code"] == "invalid_argument"
        assert await other.found("treasure") == [] and (await other.get(entities=["Treasure"]))["missing"] == ["Treasure"]
        await link(other, entities=[{"name": "Treasure", "properties": {"mine": True}}])
    assert "properties" not in (await explore(memory, "neighbours", name="treasure"))["entities"][0]


async def test_a_future_relation_is_found_only_with_valid_at(memory):
    tomorrow = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()
    await link(memory, relations=[{"from": "Plan", "type": "starts", "to": "Work", "valid_from": tomorrow}])
    assert names(await explore(memory, "neighbours", name="Plan")) == ["Plan"]
    assert len((await explore(memory, "neighbours", name="Plan", valid_at="2100-01-01"))["entities"]) == 2
