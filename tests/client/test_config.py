"""Options that cannot work."""

from collections.abc import Callable

import pytest
from featserve_client import (
    TLS,
    ConfigError,
    FeatureClient,
    Keepalive,
    Limits,
    RetryPolicy,
)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FeatureClient("", model="m"), "empty"),
        (lambda: FeatureClient("host", model="m"), "HOST:PORT"),
        (lambda: FeatureClient("host:99999", model="m"), "HOST:PORT"),
        (lambda: FeatureClient("http://host:8501", model="m"), "HOST:PORT alone"),
        (lambda: FeatureClient("h:1", model=""), "not empty"),
        (lambda: FeatureClient("h:1", model="m", version="1"), "version"),  # type: ignore[arg-type]
        (lambda: FeatureClient("h:1", model="m", version=-1), "version"),
        (lambda: FeatureClient("h:1", model="m", timeout_s=None), "timeout_s"),  # type: ignore[arg-type]
        (lambda: FeatureClient("h:1", model="m", metadata={"Bad Key": "a"}), "metadata 'Bad Key'"),
        (lambda: FeatureClient("h:1", model="m", metadata={"key": "a\nb"}), "printable ASCII"),
        (lambda: FeatureClient("h:1", model="m", version=1, label="a"), "cannot both"),
        (lambda: FeatureClient("h:1", model="m", timeout_s=0), "timeout_s"),
        (lambda: FeatureClient("h:1", model="m", timeout_s=float("inf")), "timeout_s"),
        (lambda: FeatureClient("h:1", model="m", token="t"), "token needs tls"),
        (lambda: FeatureClient("h:1", model="m", compression="zip"), "compression"),  # type: ignore[arg-type]
        (lambda: FeatureClient("h:1", model="m", decode="here"), "decode"),  # type: ignore[arg-type]
        (lambda: FeatureClient("h:1", model="m", concurrency=0), "concurrency"),
        (lambda: FeatureClient("h:1", model="m", tls=TLS(ca="/no/such")).status(), "TLS ca"),
        (lambda: TLS(certificate="a"), "private_key"),
        (lambda: Limits(max_request_images=0), "max_request_images"),
        (lambda: RetryPolicy(max_attempts=9), "max_attempts"),
        (lambda: RetryPolicy(initial_backoff_s=0.001), "initial_backoff_s must be at least 0.005"),
        (lambda: Keepalive(interval_s=0), "interval_s"),
    ],
)
def test_options_that_cannot_work(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


@pytest.mark.parametrize(
    ("call_s", "expected"), [(60, (20, 20)), (30, (10, 10)), (1, (2, 2)), (600, (200, 20)), (2**31 - 1, (330, 20))]
)
def test_a_vanished_server_is_noticed_within_two_thirds_of_a_call(call_s: float, expected: tuple[float, float]) -> None:
    assert Keepalive().within(call_s) == expected
    assert Keepalive(interval_s=5, timeout_s=1).within(call_s) == (5, 1)
