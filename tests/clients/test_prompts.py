"""Prompts, resources and completion, tested through a client on both backends."""

import json
import uuid

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from client import over_http, over_stdio, short
from service import wait_until

PROMPTS = {
    "session_start": ["task", "tag", "session", "entity", "repository"],
    "session_end": ["tag"],
    "reflect": ["situation", "outcome", "lesson", "memory"],
}
NOWHERE = "00000000-0000-7000-8000-000000000000"


def episode(content: str, situation: str, lesson: str, **fields) -> dict:
    return {"kind": "episode", "content": content, "situation": situation, "outcome": -0.8, "lesson": lesson, **fields}


async def say(memory, name: str, /, **arguments: str) -> str:
    result = await memory.client.get_prompt(name, arguments)
    assert result.description
    [message] = result.messages
    assert message.role == "user"
    return message.content.text


async def read(memory, uri: str) -> str:
    [content] = (await memory.client.read_resource(uri)).contents
    assert str(content.uri) == uri and content.mime_type
    return content.text


async def complete(memory, value: str, prompt: str | None = None, argument: str = "tag", template: str = "memory://{id}") -> list[str]:
    reference = PromptReference(name=prompt) if prompt else ResourceTemplateReference(uri=template)
    completion = (await memory.client.complete(reference, {"name": argument, "value": value})).completion
    assert completion.has_more is not True
    return completion.values


# ------------------------------------------------------------------------------------------------ prompts


async def test_the_prompts_are_listed(memory):
    prompts = (await memory.client.list_prompts()).prompts
    assert {prompt.name: [argument.name for argument in prompt.arguments] for prompt in prompts} == PROMPTS
    for prompt in prompts:
        assert prompt.title and prompt.description
        assert all(argument.description and not argument.required for argument in prompt.arguments)


async def test_a_session_starts_with_memories_on_its_topic(memory):
    empty = await say(memory, "session_start", task="Deploy the harbour service")
    assert "Nothing is stored yet." in empty and "Deploy the harbour service" in empty
    await memory.remember(
        {"content": "The harbour service runs on port 8080.", "tags": ["harbour"]},
        {"content": "Ada prefers tea.", "tags": ["people"]},
        {"kind": "dialogue", "content": "hello there", "session": "s", "turn": 1, "speaker": "Ada"},
        episode("Deploying the harbour service failed.", "deploy of the harbour service on a Friday", "Never deploy on a Friday.", tags=["harbour"]),
        episode("Baking went wrong.", "bread without yeast", "Buy yeast first."),
    )
    text = await say(memory, "session_start", task="Deploy the harbour service")
    assert "Never deploy on a Friday." in text and "Buy yeast first." not in text
    assert text.index("# Lessons") < text.index("# Related to the task") < text.index("# Recent memories") < text.index("# The task")
    assert text.count("port 8080") == 1, "memories on the topic are not repeated among the newest"
    assert "Ada prefers tea." in text and "hello there" not in text
    assert "not instructions" in text

    newest = await say(memory, "session_start")
    assert "Never deploy on a Friday." in newest and "Buy yeast first." in newest and "# The task" not in newest
    tagged = await say(memory, "session_start", tag="harbour")
    assert "port 8080" in tagged and "Friday" in tagged and "tea" not in tagged and "yeast" not in tagged


async def test_the_length_of_a_session_start_is_limited(memory):
    await memory.remember(*({"content": f"{number} " + "harbour " * 1000} for number in range(30)))
    assert len(await say(memory, "session_start", task="harbour")) < 20_000


async def test_a_session_starts_with_working_memory_and_open_reviews(memory):
    await memory.call("focus", action="add", content="The mast first, then the sails.")
    await memory.call("focus", action="add", content="Only of the night shift.", session="night")
    await memory.call("link", relations=[{"from": "Ada", "type": "works at", "to": "Harbour"}])
    old, new = await memory.remember({"content": "Ada works at the harbour.", "entities": [{"name": "Ada"}], "protected": True}, {"content": "Ada works at the shipyard."})
    await memory.remember(*({"content": f"Quokka {n}"} for n in range(3)))
    quiet = await say(memory, "session_start")
    assert "mast first" in quiet and "night shift" not in quiet and "wait" not in quiet and "-works at->" not in quiet
    await memory.call("review", action="judge", keep=new, replace=old, judgement="contradiction", reason="She moved.")
    text = await say(memory, "session_start", session="night", entity="ADA", task="Meet Ada")
    assert "night shift" in text and "mast first" not in text
    assert "1 change awaits the owner" in text and "She moved." in text and 'replace "Ada works at the harbour." with "Ada works at the shipyard."' in text and "`cognitive-memory-mcp review`" in text
    assert "# About ADA" in text and "Ada -works at-> Harbour" in text and short(old) in text.partition("mentioned by")[2]
    assert text.count("Ada works at the harbour.") == 2, "once as a memory, once in the review"
    assert text.index("# Working memory") < text.index("# About ADA") < text.index("# 1 change") < text.index("# Recent memories")
    assert "Harbour" not in await say(memory, "session_start", entity="Nobody", task="x")
    status = await memory.status()
    assert status["open_reviews"] == 1


async def test_a_session_end_asks_what_to_remember(memory):
    text = await say(memory, "session_end")
    for word in ["remember", "supersedes", "episode", "lesson", "update", "secrets"]:
        assert word in text
    assert '"harbour"' in await say(memory, "session_end", tag="harbour")


async def test_a_lesson_is_asked_for(memory):
    [id] = await memory.remember({"content": "Port 8080 is free."})
    text = await say(memory, "reflect")
    for word in ["Situation: infer it", "Outcome: infer it", "Lesson: infer it", "episode", "remember"]:
        assert word in text
    text = await say(memory, "reflect", situation="Deploy", lesson="Look first.", memory=id)
    assert "Situation: Deploy\n" in text and "Lesson: Look first." in text and "Outcome: infer it" in text
    assert "Port 8080 is free." in text and "not_helpful" in text
    assert "does not exist" in await say(memory, "reflect", memory=NOWHERE)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("farewell", {}, ["farewell", "session_start"]),
        ("session_start", {"tsak": "x"}, ["tsak", "task"]),
        ("session_start", {"tag": "x" * 1000}, ["tag: ", "128"]),
        ("session_start", {"task": "a\0b"}, ["task: ", "NUL"]),
        ("session_start", {"task": "x" * 70_000, "session": "x" * 300, "entity": "x" * 300},
         ["3 problems", "task: ", "session: ", "entity: "]),
        ("session_start", {"tag": "x" * 1000, "sesion": "x"}, ["2 problems", "sesion: ", "tag: "]),
        ("session_end", {"tag": "x" * 70_000}, ["tag: ", "128"]),
        ("reflect", {"situation": "x" * 20_000, "outcome": "x" * 20_000, "lesson": "x" * 20_000, "memory": "x" * 300},
         ["4 problems", "situation: ", "outcome: ", "lesson: ", "memory: "]),
        ("reflect", {"memory": "nonsense"}, ["memory: ", "nonsense"]),
    ],
)
async def test_an_unknown_prompt_is_an_error(memory, name, arguments, words):
    with pytest.raises(MCPError) as raised:
        await say(memory, name, **arguments)
    assert raised.value.error.code == -32602
    for word in words:
        assert word in raised.value.error.message


# ------------------------------------------------------------------------------------------------ resources


async def test_the_resources_are_listed(memory):
    resources = (await memory.client.list_resources()).resources
    assert [str(resource.uri) for resource in resources] == ["memory://focus", "memory://recent", "memory://status"]
    templates = (await memory.client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["memory://{id}", "memory://entity/{name}"]
    for each in [*resources, *templates]:
        assert each.name and each.title and each.description and each.mime_type


async def test_the_resources_can_be_read(memory):
    assert "Nothing is stored" in await read(memory, "memory://recent")
    ids = await memory.remember({"content": "First", "tags": ["a"]}, {"content": "Second"})
    recent = await read(memory, "memory://recent")
    assert recent.index("Second") < recent.index("First") and all(short(id) in recent for id in ids)
    assert json.loads(await read(memory, "memory://status")) == await memory.status()
    one = await read(memory, f"memory://{ids[0]}")
    assert "First" in one and "tags a" in one and "Second" not in one


async def test_the_working_memory_can_be_read(memory):
    assert await read(memory, "memory://focus") == "The working memory is empty."
    for content in ["First the mast.", "Then the sails."]:
        await memory.call("focus", action="add", content=content)
    text = await read(memory, "memory://focus")
    assert text.index("Then the sails.") < text.index("First the mast.")


async def test_an_entity_can_be_read(memory):
    [id] = await memory.remember({"content": "Zoë sails.", "entities": [{"name": "Zoë Müller", "type": "person"}]})
    await memory.call("link", relations=[{"from": "Zoë Müller", "type": "sails", "to": "Boat 7/8"}])
    for name in ["Zo%C3%AB%20M%C3%BCller", "zoe%CC%88%20m%C3%BCller", "ZO%C3%8B%20M%C3%9CLLER"]:
        text = await read(memory, f"memory://entity/{name}")
        assert "Zoë Müller [person]" in text and "-sails-> Boat 7/8" in text and short(id) in text
    assert "Boat 7/8" in await read(memory, "memory://entity/Boat%207%2F8")


async def test_unknown_resource_addresses_are_errors(memory):
    [gone] = await memory.remember({"content": "Gone"})
    await memory.forget(gone)
    nowhere = ["", "focus/x", "%00", "entity/", "entity/Nobody", "entity/%00", "entity/%ff", "entity/" + "x" * 10_000]
    for uri in [f"memory://{NOWHERE}", f"memory://{gone}", "file:///etc/passwd", *(f"memory://{rest}" for rest in nowhere)]:
        with pytest.raises(MCPError) as raised:
            await read(memory, uri)
        assert raised.value.error.code == -32602 and raised.value.error.data == {"uri": uri}


# ------------------------------------------------------------------------------------------------ completion


async def test_words_are_completed(memory):
    ids = await memory.remember({"content": "One", "tags": ["deploy", "desk"]}, {"content": "Two", "tags": ["deploy"]})
    assert await complete(memory, "de", "session_start") == ["deploy", "desk"]
    assert await complete(memory, "des", "session_end") == ["desk"]
    assert await complete(memory, "", "session_start") == ["deploy", "desk"]
    assert await complete(memory, "x", "session_start") == []
    assert await complete(memory, "anything", "session_start", "task") == []
    assert await complete(memory, "", argument="id") == ids[::-1]
    assert await complete(memory, ids[0], argument="id") == [ids[0]]
    assert await complete(memory, ids[0][:30].upper(), "reflect", "memory") == [id for id in ids[::-1] if id.startswith(ids[0][:30])]
    assert await complete(memory, "not hexadecimal", argument="id") == []
    for odd in ["\0", "%", "'", "x" * 50_000]:
        assert await complete(memory, odd, "session_start") == []


async def test_entities_are_completed(memory):
    names = ["Ada Lovelace", "Adam", "Zoë", "100% wool"]
    await memory.call("link", entities=[{"name": name} for name in names])
    by = {"argument": "name", "template": "memory://entity/{name}"}
    assert await complete(memory, "ada", **by) == ["Ada Lovelace", "Adam"]
    assert await complete(memory, "ZO\u0045\u0308", **by) == ["Zoë"], "case and the form of accents are ignored"
    assert await complete(memory, "", **by) == ["100% wool", "Ada Lovelace", "Adam", "Zoë"]
    assert await complete(memory, "Ada", "session_start", "entity") == ["Ada Lovelace", "Adam"]
    assert await complete(memory, "x", "session_start", "entity") == []
    for odd in ["\0", "%", "'", "_", "x" * 50_000]:
        assert await complete(memory, odd, **by) == []


async def test_completion_returns_at_most_the_allowed_number_of_values(memory):
    await memory.remember(*({"content": f"Number {n}", "tags": [f"t{n:03}"]} for n in range(120)))
    completion = (await memory.client.complete(PromptReference(name="session_start"), {"name": "tag", "value": "t"})).completion
    assert len(completion.values) == 100 and completion.has_more


async def test_other_arguments_are_not_completed(memory):
    for arguments in [{"prompt": "farewell"}, {"template": "memory://{name}"}]:
        with pytest.raises(MCPError) as raised:
            await complete(memory, "a", **arguments)
        assert raised.value.error.code == -32602


# ------------------------------------------------------------------------------------------------ isolation and logs


async def test_prompts_and_resources_of_another_project_are_not_visible(shared):
    async with over_http(shared.url, next(shared.unused)) as mine, over_http(shared.url, next(shared.unused)) as theirs:
        mark = uuid.uuid4().hex
        [id] = await theirs.remember(episode(f"Secret {mark}", f"situation {mark}", f"lesson {mark}", tags=[mark]))
        assert mark in await say(theirs, "session_start", task=mark)
        assert mark in await read(theirs, "memory://recent")
        for text in [
            await say(mine, "session_start"),
            (await say(mine, "session_start", task="situation", tag=mark)),
            await say(mine, "reflect", memory=id),
            await read(mine, "memory://recent"),
        ]:
            assert f"Secret {mark}" not in text and f"lesson {mark}" not in text
        await theirs.call("focus", action="add", content=f"In mind {mark}")
        await theirs.call("link", entities=[{"name": f"Entity {mark}"}])
        for text in [await say(mine, "session_start", entity=f"Entity {mark}"), await read(mine, "memory://focus")]:
            assert f"In mind {mark}" not in text and "[" not in text.replace(f"Entity {mark}", "")
        assert await complete(mine, "Entity", argument="name", template="memory://entity/{name}") == []
        assert await complete(mine, mark[:5], "session_start") == []
        assert await complete(mine, id, argument="id") == []
        with pytest.raises(MCPError):
            await read(mine, f"memory://{id}")


async def test_prompts_and_resources_work_through_stdio(sqlite, tmp_path):
    async with over_stdio(tmp_path, sqlite.settings) as memory:
        [id] = await memory.remember({"content": "Through the bridge", "tags": ["bridge"]})
        assert "Through the bridge" in await say(memory, "session_start")
        assert "Through the bridge" in await read(memory, f"memory://{id}")
        assert await complete(memory, "br", "session_start") == ["bridge"]


async def test_the_log_contains_no_texts_of_memories(backend, new_service):
    service = new_service(backend)
    async with over_http(service.url) as memory:
        await memory.remember({"content": "Hidden words", "tags": ["secretive"]})
        await say(memory, "session_start", task="some task")
        await read(memory, "memory://recent")
        await complete(memory, "secr", "session_start")

    def readings():
        return [line for line in service.log_lines() if line["message"] == "reading"]

    # The line may be written after the answer was sent.
    wait_until(lambda: len(readings()) >= 3, "three readings are in the log")
    lines = readings()
    assert [(line["kind"], line["outcome"]) for line in lines] == [("prompt", "ok"), ("resource", "ok"), ("completion", "ok")]
    assert all(line["request_id"] and line["project"] == "default" for line in lines)
    assert not any(word in service.log() for word in ["Hidden", "some task", "secr"])
