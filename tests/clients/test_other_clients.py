"""Third-party clients: FastMCP, both TypeScript SDKs, the Inspector; and many clients at the same time."""

import json

import anyio
import fastmcp
import pytest
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

import node
from client import over_http, over_stdio
from service import PATIENCE, binary, clean_environment, free_port

TOKEN = "token-of-ada-0123456789"
TOOLS = ["remember", "recall", "get", "update", "forget", "focus", "link", "explore", "review", "status"]
PROMPTS = ["session_start", "session_end", "reflect"]
MANY = 20


# ------------------------------------------------------------------------------------------------ FastMCP


async def converse(client: fastmcp.Client) -> None:
    assert [tool.name for tool in await client.list_tools()]== TOOLS
    stored = await client.call_tool("remember", {"items": [{"content": "FastMCP met Ada.", "tags": ["harbour"]}]})
    [id] = [memory["id"] for memory in stored.structured_content["memories"]]
    found = await client.call_tool("recall", {"query": "Ada"})
    assert [hit["id"] for hit in found.structured_content["hits"]] == [id]
    refused = await client.call_tool("recall", {"limit": 0}, raise_on_error=False)
    assert refused.is_error and refused.structured_content["error"]["field"] == "limit"
    assert [prompt.name for prompt in await client.list_prompts()] == PROMPTS
    start = await client.get_prompt("session_start", {"task": "Ada"})
    assert "FastMCP met Ada." in start.messages[0].content.text
    assert "memory://recent" in [str(resource.uri) for resource in await client.list_resources()]
    [content] = await client.read_resource(f"memory://{id}")
    assert "FastMCP met Ada." in content.text


async def test_fastmcp_works_over_http(backend, new_service):
    service = new_service(backend, tokens={"ada": TOKEN})
    transport = StreamableHttpTransport(service.url, headers={"Authorization": f"Bearer {TOKEN}"})
    async with fastmcp.Client(transport, timeout=PATIENCE) as client:
        await converse(client)


async def test_fastmcp_works_over_stdio(sqlite, tmp_path):
    environment = clean_environment(tmp_path, sqlite.settings)
    transport = StdioTransport(str(binary()), ["stdio"], env=environment, cwd=str(tmp_path), keep_alive=False)
    async with fastmcp.Client(transport, timeout=PATIENCE) as client:
        await converse(client)


# ------------------------------------------------------------------------------------------------ TypeScript


def check(seen: dict, sdk: str) -> None:
    assert seen["server"]["name"] == "cognitive-memory-mcp" and "recall" in seen["instructions"]
    assert seen["tools"]== TOOLS and seen["prompts"] == PROMPTS
    text = f"Ada met {sdk} at the harbour."
    assert [hit["content"] for hit in seen["found"]["hits"]] == [text]
    assert seen["refused"]["isError"] and seen["refused"]["structuredContent"]["error"]["field"] == "limit"
    assert text in seen["prompt"] and text in seen["read"]
    assert {"memory://recent", "memory://status"} <= set(seen["resources"])
    assert seen["completed"] == ["harbour"]


@pytest.mark.parametrize("sdk", ["v1", "v2"])
def test_the_typescript_sdk_works_over_http(sdk, sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    check(node.typescript(sdk, tmp_path, url=service.url, token=TOKEN), sdk)


@pytest.mark.parametrize("sdk", ["v1", "v2"])
def test_the_typescript_sdk_works_over_stdio(sdk, sqlite, tmp_path):
    environment = clean_environment(tmp_path, sqlite.settings)
    check(node.typescript(sdk, tmp_path, command=str(binary()), environment=environment), sdk)


# ------------------------------------------------------------------------------------------------ Inspector


def test_the_inspector_lists_and_calls_tools(sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    target = [service.url, "--transport", "http", "--header", f"Authorization: Bearer {TOKEN}"]

    def ask(*arguments: str) -> dict:
        done = node.inspector(tmp_path, *target, *arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    # The Inspector also checks whether the schemas suit every model provider.
    done = node.inspector(tmp_path, *target, "--method", "tools/list", "--strict")
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert [tool["name"] for tool in json.loads(done.stdout)["tools"]]== TOOLS
    items = json.dumps([{"content": "The Inspector was here."}])
    stored = ask("--method", "tools/call", "--tool-name", "remember", "--tool-arg", f"items={items}")
    [id] = [memory["id"] for memory in stored["structuredContent"]["memories"]]
    found = ask("--method", "tools/call", "--tool-name", "recall", "--tool-arg", "query=inspector")
    assert [hit["id"] for hit in found["structuredContent"]["hits"]] == [id]
    assert [prompt["name"] for prompt in ask("--method", "prompts/list")["prompts"]] == PROMPTS
    assert "The Inspector was here." in json.dumps(ask("--method", "resources/read", "--uri", f"memory://{id}"))


# ------------------------------------------------------------------------------------------------ concurrency


async def work(memory, number: int) -> None:
    for round in range(5):
        [id] = await memory.remember({"content": f"Client {number} in round {round}", "tags": [f"c{number}"]})
        assert id in await memory.found(f"client {number} round {round}", tags=[f"c{number}"])
        await memory.update(id, importance=0.9, reason="many at once")


async def test_twenty_clients_use_one_service(backend, new_service):
    service = new_service(backend)

    async def one(number: int) -> None:
        async with over_http(service.url, mode="legacy" if number % 2 else "auto") as memory:
            await work(memory, number)

    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as tasks:
            for number in range(MANY):
                tasks.start_soon(one, number)
    async with over_http(service.url) as memory:
        assert (await memory.status())["memories"] == MANY * 5
    trouble = [line for line in service.log_lines() if line.get("level") in ("WARN", "ERROR") or "locked" in json.dumps(line)]
    assert not trouble


async def test_twenty_stdio_processes_use_one_database(backend, tmp_path):
    """On SQLite the first process serves and the others forward to it; on PostgreSQL each one opens the database."""

    async def one(number: int) -> None:
        async with over_stdio(tmp_path, settings, name=f"stdio-{number}") as memory:
            await work(memory, number)
            ended.append(number)
            # The serving process must not end during a request of another one.
            while len(ended) < MANY:
                await anyio.sleep(0.02)

    settings = backend.settings | {"MEMORY_LISTEN": f"127.0.0.1:{free_port()}"}
    ended: list[int] = []
    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as tasks:
            for number in range(MANY):
                tasks.start_soon(one, number)
    async with over_stdio(tmp_path, settings) as memory:
        assert (await memory.status())["memories"] == MANY * 5
    assert not [log.name for log in tmp_path.glob("stdio*.log") if "locked" in log.read_text(errors="replace")]
