"""MCP servers of the OpenAI Agents SDK. MEMORY_TEST_STRICT=true asks it for strict schemas where it can make them."""

import contextlib
import json
import os

from agents import Agent, RunContextWrapper, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp, MCPUtil
from agents.tool_context import ToolContext

import common


def server(connection: dict):
    if "url" in connection:
        return MCPServerStreamableHttp(params=connection, client_session_timeout_seconds=30)
    return MCPServerStdio(params=connection, client_session_timeout_seconds=30)


def offered_tool(tool) -> common.Tool:
    async def call(arguments: dict) -> str:
        text = json.dumps(arguments)
        context = ToolContext(context=None, tool_name=tool.name, tool_call_id="call-1", tool_arguments=text)
        result = await tool.on_invoke_tool(context, text)
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)

    return common.Tool(tool.name, tool.description, tool.params_json_schema, call, strict=tool.strict_json_schema)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    set_tracing_disabled(True)
    strict = os.environ.get("MEMORY_TEST_STRICT") == "true"
    async with server(connection) as connected:
        agent = Agent(name="test", mcp_servers=[connected])
        tools = await MCPUtil.get_all_function_tools([connected], strict, RunContextWrapper(None), agent)
        yield [offered_tool(tool) for tool in tools]


common.main(open_tools)
