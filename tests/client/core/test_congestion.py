"""How many requests are in flight."""

from featserve_client.core.congestion import CongestionWindow


def test_the_window_finds_what_keeps_the_server_busy() -> None:
    window = CongestionWindow(64)
    for _ in range(500):
        # Two workers: up to two in flight nobody waits, beyond that everybody does.
        window.grow(0.01 * max(1.0, window.limit / 2))
    assert 3 <= window.limit <= 8
    window.shrink()
    assert window.limit <= 4
