"""Standard output that nobody reads any longer, as in `featserve-serve --help | head`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

#: What a shell shows of a program that ended for want of a reader: 128 and SIGPIPE.
_CLOSED = 141


@contextlib.contextmanager
def ends_quietly() -> Iterator[None]:
    """Ends a command without a trace when its reader has gone.

    Raises:
        SystemExit: the reader of standard output has gone.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_CLOSED) from None
