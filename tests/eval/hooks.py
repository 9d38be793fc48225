"""Measures the hooks on a scripted session: how much of the evidence reaches the context, at which cost.

Usage: tests/eval/hooks.py PROGRAM

Stores the transcript in hooks.json through `hook stop`, then sends its 50 prompts through `hook user-prompt`, as a client
does. Prints one JSON object:

- `evidence`: share of the facts whose evidence is in the context at the first prompt that needs it;
- `later`: share of the prompts that need a fact again whose context contains its evidence;
- `disturbed`: share of the prompts without evidence to which a hook adds memories all the same;
- `tokens`: tokens that the hooks add per prompt, at four characters each;
- `p95_ms`: 95th percentile of the time that a prompt waits, with the start of the process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("hooks.json")
LONGEST_DELIVERY = 60


class Home:
    """A home folder with a service and a client of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        """Prepares the environment without starting anything."""
        self.program = program
        self.folder = folder
        self.environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "MEMORY_LISTEN": "127.0.0.1:0",
            "MEMORY_EMBEDDER": os.environ.get("MEMORY_EMBEDDER", "none"),
            "MEMORY_HOOK_TIMEOUT": os.environ.get("MEMORY_HOOK_TIMEOUT", "200"),
        }
        if model := os.environ.get("MEMORY_MODEL_SOURCE"):
            self.environment["MEMORY_MODEL_SOURCE"] = model

    def start_service(self) -> subprocess.Popen[str]:
        """Starts the service and waits until it serves."""
        service = subprocess.Popen(
            [self.program, "serve"], env=self.environment, stdout=subprocess.PIPE, text=True, cwd=self.folder
        )
        assert service.stdout
        for line in service.stdout:
            if '"serving"' in line:
                return service
        raise SystemExit("the service has ended")

    def run_hook(self, event: str, fields: dict[str, Any]) -> str:
        """Sends an event and returns the text that the hook adds to the conversation."""
        answer = subprocess.run(
            [self.program, "hook", event],
            env=self.environment,
            input=json.dumps(fields),
            capture_output=True,
            text=True,
            check=True,
            cwd=self.folder,
        ).stdout
        return json.loads(answer)["hookSpecificOutput"]["additionalContext"] if answer else ""

    def wait_for_delivery(self) -> None:
        """Waits until all turns are stored."""
        state = self.folder / ".local/state/cognitive-memory-mcp/hooks"
        end = time.monotonic() + LONGEST_DELIVERY
        while any((state / "waiting").iterdir()) or any((state / "claimed").iterdir()):
            if time.monotonic() > end:
                raise SystemExit("the turns were not stored in time")
            time.sleep(0.05)


def write_transcript(path: Path, turns: list[str]) -> None:
    """Writes the turns as Claude Code does; they alternate between user and assistant."""
    lines = []
    for number, text in enumerate(turns):
        role = "assistant" if number % 2 else "user"
        message = {"role": role, "content": [{"type": "text", "text": text}]}
        at = f"2026-10-{1 + number // 24:02}T{number % 24:02}:00:00.000Z"
        lines.append(json.dumps({"type": role, "uuid": f"u{number}", "timestamp": at, "message": message}))
    path.write_text("\n".join(lines) + "\n")


def measure(home: Home, script: dict[str, Any]) -> dict[str, float]:
    """Runs the scripted session."""
    transcript = home.folder / "earlier.jsonl"
    write_transcript(transcript, script["turns"])
    home.run_hook("stop", {"session_id": "earlier", "transcript_path": str(transcript)})
    home.wait_for_delivery()
    context = home.run_hook("session-start", {"session_id": "now", "source": "startup", "cwd": str(home.folder)})
    needed: dict[str, list[bool]] = {}
    disturbed, tokens, times = [], [], []
    for prompt in script["prompts"]:
        begin = time.perf_counter()
        added = home.run_hook("user-prompt", {"session_id": "now", "prompt": prompt["text"]})
        times.append((time.perf_counter() - begin) * 1000)
        tokens.append(len(added) / 4)
        context += "\n" + added
        if evidence := prompt.get("evidence"):
            needed.setdefault(evidence, []).append(evidence in context)
        else:
            disturbed.append(bool(added))
    times.sort()
    first = [found[0] for found in needed.values()]
    later = [found for all_found in needed.values() for found in all_found[1:]]
    return {
        "prompts": len(times),
        "evidence": round(sum(first) / len(first), 3),
        "later": round(sum(later) / len(later), 3),
        "disturbed": round(sum(disturbed) / len(disturbed), 3),
        "tokens": round(sum(tokens) / len(tokens), 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
    }


def main() -> None:
    """Prints the measurements of the program that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    script = json.loads(SCRIPT.read_text())
    with tempfile.TemporaryDirectory() as folder:
        home = Home(str(Path(sys.argv[1]).resolve()), Path(folder))
        service = home.start_service()
        try:
            print(json.dumps(measure(home, script)))
        finally:
            service.terminate()
            service.wait(30)


if __name__ == "__main__":
    main()
