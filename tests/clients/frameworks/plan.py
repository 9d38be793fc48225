"""The calls that every client makes, and the checks of the answers and of the stored memories."""

TOOLS = ["remember", "recall", "get", "update", "forget", "focus", "link", "explore", "review", "status"]

FIRST = "The harbour office opens at seven in the morning."
SECOND = "Marta Lindqvist keeps the keys of the boathouse."
ALREADY_KNOWN = "The ferry to the island leaves from pier nine."


def with_nulls(schema: dict, given: dict) -> dict:
    """Adds null for every unset argument, also in nested objects, as clients with strict schemas do."""
    properties = schema.get("properties", {})
    filled = dict.fromkeys(properties) | given
    for name, value in given.items():
        inner = properties.get(name, {}).get("items", {})
        if isinstance(value, list) and inner.get("properties"):
            filled[name] = [with_nulls(inner, item) for item in value]
    return filled


def calls_of(schemas: dict[str, dict], known: str, fill=with_nulls) -> list:
    """Returns calls as models make them. `known` is the ID of an existing memory; `fill` completes the arguments."""
    plain = [
        ["remember", {"items": [{"content": FIRST, "tags": ["harbour"]}]}],
        ["recall", {"query": "When does the harbour office open?", "limit": 3}],
    ]
    filled = [
        ["remember", {"items": [{"content": SECOND, "tags": ["people"]}]}],
        ["recall", {"query": "boathouse keys"}],
        ["get", {"ids": [known]}],
        ["status", {}],
        ["forget", {"ids": [known]}],
    ]
    refused = [["recall", {"query": "harbour", "limit": -1}]]
    return plain + [[tool, fill(schemas[tool], given)] for tool, given in filled] + refused


def check_answers(answers: list[str]) -> None:
    _, found, _, found_with_nulls, got, status, _, refused = answers
    assert FIRST in found, found
    assert SECOND in found_with_nulls, found_with_nulls
    assert ALREADY_KNOWN in got, got
    assert "harbour" in status, "the status lists the tags"
    assert "limit" in refused and "from 1 to 100" in refused, refused


async def prepare(memory) -> tuple[str, dict[str, dict]]:
    """Stores the memory that the framework will read and forget. Returns its ID and the schemas of the tools."""
    [known] = await memory.remember({"content": ALREADY_KNOWN, "tags": ["ferry"]})
    schemas = {tool.name: tool.input_schema for tool in (await memory.client.list_tools()).tools}
    return known, schemas


async def check_memory(memory) -> None:
    """Checks that exactly the requested memories were stored and forgotten."""
    stored = {hit["content"]: hit["tags"] for hit in await memory.browse_all()}
    assert stored == {FIRST: ["harbour"], SECOND: ["people"]}
