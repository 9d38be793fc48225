"""The largest requests that a client can send and a memory of the largest records, for measuring how much memory the
service uses. Bodies are built once for all tests."""

import dataclasses
import functools
import http.client
import itertools
import json
import random
import urllib.parse

import wire
from service import PATIENCE, Service

MIB = 1024 * 1024
BODY_LIMIT = 4 * MIB
# Limits of a stored record, as the tools document them.
CONTENT_BYTES = 64 * 1024
EPISODE_BYTES = 16 * 1024
METADATA_BYTES = 16 * 1024
# Objects and arrays in one call.
CONTAINERS = 30_000
# Entities of the graph around HUB.
NEIGHBOURS = 500
HUB = "Hub of everything"
# A word in each stored text.
COMMON = "everywhere"
# Replaced by another word in each request, so that no text is a repetition of a stored one.
NEW = "a-new-word"


# ------------------------------------------------------------------------------------------------ texts and objects


@functools.cache
def words(size: int, seed: int) -> str:
    """Returns text of different words, each of which is a separate index term."""
    text, number = [], seed * 1_000_003
    length = 0
    while length < size:
        number = (number * 6364136223846793005 + 1442695040888963407) % 2**64
        word = f"w{number >> 40:x}"
        text.append(word)
        length += len(word) + 1
    return " ".join(text)[:size]


@functools.cache
def vocabulary() -> list[str]:
    return words(4_000, 99).split()


def prose(size: int, seed: int) -> str:
    """Text of few different words in a different order for each seed, which is indexed quickly."""
    chooser = random.Random(seed)
    return (f"{COMMON} n{seed} " + " ".join(chooser.choices(vocabulary(), k=size // 6)))[:size]


def wide_text(size: int, seed: int) -> str:
    """Text of the same size in bytes whose characters have four bytes each."""
    head = f"{COMMON} n{seed} "
    return head + "😀" * ((size - len(head)) // 4)


def small_objects(size: int) -> dict:
    """An object that needs many times more memory than the bytes of its JSON text."""
    return {"a": [{"": 0}] * ((size - 16) // 8)}


def count_containers(value: dict) -> int:
    return json.dumps(value).count("{") + json.dumps(value).count("[")


# ------------------------------------------------------------------------------------------------ attacks


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


def attack(unit: str, size: int = BODY_LIMIT) -> str:
    """Returns a body of the maximum size that repeats a small nested value."""
    head = '{"jsonrpc":"2.0","id":"attack","method":"x","params":{"a":['
    count = (size - len(head) - 3) // (len(unit) + 1)
    return head + ",".join([unit] * count) + "]}}"


ATTACKS = {
    "nested objects": attack(nested('{"a":', "}", 55)),
    "nested lists": attack(nested("[", "]", 55)),
    "deeper than the limit": attack(nested('{"a":', "}", 100)),
    "empty objects": attack("{}"),
    "empty lists": attack("[]"),
    "numbers": attack("1"),
    "one-key objects": attack('{"a":1}'),
    "arguments of a tool": attack('{"a":{}}').replace(
        '"method":"x","params":{"a":[', '"method":"tools/call","params":{"name":"remember","arguments":{"items":['
    ) + "}",
    "a batch": "[" + ",".join(['{"a":{}}'] * (BODY_LIMIT // 9)) + "]",
}


# ------------------------------------------------------------------------------------------------ sending


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An answer of which only the beginning of the body is kept."""

    status: int
    retry_after: str | None
    size: int
    beginning: bytes


_runs = itertools.count()


def exchange(service: Service, body: str, patience: float = 4 * PATIENCE) -> Outcome:
    """Sends a request and reads all of its answer. The service ends every call after its request timeout; a busy
    machine takes longer for the rest."""
    body = body.replace(NEW, f"new-{next(_runs):06}")
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=patience)
    try:
        connection.request("POST", "/mcp", body.encode(), wire.JSON_HEADERS)
        response = connection.getresponse()
        beginning, size = b"", 0
        while piece := response.read(256 * 1024):
            beginning, size = beginning or piece[:2_000], size + len(piece)
        return Outcome(response.status, response.getheader("retry-after"), size, beginning)
    finally:
        connection.close()


def result_of(service: Service, body: str) -> dict:
    """The structured answer of a call that must succeed."""
    answer = wire.send(service, body=body, patience=4 * PATIENCE)
    assert answer.status == 200 and "result" in answer.json, answer
    result = answer.json["result"]
    assert not result.get("isError"), answer
    return result["structuredContent"]


# ------------------------------------------------------------------------------------------------ a large memory


@dataclasses.dataclass
class Filled:
    """The result of `fill`: IDs by kind of record, and a time before their changes."""

    plain: list[str]
    wide: list[str]
    nested: list[str]
    protected: list[str]
    before_changes: str

    @property
    def ids(self) -> list[str]:
        return self.plain + self.wide + self.nested


def call_in_parts(service: Service, tool: str, field: str, items: list[dict]) -> list[dict]:
    """Calls a tool for a list of items in as many calls as the limits require. Returns the answers."""
    answers, part, size, containers = [], [], 0, 0
    for item in items:
        text = json.dumps(item)
        added = text.count("{") + text.count("[")
        if part and (size + len(text) > BODY_LIMIT - 10_000 or containers + added > CONTAINERS - 100 or len(part) == 500):
            answers.append(result_of(service, wire.call(tool, {field: part})))
            part, size, containers = [], 0, 0
        part, size, containers = part + [item], size + len(text) + 2, containers + added
    return answers + [result_of(service, wire.call(tool, {field: part}))]


def remember_all(service: Service, items: list[dict]) -> list[str]:
    return [memory["id"] for answer in call_in_parts(service, "remember", "items", items) for memory in answer["memories"]]


def update_all(service: Service, changes: list[dict]) -> None:
    """Updates memories in batches of JSON-RPC whose bodies and answers fit into the limits."""
    part, size, containers = [], 0, 0
    for change in changes + [None]:
        text = wire.call("update", change) if change else ""
        added = text.count("{") + text.count("[")
        if part and (not change or size + len(text) > BODY_LIMIT - 10_000 or containers + added > CONTAINERS - 100 or len(part) == 10):
            answer = wire.send(service, body=f"[{','.join(part)}]", patience=4 * PATIENCE)
            results = [message.get("result", {"isError": True}) for message in answer.json]
            assert not any(result.get("isError") for result in results), answer
            part, size, containers = [], 0, 0
        part, size, containers = part + [text], size + len(text) + 2, containers + added


def fill(service: Service) -> Filled:
    """Stores records of the maximum size, and changes them, so that reads are as expensive as possible."""
    tags = ["plain"] + [f"tag {n:02} ".ljust(120, "x") for n in range(31)]
    plain = remember_all(
        service,
        [
            {"content": prose(CONTENT_BYTES - 100, n), "kind": "episode", "situation": prose(EPISODE_BYTES - 100, n),
             "lesson": prose(EPISODE_BYTES - 100, n), "outcome": 0.5, "tags": tags, "importance": 1,
             "metadata": {"text": "m" * (METADATA_BYTES - 100)}}
            for n in range(110)
        ],
    )  # fmt: skip
    wide = remember_all(
        service,
        [{"content": wide_text(CONTENT_BYTES - 100, n), "tags": ["wide"], "entities": [HUB]} for n in range(1_000, 1_110)],
    )
    costly = small_objects(METADATA_BYTES - 100)
    nested = remember_all(
        service, [{"content": f"{COMMON} n{n}", "metadata": costly, "tags": ["nested"], "entities": [HUB]} for n in range(2_000, 2_100)]
    )
    protected = remember_all(service, [{"content": f"{COMMON} n{n}", "protected": True} for n in range(3_000, 3_040)])
    remember_all(
        service,
        [
            {"content": f"{COMMON} n{n}", "tags": [f"{n} {m} ".ljust(100, "y") for m in range(2)],
             "speaker": f"{n} ".ljust(200, "y"), "session": f"{n} ".ljust(200, "y")}
            for n in range(4_000, 4_500)
        ],
    )  # fmt: skip
    before_changes = result_of(service, wire.call("get", {"ids": protected[:1]}))["memories"][0]["created_at"]
    update_all(service, [{"id": id, "content": prose(CONTENT_BYTES - 100, n)} for n, id in enumerate(plain, 5_000)])
    update_all(service, [{"id": id, "content": wide_text(CONTENT_BYTES - 100, n)} for n, id in enumerate(wide, 6_000)])
    update_all(service, [{"id": id, "metadata": {"a": costly["a"][1:]}} for id in nested])
    update_all(service, [{"id": id, "content": wide_text(CONTENT_BYTES - 100, 7)} for id in protected[:20]])
    update_all(service, [{"id": id, "metadata": costly} for id in protected[20:]])
    store_graph(service, costly)
    for n in range(30):
        result_of(service, wire.call("focus", {"action": "add", "content": wide_text(EPISODE_BYTES - 100, n)}))
    return Filled(plain, wide, nested, protected, before_changes)


def store_graph(service: Service, costly: dict) -> None:
    """Stores an entity with many neighbors; the relations have properties of the maximum size."""
    text = {"text": "p" * (METADATA_BYTES - 100)}
    entities = [{"name": f"Neighbour {n}", "type": "thing", "properties": text} for n in range(NEIGHBOURS)]
    call_in_parts(service, "link", "entities", entities)
    relations = [
        {"from": HUB, "type": kind, "to": f"Neighbour {n}", "properties": text}
        for kind in ["knows", "uses"]
        for n in range(NEIGHBOURS)
    ]
    call_in_parts(service, "link", "relations", relations)
    relations = [{"from": HUB, "type": "nests", "to": f"Nested {n}", "properties": costly} for n in range(100)]
    call_in_parts(service, "link", "relations", relations)
    call_in_parts(service, "link", "entities", [{"name": f"Nested {n}", "properties": costly} for n in range(100)])


# ------------------------------------------------------------------------------------------------ requests


def largest_value(schema: dict, budget: int, seed: int = 1):
    """Returns a value that fits a schema and is as large as permitted, within about this number of bytes."""
    schema = next(iter(schema.get("anyOf", [])), schema)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "array":
        count = min(schema.get("maxItems", 200), 200)
        return [largest_value(schema.get("items", {}), budget // count, seed * 1000 + n) for n in range(count)]
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: largest_value(field, budget // max(len(fields), 1), seed) for name, field in fields.items()}
    if kind in ("integer", "number"):
        return schema.get("maximum", 1)
    if kind == "boolean":
        return True
    return words(min(budget, 60_000), seed)


def listed(service: Service, kind: str, field: str | None = None) -> list[dict]:
    return wire.send(service, body=wire.request(f"{kind}/list")).json["result"][field or kind]


def by_schema(service: Service) -> dict[str, str]:
    """The largest calls of every tool that can be derived from its schema."""
    room = BODY_LIMIT - 64 * 1024
    calls = {}
    for tool in listed(service, "tools"):
        name, schema = tool["name"], tool["inputSchema"]
        calls[f"{name}: by its schema"] = wire.call(name, largest_value(schema, room // 2))
        for field, kind in schema.get("properties", {}).items():
            if "string" in str(kind.get("type")):
                calls[f"{name}: a large {field}"] = wire.call(name, {field: words(room, 7)})
            if kind.get("type") == "array":
                calls[f"{name}: many {field} as text"] = wire.call(name, {field: f"[{'7,' * (room // 3)}7]"})
            if "properties" in kind:
                calls[f"{name}: a large {field}"] = wire.call(name, {field: {"a": [{"": 0}] * (CONTAINERS - 10)}})
    return calls


def writing(filled: Filled) -> dict[str, str]:
    """Returns calls that store the maximum amount."""
    calls = {}
    calls["remember: large texts"] = wire.call("remember", {"items": [{"content": f"{NEW} {words(64_000, n)}"} for n in range(1, 64)]})
    calls["remember: large wide texts"] = wire.call_unescaped(
        "remember", {"items": [{"content": f"{NEW} {wide_text(CONTENT_BYTES - 100, n)}"} for n in range(1, 64)]}
    )
    calls["remember: many items"] = wire.call(
        "remember",
        {"items": [{"content": f"{NEW} {words(7_000, n)}", "tags": [f"t{n}"], "entities": [f"E{n}"]} for n in range(1, 501)]},
    )
    calls["remember: many relations"] = wire.call(
        "remember",
        {"items": [
            {"content": f"{NEW} {n}", "relations": [{"from": f"A{n} {m}", "type": "knows", "to": f"B{n} {m}"} for m in range(40)]}
            for n in range(500)
        ]},
    )  # fmt: skip
    calls["remember: many tags"] = wire.call(
        "remember", {"items": [{"content": f"{NEW} {n}", "tags": [f"{n} {m} tag" for m in range(32)]} for n in range(500)]}
    )
    # JSON text in place of a value, which is parsed, too. The first count is refused, the second is accepted.
    small = ",".join(['{"":0}'] * 2_000)
    for count in [400, 14]:
        for what, metadata in {"": {"a": json.loads(f"[{small}]")}, " as text": f'{{"a":[{small}]}}'}.items():
            calls[f"remember: {count} costly metadata{what}"] = wire.call(
                "remember", {"items": [{"content": f"{NEW} {n}", "metadata": metadata} for n in range(count)]}
            )
    calls["remember: items as text"] = wire.call(
        "remember", {"items": json.dumps([{"content": f"{NEW} {n}", "metadata": {"a": [{"": 0}] * 50}} for n in range(490)])}
    )
    keys = {f"k{n}": {"a": 1} for n in range(500)}
    calls["remember: metadata as text"] = wire.call(
        "remember", {"items": [{"content": f"{NEW} {n}", "metadata": json.dumps(keys)} for n in range(59)]}
    )
    numbers = json.dumps({"a": [7] * 5_000})
    calls["remember: numbers as text"] = wire.call(
        "remember", {"items": [{"content": f"{NEW} {n}", "metadata": numbers} for n in range(39)]}
    )
    calls["link: many relations"] = wire.call(
        "link", {"relations": [{"from": f"L{n}", "type": "knows", "to": f"M{n}", "properties": {"text": "x" * 3_500}} for n in range(1_000)]}
    )
    calls["link: costly properties"] = wire.call(
        "link", {"relations": [{"from": f"L{n}", "type": "nests", "to": f"M{n}", "properties": {"a": json.loads(f"[{small}]")}} for n in range(14)]}
    )
    calls["update: the largest change"] = wire.call(
        "update", {"id": filled.plain[0], "content": words(CONTENT_BYTES - 100, 3), "metadata": small_objects(METADATA_BYTES - 200)}
    )
    for mode in ["delete", "restore", "purge"]:
        calls[f"forget: many, {mode}"] = wire.call("forget", {"ids": filled.plain[-5:] + filled.nested[-100:-5], "mode": mode})
    return calls


def reading(filled: Filled) -> dict[str, str]:
    """Returns calls with small bodies and the largest answers."""
    calls = {}
    most = {"max_chars": 1_000_000}
    for name, ids in {"plain": filled.plain, "wide": filled.wide, "nested": filled.nested}.items():
        calls[f"get: {name}"] = wire.call("get", {"ids": ids[:200]})
        calls[f"get: {name}, all"] = wire.call("get", {"ids": ids[:200]} | most)
        calls[f"get: {name}, all, with history"] = wire.call("get", {"ids": ids[:200], "history": True} | most)
        calls[f"get: {name}, one, with history"] = wire.call("get", {"ids": ids[:1], "history": True} | most)
    calls["get: entities"] = wire.call("get", {"entities": [HUB] + [f"Nested {n}" for n in range(19)]} | most)
    calls["get: neighbours"] = wire.call("get", {"entities": [HUB] + [f"Neighbour {n}" for n in range(19)]} | most)
    everything = {"limit": 100, "detail": "full", "explain": True, "include_outdated": True} | most
    for name, query in {"newest": {}, "query": {"query": f"{COMMON} {' '.join(vocabulary()[:20])}"}}.items():
        calls[f"recall: {name}"] = wire.call("recall", query)
        calls[f"recall: {name}, index"] = wire.call("recall", query | {"limit": 100, "detail": "index"})
        for kind in ["plain", "wide", "nested"]:
            of_kind = query | {"tags": [kind]}
            calls[f"recall: {name}, {kind}"] = wire.call("recall", of_kind)
            calls[f"recall: {name}, {kind}, 100"] = wire.call("recall", of_kind | {"limit": 100})
            calls[f"recall: {name}, {kind}, everything"] = wire.call("recall", of_kind | everything)
            past = {"as_of": filled.before_changes}
            calls[f"recall: {name}, {kind}, as_of"] = wire.call("recall", of_kind | everything | past)
        calls[f"recall: {name}, as_of"] = wire.call("recall", query | {"as_of": filled.before_changes})
        calls[f"recall: {name}, valid_at"] = wire.call("recall", query | everything | {"valid_at": filled.before_changes})
    calls["recall: the longest query"] = wire.call("recall", {"query": words(9_000, 1)} | everything)
    for kind in ["knows", "nests", None]:
        narrowed = {"type": kind} if kind else {}
        for mode in ["neighbours", "suggest"]:
            calls[f"explore: {mode}, {kind}"] = wire.call("explore", {"name": HUB, "mode": mode, "limit": 500} | narrowed)
    calls["explore: default"] = wire.call("explore", {"name": HUB})
    calls["explore: deep"] = wire.call("explore", {"name": HUB, "depth": 5, "limit": 500})
    calls["explore: path"] = wire.call("explore", {"name": "Neighbour 1", "to": "Nested 1", "mode": "path"})
    for kind in [None, "thing"]:
        calls[f"explore: list, {kind}"] = wire.call("explore", {"mode": "list", "limit": 500} | ({"type": kind} if kind else {}))
    calls["review: list"] = wire.call("review", {"action": "list"})
    for narrowed in [{}, {"entity": HUB}, {"id": filled.plain[0]}, {"id": filled.wide[0]}]:
        calls[f"review: candidates {', '.join(narrowed)}"] = wire.call("review", {"action": "candidates"} | narrowed)
    calls["focus: list"] = wire.call("focus", {"action": "list"})
    calls["focus: archive"] = wire.call("focus", {"action": "list", "archived": True})
    calls["status: everything"] = wire.call("status", {"limit": 1_000})
    return calls


def prompts(service: Service, filled: Filled) -> dict[str, str]:
    """Every prompt without arguments, with the most useful ones, and with the largest ones."""
    calls = {}
    real = {"memory": filled.wide[0], "entity": HUB, "task": COMMON, "tag": "tag 01 ".ljust(120, "x")}
    for prompt in listed(service, "prompts"):
        name, arguments = prompt["name"], [argument["name"] for argument in prompt.get("arguments", [])]
        calls[f"prompt {name}"] = wire.request("prompts/get", {"name": name})
        variants = {
            "filled in": {argument: real.get(argument, prose(5_000, 1)) for argument in arguments},
            "large": {argument: words(20_000, 3) for argument in arguments},
            "largest": {argument: words(4_000_000 // len(arguments), 3) for argument in arguments},
        }
        for argument in arguments:
            variants[f"largest {argument}"] = {argument: words(4_000_000, 3)}
            if argument in real:
                variants[f"only {argument}"] = {argument: real[argument]}
        for variant, given in variants.items():
            calls[f"prompt {name}, {variant}"] = wire.request("prompts/get", {"name": name, "arguments": given})
    return calls


def resources(service: Service, filled: Filled) -> dict[str, str]:
    """Every resource, every template with the largest record behind it, and the longest address."""
    uris = [resource["uri"] for resource in listed(service, "resources")]
    for template in listed(service, "resources/templates", "resourceTemplates"):
        address = template["uriTemplate"]
        values = [HUB] if "name" in address else [filled.plain[0], filled.wide[0], filled.nested[0]]
        uris += [address.split("{")[0] + urllib.parse.quote(value) for value in values + ["%41" * 18_000]]
    return {f"resource {uri[:25]}…{uri[-4:]}": wire.request("resources/read", {"uri": uri}) for uri in uris}


def completions(service: Service) -> dict[str, str]:
    """Returns every completion, of an empty and of the longest value."""
    references = [
        ({"type": "ref/prompt", "name": prompt["name"]}, argument["name"])
        for prompt in listed(service, "prompts")
        for argument in prompt.get("arguments", [])
    ]
    for template in listed(service, "resources/templates", "resourceTemplates"):
        address = template["uriTemplate"]
        references.append(({"type": "ref/resource", "uri": address}, address.split("{")[1].strip("}")))
    return {
        f"completion of {reference.get('name') or reference.get('uri')} {name}, {length}": wire.request(
            "completion/complete", {"ref": reference, "argument": {"name": name, "value": words(length, 1)}}
        )
        for reference, name in references
        for length in [0, 60_000, 4_000_000]
    }


def batches(filled: Filled) -> dict[str, str]:
    """Returns batches with the maximum number of messages."""
    read = reading(filled)
    messages = {name: read[name] for name in [
        "get: plain, all", "get: wide, all", "get: nested, all", "recall: newest, wide, everything", "recall: newest, plain, as_of",
        "explore: neighbours, None", "get: entities",
    ]}  # fmt: skip
    calls = {f"batch of {name}": f"[{','.join([message] * 50)}]" for name, message in messages.items()}
    texts = [wire.call("remember", {"items": [{"content": f"{NEW} {words(60_000, n)}"}]}) for n in range(50)]
    calls["batch of remember"] = f"[{','.join(texts)}]"
    return calls


def lists() -> dict[str, str]:
    methods = ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "ping", "unknown/method"]
    large = {"cursor": words(60_000, 1)}
    return {method: wire.request(method) for method in methods} | {
        f"{method}, large": wire.request(method, large) for method in methods
    }


def all_requests(service: Service, filled: Filled) -> dict[str, str]:
    """Returns the largest requests of every tool, prompt and resource, by name. Both accepted and refused requests
    are included, because both use memory."""
    calls = reading(filled) | by_schema(service) | prompts(service, filled) | resources(service, filled)
    calls |= completions(service) | batches(filled) | lists() | writing(filled)
    return calls | {f"attack: {name}": body for name, body in ATTACKS.items()}
