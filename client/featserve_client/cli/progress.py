"""Progress of a long extraction on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from ..bulk.parts import Progress

_LINE_EVERY_S = 10.0


class Reporter:
    """Context manager whose `update` takes each `Progress`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._start = self._last_line = time.monotonic()
        self._first: int | None = None
        self._what = ""
        #: Images done at the last update.
        self.done = 0
        if not quiet and sys.stderr.isatty():
            try:
                from rich.console import Console
                from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
                from rich.progress import Progress as Bar
            except ImportError:  # rich comes with an extra; without it, progress is shown by lines
                return
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=None, note="")

    def __enter__(self) -> Reporter:
        """Shows the bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Shows the progress."""
        self.done = progress.done
        if self._quiet:
            return
        if self._first is None or progress.what != self._what:
            self._first, self._start, self._what = progress.done, time.monotonic(), progress.what
            if progress.done:
                print(f"going on after {progress.done} {progress.what}", file=sys.stderr)
        seconds = time.monotonic() - self._start
        rate = (progress.done - self._first) / seconds if seconds > 0 else 0.0
        note = f"{rate:.1f} {progress.what}/s" + (f", {progress.failed} failed" if progress.failed else "")
        if self._bar:
            self._bar.update(self._task, completed=progress.done, total=progress.total, note=note)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            left = f", {(progress.total - progress.done) / rate:.0f} s left" if rate else ""
            print(f"{progress.done}/{progress.total} {progress.what}, {note}{left}", file=sys.stderr)
