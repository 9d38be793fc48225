"""langchain-mcp-adapters, with tools in the form that LangChain sends to OpenAI."""

import contextlib
import json

from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient

import common


def server(connection: dict) -> dict:
    return {"transport": "streamable_http" if "url" in connection else "stdio", **connection}


def offered_tool(tool) -> common.Tool:
    function = convert_to_openai_tool(tool)["function"]

    async def call(arguments: dict) -> str:
        message = await tool.ainvoke({"type": "tool_call", "id": "call-1", "name": tool.name, "args": arguments})
        blocks = message.content if isinstance(message.content, list) else [{"text": message.content}]
        return "\n".join(block.get("text") or json.dumps(block) for block in blocks)

    return common.Tool(function["name"], function["description"], function["parameters"], call)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    client = MultiServerMCPClient({"memory": server(connection)})
    yield [offered_tool(tool) for tool in await client.get_tools()]


common.main(open_tools)
