"""Progress of a run: a line per event, and a status line that is updated in place on a terminal."""

from __future__ import annotations

import shutil
import sys
import time

ERASE_LINE = "\r\x1b[K"
# Without a terminal, the status is printed this often, in seconds.
STATUS_INTERVAL = 60


class Console:
    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self.started = time.monotonic()
        self.last_status = 0.0

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self.started)
        hours = f"{seconds // 3600}:" if seconds >= 3600 else ""
        return f"{hours}{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def print_event(self, text: str) -> None:
        print(f"{ERASE_LINE if self.is_terminal else ''}[{self._clock()}] {text}", flush=True)

    def show_status(self, text: str) -> None:
        if self.is_terminal:
            width = shutil.get_terminal_size().columns
            print(ERASE_LINE + f"[{self._clock()}] {text}"[:width], end="", flush=True)
        elif time.monotonic() - self.last_status > STATUS_INTERVAL:
            self.last_status = time.monotonic()
            self.print_event(text)
