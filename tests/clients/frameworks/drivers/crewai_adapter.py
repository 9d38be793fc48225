"""`MCPServerAdapter` of crewai-tools, which uses mcpadapt."""

import asyncio
import contextlib

from crewai.utilities.agent_utils import convert_tools_to_openai_schema
from crewai_tools import MCPServerAdapter
from mcp import StdioServerParameters

import common


def parameters(connection: dict):
    if "url" in connection:
        return {"transport": "streamable-http", **connection}
    return StdioServerParameters(**connection)


def offered_tool(schema: dict, function) -> common.Tool:
    async def call(arguments: dict) -> str:
        return str(await asyncio.to_thread(function, **arguments))

    return common.Tool(schema["name"], schema["description"], schema["parameters"], call)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    adapter = await asyncio.to_thread(MCPServerAdapter, parameters(connection))
    try:
        schemas, functions = convert_tools_to_openai_schema(list(adapter.tools))[:2]
        offered = [schema["function"] for schema in schemas]
        yield [offered_tool(schema, functions[schema["name"]]) for schema in offered]
    finally:
        await asyncio.to_thread(adapter.stop)


common.main(open_tools)
