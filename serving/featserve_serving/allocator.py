"""The C library's allocator, and what it keeps of memory that was freed."""

from __future__ import annotations

import ctypes
import os

_SETTING = "MALLOC_ARENA_MAX"
#: Its number in glibc's malloc.h.
_ARENA_MAX = -8
_ARENAS = 2


def hold_few_arenas() -> None:
    """Holds glibc to two arenas, unless the environment sets `MALLOC_ARENA_MAX`; call it before threads start.

    Each thread allocates from an arena of its own, up to eight a core, and no call gives the free end of one back. A
    version is loaded by a new thread: with one arena after another, each keeps a copy or two of a graph.
    """
    process = ctypes.CDLL(None)
    if hasattr(process, "mallopt") and _SETTING not in os.environ:
        process.mallopt(_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Gives memory that was freed back to the kernel, for glibc keeps it: after 20 versions twice what is in use."""
    process = ctypes.CDLL(None)
    if hasattr(process, "malloc_trim"):
        process.malloc_trim(0)
