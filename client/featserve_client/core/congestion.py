"""How many requests a stream has in flight."""

from __future__ import annotations

from ..exceptions import ConfigError


class CongestionWindow:
    """How many requests are in flight: more while that makes them no slower, half as many when the server refuses.

    The idea is TCP Vegas': with the time of an unhindered request known, the time of the others tells how many of
    those in flight wait in a queue; two to four keep the server busy.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ConfigError(f"concurrency must be at least 1, not {most}")
        self._most = most
        self.limit = min(2, most)
        self._fastest_s = float("inf")

    def grow(self, seconds_per_image: float) -> None:
        """Learns from an answer."""
        self._fastest_s = min(self._fastest_s, seconds_per_image)
        waiting = self.limit * (1 - self._fastest_s / max(seconds_per_image, 1e-9))
        if waiting < 2:
            self.limit = min(self.limit + 1, self._most)
        elif waiting > 4:
            self.limit = max(self.limit - 1, min(2, self._most))

    def shrink(self) -> None:
        """Learns from a refusal."""
        self.limit = max(self.limit // 2, 1)
