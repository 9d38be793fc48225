"""pydantic-ai's `MCPToolset`, with tools in the form that its OpenAI model sends."""

import contextlib
import json

from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from pydantic_ai import RunContext
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.test import TestModel
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer
from pydantic_ai.usage import RunUsage

import common


def transport(connection: dict):
    if "url" in connection:
        return StreamableHttpTransport(connection["url"], headers=connection["headers"])
    return StdioTransport(**connection)


def offered_tool(toolset: MCPToolset, context: RunContext, tool) -> common.Tool:
    definition = tool.tool_def

    async def call(arguments: dict) -> str:
        checked = tool.args_validator.validate_python(arguments)
        result = await toolset.call_tool(definition.name, checked, context, tool)
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)

    schema = OpenAIJsonSchemaTransformer(definition.parameters_json_schema, strict=False).walk()
    return common.Tool(definition.name, definition.description, schema, call)


@contextlib.asynccontextmanager
async def open_tools(connection: dict):
    async with MCPToolset(transport(connection)) as toolset:
        context = RunContext(deps=None, model=TestModel(), usage=RunUsage())
        yield [offered_tool(toolset, context, tool) for tool in (await toolset.get_tools(context)).values()]


common.main(open_tools)
