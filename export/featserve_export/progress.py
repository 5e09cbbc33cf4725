"""How long work reports itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

# Called with the stage's name, the steps done and the steps in all; both 0 where a stage has no steps.
Progress = Callable[[str, int, int], None]


def silent(_stage: str, _done: int = 0, _steps: int = 0) -> None:
    """Reports to nobody."""


@contextlib.contextmanager
def on_stderr() -> Iterator[Progress]:
    """Draws a bar for each stage that has steps on a terminal, and prints a line for each stage elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bars: dict[str, int] = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as display:

        def report(stage: str, done: int = 0, steps: int = 0) -> None:
            if stage not in bars:
                for bar in display.tasks:
                    display.update(bar.id, total=bar.total or 1, completed=bar.total or 1)
                bars[stage] = display.add_task(stage, total=steps or None)
                if not console.is_terminal:
                    console.print(f"{stage} …", highlight=False)
            display.update(display.tasks[bars[stage]].id, completed=done)

        yield report
