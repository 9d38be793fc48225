"""CrewAI's own MCP support (`Agent(mcps=[...])`).

The calls are made inside a running event loop, as `crew.akickoff()` makes them. Outside of one, CrewAI 1.15.30 on
Python 3.11 fails after every call to any HTTP server: it closes the connection in another task than the one that
opened it.
"""

import asyncio
import contextlib
import logging

from crewai.mcp import MCPServerHTTP, MCPServerStdio
from crewai.mcp.tool_resolver import MCPToolResolver
from crewai.utilities.agent_utils import convert_tools_to_openai_schema

import common


class Logger:
    def log(self, level: str, message: str, **_) -> None:
        logging.getLogger("crewai").warning("%s: %s", level, message)


def server(connection: dict):
    if "url" in connection:
        return MCPServerHTTP(url=connection["url"], headers=connection["headers"])
    return MCPServerStdio(command=connection["command"], args=connection["args"], env=connection["env"])


def offered_tool(tool, schema: dict, function) -> common.Tool:
    async def call(arguments: dict) -> str:
        return str(function(**arguments))

    return common.Tool(tool.original_tool_name, schema["description"], schema["parameters"], call)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    resolver = MCPToolResolver(agent=None, logger=Logger())
    tools = resolver.resolve([server(connection)])
    schemas, functions = convert_tools_to_openai_schema(tools)[:2]
    offered = [schema["function"] for schema in schemas]
    try:
        yield [offered_tool(tool, schema, functions[schema["name"]]) for tool, schema in zip(tools, offered, strict=True)]
    finally:
        await asyncio.to_thread(resolver.cleanup)


common.main(open_tools)
