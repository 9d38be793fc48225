"""Shared by the drivers. A driver runs inside the environment of one framework, connects it to the memory, makes the
calls of a plan through the framework's own tool objects, and prints the results as one JSON object.

The plan is the only argument: {"connection": {"url", "headers"} or {"command", "args", "env", "cwd"},
"calls": [[tool, arguments], ...]}.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import mcp


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool as the framework would offer it to a model."""

    name: str
    description: str
    parameters: dict
    call: Callable[[dict], Awaitable[str]]
    strict: bool = False


OpenTools = Callable[[dict], contextlib.AbstractAsyncContextManager[list[Tool]]]


def record_sent_arguments() -> list:
    """The arguments that reach the SDK, which may differ from those that the driver passed to the framework."""
    sent = []
    call_tool = mcp.ClientSession.call_tool

    async def recording(session, name, arguments=None, *args, **options):
        sent.append([name, arguments])
        return await call_tool(session, name, arguments, *args, **options)

    mcp.ClientSession.call_tool = recording
    return sent


async def answer(tool: Tool, arguments: dict) -> str:
    """Frameworks raise the errors of tools or return them as text; the test expects their text either way."""
    try:
        return await tool.call(arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def follow(plan: dict, open_tools: OpenTools, sent: list) -> dict:
    async with open_tools(plan["connection"]) as tools:
        by_name = {tool.name: tool for tool in tools}
        answers = [await answer(by_name[name], arguments) for name, arguments in plan["calls"]]
    offered = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
        for tool in tools
    ]
    return {"tools": offered, "answers": answers, "sent": sent}


def main(open_tools: OpenTools) -> None:
    # Frameworks print banners and logs; only the result may reach the output.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    seen = asyncio.run(follow(json.loads(sys.argv[1]), open_tools, record_sent_arguments()))
    json.dump(seen, output)
    output.flush()
