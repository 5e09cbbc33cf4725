"""Load tests of an image feature server: `python tests/load/run.py COMMAND --help`."""

from __future__ import annotations

import importlib
import signal
import sys

COMMANDS = {
    "loadtest": "throughput and latency at several loads, with a report",
    "capacity": "the highest rate whose p99 stays within a budget",
    "plan": "replicas, headroom and cost for a load, from a capacity report, by simulation",
    "referee": "the same server under MLCommons LoadGen",
    "tune": "search the batching for the highest capacity",
    "soak": "hours of mixed traffic: nothing may fail or grow",
    "bench": "the tables of tests/load/RESULTS.md",
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit status: 0, 1 for a failed check, 2 for what cannot be measured as asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: run.py COMMAND [OPTION]...\n\n{__doc__}\n", file=sys.stderr)
        for name, text in COMMANDS.items():
            print(f"  {name:10} {text}", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    from featserve_client import FeatserveError
    from featserve_load.errors import LoadError

    # Ended from outside, as by `timeout`: the servers that were started must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status: int = importlib.import_module(f"featserve_load.{arguments[0]}").main(arguments[1:])
        return status
    except (LoadError, FeatserveError) as exc:
        print(f"{arguments[0]}: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{arguments[0]}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
