"""Standard output that nobody reads any longer, as in `featserve extract --help | head`, or that has no room."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

#: What a shell shows of a program that ended for want of a reader: 128 and SIGPIPE.
_CLOSED = 141


@contextlib.contextmanager
def ends_quietly() -> Iterator[None]:
    """Ends a command without a trace when its reader has gone or the disk is full.

    Raises:
        SystemExit: the reader of standard output has gone, or there is no space left.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
        raise SystemExit(_CLOSED) from None
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _discard()
        print(f"featserve: {exc}: the output is not complete", file=sys.stderr)
        raise SystemExit(2) from None


def _discard() -> None:
    # The interpreter flushes standard output once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
