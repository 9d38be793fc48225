"""Command-line clients without an account: each registers the memory as docs/clients.md describes, connects to it, and
notices a wrong token. Claude Code and OpenCode call the tools for a scripted model, Codex and mcp-remote without one."""

import asyncio
import contextlib
import json
import pathlib
import re
import subprocess

import mcp
import pytest
from mcp.client.stdio import stdio_client

import openai_schema
from client import Memory, over_http, over_stdio
from environments import PATIENCE, environment_of, node, node_package
from plan import TOOLS, calls_of, check_answers, check_memory, prepare
from scripted_model import ScriptedModel
from service import binary

TOKEN = "token-of-ada-0123456789"
WRONG_TOKEN = "token-of-nobody-012345"
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def platform_binary(packages: str, inside: str) -> pathlib.Path:
    """The program for this machine; npm installs only the packages that fit it."""
    found = sorted(node_package(".").resolve().glob(f"{packages}/{inside}"))
    if not found:
        pytest.skip(f"{packages} is not installed for this kind of machine")
    return found[0]


class Client:
    """A command-line client with a separate home folder."""

    # Its name in `connect`.
    name: str

    def __init__(self, folder: pathlib.Path, *command: str | pathlib.Path, **environment: str) -> None:
        self.command = command
        self.home = folder / "home"
        self.work = folder / "work"
        self.work.mkdir()
        self.environment = environment_of(self.home, **environment)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments], cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        # Gemini CLI prints its lists to stderr.
        output = TERMINAL_CODES.sub("", done.stdout + done.stderr)
        assert done.returncode == 0, output
        return output

    def connect(self, *arguments: str) -> None:
        """Runs `connect` for this client, and stores settings that its commands read."""
        self.write(".config/cognitive-memory-mcp/.env.development", "MEMORY_EMBEDDER=none\n")
        done = subprocess.run(
            [binary(), "connect", self.name, *arguments], cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def write(self, name: str, text: str) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class ClaudeCode(Client):
    name = "claude-code"
    connected, failed = "Connected", "Failed to connect"

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder, platform_binary("@anthropic-ai/claude-code-*", "claude"))

    def add_http(self, url: str, token: str) -> None:
        header = f"Authorization: Bearer {token}"
        self.run("mcp", "add", "--scope", "user", "--transport", "http", "memory", url, "--header", header)

    def add_stdio(self, settings: dict[str, str]) -> None:
        variables = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
        self.run("mcp", "add", "--scope", "user", "memory", *variables, "--", str(binary()), "stdio")


class GeminiCli(Client):
    name = "gemini"
    connected, failed = "Connected", "Disconnected"

    def __init__(self, folder: pathlib.Path) -> None:
        script = node_package("@google/gemini-cli")
        entry = json.loads((script / "package.json").read_text())["bin"]["gemini"]
        super().__init__(folder, node(), script / entry, GEMINI_CLI_TRUST_WORKSPACE="true")

    def add_http(self, url: str, token: str) -> None:
        header = f"Authorization: Bearer {token}"
        self.run("mcp", "add", "--scope", "user", "--transport", "http", "-H", header, "memory", url)

    def add_stdio(self, settings: dict[str, str]) -> None:
        variables = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
        self.run("mcp", "add", "--scope", "user", *variables, "memory", str(binary()), "stdio")


class OpenCode(Client):
    name = "opencode"
    connected, failed = "connected", "failed"

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder, platform_binary("opencode-linux-*", "bin/opencode"))

    def configure(self, server: dict) -> None:
        self.write(".config/opencode/opencode.json", json.dumps({"mcp": {"memory": server}}))

    def add_http(self, url: str, token: str) -> None:
        self.configure({"type": "remote", "url": url, "headers": {"Authorization": f"Bearer {token}"}})

    def add_stdio(self, settings: dict[str, str]) -> None:
        self.configure({"type": "local", "command": [str(binary()), "stdio"], "environment": settings})


CLIENTS = {"claude-code": ClaudeCode, "gemini-cli": GeminiCli, "opencode": OpenCode}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_connects_over_http(name, sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    client = CLIENTS[name](tmp_path)
    client.add_http(service.url, TOKEN)
    listed = client.run("mcp", "list")
    assert client.connected in listed and client.failed not in listed and service.url in listed


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_notices_a_wrong_token(name, sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    client = CLIENTS[name](tmp_path)
    client.add_http(service.url, WRONG_TOKEN)
    listed = client.run("mcp", "list")
    assert client.failed in listed


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_connects_over_stdio(name, sqlite, tmp_path):
    client = CLIENTS[name](tmp_path)
    client.add_stdio(sqlite.settings | {"MEMORY_EMBEDDER": "none"})
    listed = client.run("mcp", "list")
    assert client.connected in listed and client.failed not in listed and str(binary()) in listed


@pytest.mark.parametrize("name", CLIENTS)
def test_connect_adds_a_command_and_removes_it(name, tmp_path):
    client = CLIENTS[name](tmp_path)
    client.connect()
    listed = client.run("mcp", "list")
    assert client.connected in listed and client.failed not in listed and str(binary()) in listed
    client.connect("--remove")
    assert str(binary()) not in client.run("mcp", "list")


@pytest.mark.parametrize("name", CLIENTS)
def test_connect_adds_a_service_with_a_token_from_the_environment(name, sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    client = CLIENTS[name](tmp_path)
    client.environment["MEMORY_TOKEN"] = TOKEN
    client.connect("--url", service.url)
    listed = client.run("mcp", "list")
    assert client.connected in listed and client.failed not in listed and service.url in listed
    files = [path for path in client.home.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()], "the token is stored nowhere"


# ------------------------------------------------------------------------------------------------ a scripted model


def run_claude_code(folder: pathlib.Path, service, model: ScriptedModel) -> None:
    client = ClaudeCode(folder)
    client.add_http(service.url, TOKEN)
    client.environment |= {
        "ANTHROPIC_API_KEY": "unused",
        "ANTHROPIC_BASE_URL": model.base,
        # Otherwise the first request may lack the tools, or contain a tool that searches for them.
        "ENABLE_TOOL_SEARCH": "false",
        "MCP_CONNECTION_NONBLOCKING": "false",
    }
    client.run("--print", "Follow the script.", "--allowedTools", "mcp__memory")


def run_opencode(folder: pathlib.Path, service, model: ScriptedModel) -> None:
    client = OpenCode(folder)
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{model.base}/v1", "apiKey": "unused"},
        "models": {"script": {"name": "script"}},
    }
    server = {"type": "remote", "url": service.url, "headers": {"Authorization": f"Bearer {TOKEN}"}}
    settings = {"mcp": {"memory": server}, "provider": {"scripted": provider}, "model": "scripted/script"}
    client.write(".config/opencode/opencode.json", json.dumps(settings))
    client.run("run", "Follow the script.")


@pytest.mark.parametrize("run_client", [run_claude_code, run_opencode])
async def test_a_client_calls_the_tools_for_a_scripted_model(run_client, sqlite, new_service, tmp_path):
    node_package(".")
    service = new_service(sqlite, tokens={"ada": TOKEN})
    async with over_http(service.url, TOKEN) as memory:
        known, schemas = await prepare(memory)
        with ScriptedModel(calls_of(schemas, known)) as model:
            await asyncio.to_thread(run_client, tmp_path, service, model)
        ours = [tool for tool in model.offered if "memory" in tool["name"]]
        assert sorted(tool["name"].split("_")[-1] for tool in ours) == sorted(TOOLS)
        assert [problem for tool in ours for problem in openai_schema.function_problems(tool)] == []
        check_answers(model.answers)
        await check_memory(memory)


# ------------------------------------------------------------------------------------------------ Codex


class Codex(Client):
    """Codex. Its app server, which editors use, connects to MCP servers and calls their tools without a model."""

    name = "codex"

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder, node(), node_package("@openai/codex") / "bin/codex.js")
        # Codex prepares a connection to the model for every conversation; this address does not exist.
        self.write(".codex/config.toml", 'model_provider = "nobody"\ncheck_for_update_on_startup = false\n'
                   '[model_providers.nobody]\nname = "nobody"\nbase_url = "http://127.0.0.1:9/v1"\n')  # fmt: skip

    @contextlib.asynccontextmanager
    async def app_server(self):
        process = await asyncio.create_subprocess_exec(
            *self.command, "app-server", cwd=self.work, env=self.environment, limit=16 << 20,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        server = AppServer(process)
        try:
            client = {"name": "test", "title": "test", "version": "1"}
            await server.request("initialize", clientInfo=client)
            server.send({"method": "initialized"})
            yield server
        finally:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            finally:
                if process.returncode is None:
                    process.kill()


class AppServer:
    """JSON-RPC with `codex app-server`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.requests = 0

    def send(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def request(self, method: str, **params) -> dict:
        self.requests += 1
        self.send({"id": self.requests, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await self.process.stdout.readline()
                assert line, f"codex ended before it answered {method}"
                message = json.loads(line)
                if message.get("id") == self.requests:
                    assert "result" in message, f"{method}: {message}"
                    return message["result"]


async def check_tools_in_codex(codex: Codex) -> None:
    text = "Codex was at the harbour."
    async with codex.app_server() as server:
        [status] = (await server.request("mcpServerStatus/list"))["data"]
        tools = status["tools"]
        assert status["serverInfo"]["name"] == "cognitive-memory-mcp" and sorted(tools) == sorted(TOOLS)
        offered = [
            {"name": name, "description": tool["description"], "parameters": tool["inputSchema"]}
            for name, tool in tools.items()
        ]
        assert [problem for tool in offered for problem in openai_schema.function_problems(tool)] == []
        thread = (await server.request("thread/start", ephemeral=True))["thread"]["id"]

        async def call(tool: str, **arguments) -> dict:
            result = await server.request(
                "mcpServer/tool/call", threadId=thread, server="memory", tool=tool, arguments=arguments
            )
            assert not result["isError"], result
            return result

        [memory] = (await call("remember", items=[{"content": text, "tags": None}]))["structuredContent"]["memories"]
        assert text in (await call("recall", query="harbour", limit=None))["content"][0]["text"]
        assert text in (await call("get", ids=[memory["id"]]))["content"][0]["text"]
        assert (await call("status"))["structuredContent"]["memories"] == 1
        assert (await call("forget", ids=[memory["id"]]))["structuredContent"]["changed"] == 1


async def test_codex_calls_the_tools_over_http(sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    codex = Codex(tmp_path)
    codex.environment["MEMORY_TOKEN"] = TOKEN
    codex.run("mcp", "add", "memory", "--url", service.url, "--bearer-token-env-var", "MEMORY_TOKEN")
    [listed] = json.loads(codex.run("mcp", "list", "--json").split("WARNING")[0])
    assert listed["name"] == "memory" and listed["transport"]["url"] == service.url
    await check_tools_in_codex(codex)


async def test_codex_calls_the_tools_over_stdio(sqlite, tmp_path):
    codex = Codex(tmp_path)
    settings = sqlite.settings | {"MEMORY_EMBEDDER": "none"}
    variables = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    codex.run("mcp", "add", *variables, "memory", "--", str(binary()), "stdio")
    await check_tools_in_codex(codex)
    async with over_stdio(tmp_path / "after", sqlite.settings) as memory:
        assert (await memory.status())["deleted"] == 1


async def test_connect_adds_a_service_to_codex(sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": TOKEN})
    codex = Codex(tmp_path)
    codex.environment["MEMORY_TOKEN"] = TOKEN
    codex.connect("--url", service.url)
    await check_tools_in_codex(codex)


async def test_connect_adds_a_command_to_codex(tmp_path):
    codex = Codex(tmp_path)
    codex.connect()
    await check_tools_in_codex(codex)
    codex.connect("--remove")
    assert json.loads(codex.run("mcp", "list", "--json").split("WARNING")[0]) == []


# ------------------------------------------------------------------------------------------------ mcp-remote


async def test_mcp_remote_forwards_stdio_to_http(sqlite, new_service, tmp_path):
    """A bridge from stdio to HTTP, for clients that only start commands."""
    service = new_service(sqlite, tokens={"ada": TOKEN})
    parameters = mcp.StdioServerParameters(
        command=node(),
        args=[
            str(node_package("mcp-remote") / "dist/proxy.js"), service.url,
            "--header", f"Authorization: Bearer {TOKEN}", "--transport", "http-only",
        ],
        env=environment_of(tmp_path / "home"),
        cwd=tmp_path,
    )  # fmt: skip
    with (tmp_path / "stdio-mcp-remote.log").open("w") as log:
        async with mcp.Client(stdio_client(parameters, errlog=log), mode="legacy", read_timeout_seconds=PATIENCE) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
            memory = Memory(client)
            [id] = await memory.remember({"content": "mcp-remote was at the harbour.", "tags": ["harbour"]})
            assert await memory.found("harbour", tags=["harbour"]) == [id]
            assert (await memory.one(id))["content"] == "mcp-remote was at the harbour."
            assert (await memory.refused("recall", limit=-1))["field"] == "limit"
            assert await memory.forget(id) == 1
            assert (await memory.status())["deleted"] == 1
