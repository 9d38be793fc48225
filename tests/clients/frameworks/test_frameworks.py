"""Agent frameworks and gateways: each lists the tools, converts their schemas, and calls them through its own objects,
without a language model. The official SDK checks the effects."""

import contextlib
import json
import subprocess

import httpx2
import pytest

import openai_schema
from client import over_http, over_stdio
from environments import PATIENCE, Driver, environment_of, python
from plan import TOOLS, calls_of, check_answers, check_memory, prepare
from service import binary, clean_environment, dies_with_us, free_port, http_get, wait_until

TOKEN = "token-of-ada-0123456789"

# Frameworks that send our schemas to a model unchanged.
UNCHANGED_SCHEMAS = ["langchain", "pydantic-ai", "openai-agents"]
FRAMEWORKS = {
    "crewai": Driver("mcp1", "crewai_native"),
    "crewai-tools": Driver("mcp1", "crewai_adapter"),
    "langchain": Driver("mcp1", "langchain_adapter"),
    "llama-index": Driver("mcp2", "llama_index_spec"),
    "openai-agents": Driver("mcp2", "openai_agents_server"),
    "openai-agents-strict": Driver("mcp2", "openai_agents_server", (("MEMORY_TEST_STRICT", "true"),)),
    "pydantic-ai": Driver("mcp2", "pydantic_ai_toolset"),
}


def check_schemas(framework: str, tools: list[dict]) -> None:
    assert [tool["name"] for tool in tools] == TOOLS
    problems = [problem for tool in tools for problem in openai_schema.function_problems(tool)]
    if framework in UNCHANGED_SCHEMAS:
        problems += [problem for tool in tools for problem in openai_schema.open_object_problems(tool)]
    problems += [problem for tool in tools if tool.get("strict") for problem in openai_schema.strict_problems(tool)]
    assert problems == []


def check_sent_nulls(framework: str, sent: list) -> None:
    """Checks that frameworks which send null still do, because the tests about null depend on it."""
    # CrewAI omits unset arguments; crewai-tools adds null for them.
    if framework != "crewai":
        recalled = [arguments for name, arguments in sent if name == "recall"]
        assert any(None in arguments.values() for arguments in recalled), sent


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_framework_works_over_http(framework, sqlite, new_service, tmp_path):
    python(FRAMEWORKS[framework].environment)
    service = new_service(sqlite, tokens={"ada": TOKEN})
    async with over_http(service.url, TOKEN) as memory:
        known, schemas = await prepare(memory)
        connection = {"url": service.url, "headers": {"Authorization": f"Bearer {TOKEN}"}}
        seen = FRAMEWORKS[framework].run(tmp_path, connection, calls_of(schemas, known))
        check_schemas(framework, seen["tools"])
        check_answers(seen["answers"])
        check_sent_nulls(framework, seen["sent"])
        await check_memory(memory)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_framework_works_over_stdio(framework, sqlite, tmp_path):
    python(FRAMEWORKS[framework].environment)
    async with over_stdio(tmp_path / "before", sqlite.settings) as memory:
        known, schemas = await prepare(memory)
    environment = clean_environment(tmp_path, sqlite.settings)
    connection = {"command": str(binary()), "args": ["stdio"], "env": environment}
    seen = FRAMEWORKS[framework].run(tmp_path, connection, calls_of(schemas, known))
    check_schemas(framework, seen["tools"])
    check_answers(seen["answers"])
    async with over_stdio(tmp_path / "after", sqlite.settings) as memory:
        await check_memory(memory)


def test_strict_schemas_are_used_if_possible(sqlite, new_service, tmp_path):
    """Tools become strict unless they have objects without declared properties."""
    service = new_service(sqlite)
    seen = FRAMEWORKS["openai-agents-strict"].run(tmp_path, {"url": service.url, "headers": {}}, [])
    assert {"recall", "get", "forget", "explore", "review"} <= {tool["name"] for tool in seen["tools"] if tool["strict"]}


# ------------------------------------------------------------------------------------------------ mcpo


@contextlib.contextmanager
def mcpo(folder, *target: str, **environment: str):
    """Starts a gateway that offers the tools as an OpenAPI service. Yields its address."""
    port = free_port()
    with (folder / "mcpo.log").open("w") as log:
        process = subprocess.Popen(
            [python("mcp1").parent / "mcpo", "--host", "127.0.0.1", "--port", str(port), *target],
            cwd=folder, env=environment_of(folder / "home", **environment),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_us,
        )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: http_get(f"{base}/openapi.json")[0] == 200 or process.poll() is not None, "mcpo listens", PATIENCE)
        assert process.poll() is None, (folder / "mcpo.log").read_text()[-4000:]
        yield base
    finally:
        process.terminate()
        process.wait(PATIENCE)


async def call_through_mcpo(base: str, calls: list) -> list[str]:
    async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        document = (await http.get(f"{base}/openapi.json")).json()
        assert [path.strip("/") for path in document["paths"]] == TOOLS
        answers = []
        for tool, arguments in calls:
            answer = await http.post(f"{base}/{tool}", json=arguments)
            answers.append(json.dumps(answer.json(), ensure_ascii=False))
        return answers


def only_given(_schema: dict, given: dict) -> dict:
    """The models that mcpo generates from our schemas reject null before the service is called."""
    return given


async def test_mcpo_works_over_http(sqlite, new_service, tmp_path):
    python("mcp1")
    service = new_service(sqlite, tokens={"ada": TOKEN})
    headers = json.dumps({"Authorization": f"Bearer {TOKEN}"})
    async with over_http(service.url, TOKEN) as memory:
        known, schemas = await prepare(memory)
        with mcpo(tmp_path, "--server-type", "streamable-http", "--header", headers, "--", service.url) as base:
            check_answers(await call_through_mcpo(base, calls_of(schemas, known, only_given)))
        await check_memory(memory)


async def test_mcpo_works_over_stdio(sqlite, tmp_path):
    python("mcp1")
    async with over_stdio(tmp_path / "before", sqlite.settings) as memory:
        known, schemas = await prepare(memory)
    with mcpo(tmp_path, "--", str(binary()), "stdio", **sqlite.settings) as base:
        check_answers(await call_through_mcpo(base, calls_of(schemas, known, only_given)))
    async with over_stdio(tmp_path / "after", sqlite.settings) as memory:
        await check_memory(memory)
