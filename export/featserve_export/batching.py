"""How the graph batches: TensorFlow Serving's BatchingParameters, baked into the graph at export."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import InvalidOptionError

# The operation refuses larger ones, and counts them in 32 bits.
MAX_REQUEST_IMAGES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Parameters of the queue in front of the backbone.

    Attributes:
        num_batch_threads: batches that run at once.
        max_batch_size: images a batch at most; a larger request is split.
        batch_timeout_micros: how long an incomplete batch waits for company while a thread is free, in microseconds.
        max_enqueued_batches: full batches that may wait; past that a request is refused with UNAVAILABLE. One that
            would not fit into an empty queue is refused with INVALID_ARGUMENT.
        allowed_batch_sizes: sizes that batches are padded to, increasing; the last is `max_batch_size`.

    Raises:
        InvalidOptionError: the values contradict each other.

    Example:
        >>> batching = Batching(
        ...     num_batch_threads=2,
        ...     max_batch_size=4,
        ...     batch_timeout_micros=0,
        ...     max_enqueued_batches=10,
        ...     allowed_batch_sizes=(1, 2, 4),
        ... )
        >>> batching.max_request_images
        40
    """

    num_batch_threads: int
    max_batch_size: int
    batch_timeout_micros: int
    max_enqueued_batches: int
    allowed_batch_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the values against each other."""
        sizes = self.allowed_batch_sizes
        _check(self.num_batch_threads >= 1, "num_batch_threads of at least 1", self.num_batch_threads)
        _check(1 <= self.max_batch_size <= 65536, "max_batch_size from 1 to 65536", self.max_batch_size)
        _check(
            0 <= self.batch_timeout_micros <= 60_000_000,
            "batch_timeout_micros from 0 to 60000000",
            self.batch_timeout_micros,
        )
        _check(
            1 <= self.max_enqueued_batches <= 1 << 20,
            "max_enqueued_batches from 1 to 1048576",
            self.max_enqueued_batches,
        )
        _check(
            bool(sizes) and sizes[0] >= 1 and all(a < b for a, b in zip(sizes, sizes[1:], strict=False)),
            "allowed_batch_sizes that increase from at least 1",
            list(sizes),
        )
        _check(
            sizes[-1] == self.max_batch_size,
            f"allowed_batch_sizes whose last is max_batch_size, {self.max_batch_size}",
            list(sizes),
        )

    @property
    def max_request_images(self) -> int:
        """Images that an empty queue takes from one request."""
        return min(self.max_enqueued_batches * self.max_batch_size, MAX_REQUEST_IMAGES)

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "allowed_batch_sizes": list(self.allowed_batch_sizes)}


def _check(holds: bool, expected: str, received: object) -> None:
    if not holds:
        raise InvalidOptionError(f"batching: expected {expected}, received {received}; mend the batching file")


def default_batching() -> Batching:
    """A good start on any CPU: as many threads as cores, small batches, no waiting."""
    return Batching(
        num_batch_threads=len(os.sched_getaffinity(0)),
        max_batch_size=8,
        batch_timeout_micros=0,
        max_enqueued_batches=256,
        allowed_batch_sizes=(1, 2, 4, 8),
    )


def read_batching(path: Path) -> Batching:
    """Reads a BatchingParameters text proto; a field that it lacks keeps its default.

    Args:
        path: for example `serving/configs/batching.config`.

    Raises:
        InvalidOptionError: the file is missing or malformed (line and field are named) or its values contradict.

    Example:
        >>> path = folder / "batching.config"
        >>> _ = path.write_text("max_batch_size { value: 4 }")
        >>> read_batching(path).allowed_batch_sizes
        (1, 2, 4)
    """
    # The command's --help and --version do not wait for protobuf.
    from google.protobuf import text_format

    from .batching_pb2 import BatchingParameters

    message = BatchingParameters()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"cannot read the batching file {path}: {error}") from error
    except text_format.ParseError as error:
        raise InvalidOptionError(
            f"{path}: expected TensorFlow Serving's BatchingParameters as a text proto, received {error}; "
            "the fields are max_batch_size, batch_timeout_micros, max_enqueued_batches, num_batch_threads (each "
            "`{ value: N }`) and allowed_batch_sizes"
        ) from error
    fields = default_batching().as_dict()
    for name in ("num_batch_threads", "max_batch_size", "batch_timeout_micros", "max_enqueued_batches"):
        if message.HasField(name):
            fields[name] = getattr(message, name).value
    if message.allowed_batch_sizes:
        fields["allowed_batch_sizes"] = message.allowed_batch_sizes
    elif message.HasField("max_batch_size"):
        powers = (1 << exponent for exponent in range(fields["max_batch_size"].bit_length()))
        fields["allowed_batch_sizes"] = sorted({*powers, fields["max_batch_size"]})
    return Batching(**{**fields, "allowed_batch_sizes": tuple(fields["allowed_batch_sizes"])})
