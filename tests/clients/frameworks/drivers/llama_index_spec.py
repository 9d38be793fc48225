"""llama-index-tools-mcp, with tools in the form that LlamaIndex sends to OpenAI."""

import contextlib

from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

import common


def client(connection: dict) -> BasicMCPClient:
    if "url" in connection:
        return BasicMCPClient(connection["url"], headers=connection["headers"])
    return BasicMCPClient(connection["command"], args=connection["args"], env=connection["env"])


def offered_tool(tool) -> common.Tool:
    function = tool.metadata.to_openai_tool()["function"]

    async def call(arguments: dict) -> str:
        return str(await tool.acall(**arguments))

    return common.Tool(function["name"], function["description"], function["parameters"], call)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    yield [offered_tool(tool) for tool in await McpToolSpec(client(connection)).to_tool_list_async()]


common.main(open_tools)
