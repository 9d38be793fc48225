"""A replacement for a language model: a local HTTP service with the APIs of Anthropic (Messages) and OpenAI (Chat
Completions) that requests the tool calls of a plan one after another and records the results."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def text_of(content) -> str:
    """Returns the text of a tool result, which is a string or a list of blocks."""
    return content if isinstance(content, str) else "\n".join(block.get("text", "") for block in content)


class ScriptedModel:
    """`offered` are the functions that the client offered, `answers` the results of the calls in order."""

    def __init__(self, calls: list) -> None:
        self.calls = calls
        self.offered: list[dict] = []
        self.answers: list[str] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
                path = self.path.split("?")[0]
                if path.endswith("/chat/completions"):
                    self.answer(200, "text/event-stream", model.chat_completion(request))
                elif path.endswith("/messages") and request.get("stream"):
                    self.answer(200, "text/event-stream", model.anthropic_message(request))
                else:
                    self.answer(404, "application/json", "{}")

            def answer(self, status: int, kind: str, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "ScriptedModel":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def next_call(self, offered: list[dict], answers: list[str]) -> tuple[str, dict] | None:
        """Returns the next call of the plan, with the client's name of the tool."""
        if not offered:
            # A request for something else, such as a title of the conversation.
            return None
        self.offered, self.answers = offered, answers
        if len(answers) == len(self.calls):
            return None
        tool, arguments = self.calls[len(answers)]
        # mcp__memory__recall in Claude Code, memory_recall in OpenCode.
        names = [each["name"] for each in offered if each["name"].endswith((f"memory_{tool}", f"memory__{tool}"))]
        return (names[0], arguments) if names else None

    def anthropic_message(self, request: dict) -> str:
        offered = [
            {"name": tool["name"], "description": tool.get("description"), "parameters": tool["input_schema"]}
            for tool in request.get("tools", [])
            if "input_schema" in tool
        ]
        blocks = [block for message in request["messages"] if isinstance(message["content"], list) for block in message["content"]]
        answers = [text_of(block["content"]) for block in blocks if block["type"] == "tool_result"]
        call = self.next_call(offered, answers)
        if call:
            start = {"type": "tool_use", "id": f"toolu_{len(answers)}", "name": call[0], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        else:
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": "Done."}
        message = {
            "id": "message", "type": "message", "role": "assistant", "model": request["model"], "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
        events = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
        return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    def chat_completion(self, request: dict) -> str:
        offered = [tool["function"] for tool in request.get("tools", [])]
        answers = [text_of(message["content"]) for message in request["messages"] if message["role"] == "tool"]
        call = self.next_call(offered, answers)
        if call:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            calls = [{"index": 0, "id": f"call_{len(answers)}", "type": "function", "function": function}]
            delta = {"role": "assistant", "content": None, "tool_calls": calls}
        else:
            delta = {"role": "assistant", "content": "Done."}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunk = {"id": "completion", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if call else "stop"}
        chunks = [
            chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            chunk | {"choices": [end], "usage": usage},
        ]
        return "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
