"""A client of the service: the official SDK over Streamable HTTP or stdio. It checks every answer."""

import contextlib
import pathlib

import httpx2
import jsonschema
import mcp
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from service import PATIENCE, binary, clean_environment


def short(id: str) -> str:
    """Returns the short form of an ID, which texts print."""
    return id[-8:]


# The answer to a larger batch does not list the IDs of new memories.
MOST_LISTED = 50


class Memory:
    """The tools, called by a connected SDK client."""

    def __init__(self, client: mcp.Client) -> None:
        self.client = client
        self.validators: dict[str, jsonschema.Draft202012Validator] = {}

    async def result(self, tool: str, arguments: dict):
        return await self.client.call_tool(tool, arguments, read_timeout_seconds=PATIENCE)

    async def _validator(self, tool: str) -> jsonschema.Draft202012Validator:
        if not self.validators:
            for each in (await self.client.list_tools()).tools:
                jsonschema.Draft202012Validator.check_schema(each.output_schema)
                self.validators[each.name] = jsonschema.Draft202012Validator(each.output_schema)
        return self.validators[tool]

    async def answer(self, tool: str, arguments: dict) -> tuple[dict, str]:
        """Returns the structured content, which matches the output schema of the tool, and the text."""
        result = await self.result(tool, arguments)
        text = "\n".join(block.text for block in result.content)
        assert not result.is_error, f"{tool} refused {str(arguments)[:300]}: {text}"
        (await self._validator(tool)).validate(result.structured_content)
        assert text.strip(), f"{tool} returned no text"
        return result.structured_content, text

    async def call(self, tool: str, **arguments) -> dict:
        return (await self.answer(tool, arguments))[0]

    async def refused(self, tool: str, **arguments) -> dict:
        """Returns the error of a call that must fail, and its text under `text`."""
        result = await self.result(tool, arguments)
        assert result.is_error, f"{tool} accepted {str(arguments)[:300]}: {str(result.structured_content)[:300]}"
        # Clients validate errors against the schema as well.
        (await self._validator(tool)).validate(result.structured_content)
        error = result.structured_content["error"]
        assert error["code"] and error["message"] and error["advice"], error
        text = result.content[0].text
        assert error["code"] in text and error["message"] in text, "the text has code and message of the structured content"
        return error | {"text": text}

    async def remember(self, *items: dict, **arguments) -> list[str]:
        """Stores memories and returns their IDs, in batches whose answers list all IDs."""
        if len(items) > MOST_LISTED and "idempotency_key" not in arguments:
            rest = await self.remember(*items[:MOST_LISTED], **arguments)
            return rest + await self.remember(*items[MOST_LISTED:], **arguments)
        output, text = await self.answer("remember", {"items": list(items), **arguments})
        ids = [memory["id"] for memory in output["memories"]]
        assert len(ids) == len(items) and all(short(id) in text for id in ids)
        assert output["created"] == sum(memory["created"] for memory in output["memories"])
        return ids

    async def recall(self, query: str | None = None, **arguments) -> dict:
        if query is not None:
            arguments["query"] = query
        output, text = await self.answer("recall", {"explain": True, **arguments})
        assert len(text) <= arguments.get("max_chars", 12_000), "max_chars limits the printed answer"
        for hit in output["hits"]:
            assert short(hit["id"]) in text and all(line.strip() in text for line in hit["content"].splitlines())
        for note in output.get("notes", []):
            assert note in text
        return output

    async def found(self, query: str | None = None, **arguments) -> list[str]:
        """Returns the IDs of a recall, best first."""
        return [hit["id"] for hit in (await self.recall(query, **arguments))["hits"]]

    async def browse_all(self, **arguments) -> list[dict]:
        """Returns every memory that matches the filters, page by page."""
        hits, cursor = [], {}
        while True:
            page = await self.recall(limit=100, max_chars=1_000_000, **arguments, **cursor)
            hits += page["hits"]
            if "next_cursor" not in page:
                return hits
            assert page["hits"], "only the last page may be empty"
            cursor = {"cursor": page["next_cursor"]}

    async def get(self, *ids: str, **arguments) -> dict:
        return (await self.answer("get", {"ids": list(ids), **arguments}))[0]

    async def one(self, id: str, **arguments) -> dict:
        output = await self.get(id, **arguments)
        assert len(output["memories"]) == 1, output
        return output["memories"][0]

    async def update(self, id: str, **arguments) -> dict:
        return (await self.answer("update", {"id": id, **arguments}))[0]["memory"]

    async def forget(self, *ids: str, **arguments) -> int:
        return (await self.answer("forget", {"ids": list(ids), **arguments}))[0]["changed"]

    async def status(self) -> dict:
        return (await self.answer("status", {}))[0]


@contextlib.asynccontextmanager
async def over_http(url: str, token: str | None = None, mode: str = "auto", **headers: str):
    """`mode` is that of the SDK: "auto" selects the newest revision, "legacy" uses the initialize handshake."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    # Ignores proxy settings of the environment, because the service is local.
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as http:
        async with mcp.Client(streamable_http_client(url, http_client=http), mode=mode, read_timeout_seconds=PATIENCE) as client:
            yield Memory(client)


@contextlib.asynccontextmanager
async def over_stdio(folder: pathlib.Path, settings: dict[str, str], mode: str = "auto", name: str = "stdio"):
    """Starts `cognitive-memory-mcp stdio`. The client has its process ID in `pid`; its log is FOLDER/NAME.log."""
    folder.mkdir(parents=True, exist_ok=True)
    pid_file = folder / f"{name}.pid"
    parameters = mcp.StdioServerParameters(
        command="/bin/sh",
        # The SDK does not expose the process ID.
        args=["-c", 'echo $$ > "$1"; exec "$2" stdio', "sh", str(pid_file), str(binary())],
        env=clean_environment(folder, settings),
        cwd=folder,
    )
    with (folder / f"{name}.log").open("a") as log:
        async with mcp.Client(stdio_client(parameters, errlog=log), mode=mode, read_timeout_seconds=PATIENCE) as client:
            memory = Memory(client)
            memory.pid = int(pid_file.read_text())
            yield memory
