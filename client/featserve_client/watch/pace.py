"""How often a server is looked at: never so often that it costs more than one part in a hundred of it."""

from __future__ import annotations

import math

#: The most that looking may take of a server's time.
SHARE = 0.01


class Pace:
    """Time from the start of one look at a server to the start of the next.

    A look has one call open at a time, so a server that does nothing else is at most as long busy as the look takes:
    `SHARE` of the interval bounds what it costs.

    Example:
        >>> pace = Pace(60)
        >>> pace.after(0.3, answered=True), pace.after(1.5, answered=True)
        (60, 150.0)
    """

    def __init__(self, every_s: float) -> None:
        """Takes the seconds that are wanted between two looks."""
        self.interval_s = every_s
        self._every_s = every_s
        self._answered_s = math.inf

    def after(self, seconds: float, *, answered: bool) -> float:
        """Returns the seconds from a look's start to the next one's.

        Args:
            seconds: how long the server was asked.
            answered: whether it answered. The time of a look that it does not answer is spent waiting: what such a look
                costs the server counts as much as the last one that it answered.
        """
        if answered:
            self._answered_s = seconds
        self.interval_s = max(self._every_s, min(seconds, self._answered_s) / SHARE)
        return self.interval_s
