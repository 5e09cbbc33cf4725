"""Live figures, from a metrics page."""

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest
from featserve_console import SourceError
from featserve_console.history import History
from featserve_console.prometheus import model_names, quantile
from starlette.testclient import TestClient

PAGE = """\
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{{model_name="toy",status="OK"}} {ok}
:tensorflow:serving:request_count{{model_name="toy",status="NOT_FOUND"}} {bad}
# TYPE :tensorflow:serving:request_latency histogram
:tensorflow:serving:request_latency_bucket{{model_name="toy",API="predict",entrypoint="GRPC",le="1000"}} {ok}
:tensorflow:serving:request_latency_bucket{{model_name="toy",API="predict",entrypoint="GRPC",le="+Inf"}} {ok}
:tensorflow:serving:request_latency_sum{{model_name="toy",API="predict",entrypoint="GRPC"}} 1
:tensorflow:serving:request_latency_count{{model_name="toy",API="predict",entrypoint="GRPC"}} {ok}
"""


@pytest.fixture
def rest() -> Iterator[tuple[str, dict[str, object]]]:
    """The address of a REST API that shows metrics alone, and what it shows."""
    shown: dict[str, object] = {"status": 200, "text": PAGE.format(ok=10, bad=0)}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(str(shown["status"])))
            self.end_headers()
            self.wfile.write(str(shown["text"]).encode())

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", shown
        listening.shutdown()
        thread.join()


def test_counters_become_rates() -> None:
    counts, clock = iter([(10, 0), (30, 4)]), iter([100.0, 110.0])

    def read() -> str:
        ok, bad = next(counts)
        return PAGE.format(ok=ok, bad=bad)

    history = History(read, clock.__next__)
    assert history.points() == []
    (point,) = history.points() or []
    figures = point["models"]["toy"]
    assert figures["per_s"] == pytest.approx(2.4)
    assert figures["errors"] == {"NOT_FOUND": pytest.approx(0.4)}
    assert figures["p50_ms"] == pytest.approx(0.5) and figures["p99_ms"] == pytest.approx(0.99)


def test_a_server_that_started_anew_counts_from_zero() -> None:
    pages, clock = iter([PAGE.format(ok=50, bad=0), PAGE.format(ok=20, bad=0)]), iter([0.0, 10.0])
    history = History(lambda: next(pages), clock.__next__)
    history.points()
    (point,) = history.points() or []
    assert point["models"]["toy"]["per_s"] == pytest.approx(2)


def test_no_requests_have_no_quantile() -> None:
    assert quantile(0.5, {1.0: 3}, {1.0: 3}) is None
    assert quantile(0.5, {}, {}) is None


def test_models_are_named_by_the_metrics(page: Callable[..., TestClient], rest: tuple[str, dict[str, object]]) -> None:
    assert model_names(PAGE.format(ok=1, bad=0)) == {"toy"}
    now = page(rest=rest[0]).get("/console/api/now").json()
    assert [model["name"] for model in now["models"]] == ["toy"]
    assert now["figures"] == [] and now["figures_error"] is None


@pytest.mark.parametrize(
    ("status", "text", "sentence"),
    [(404, "", "answers 404: start the server with --monitoring_config_file"), (200, "a{", "cannot be read")],
)
def test_metrics_that_cannot_be_had_have_a_sentence(
    page: Callable[..., TestClient], rest: tuple[str, dict[str, object]], status: int, text: str, sentence: str
) -> None:
    rest[1].update(status=status, text=text)
    now = page("toy", rest=rest[0]).get("/console/api/now").json()
    assert sentence in now["figures_error"]
    assert now["error"] is None


def test_a_rest_api_that_is_away_has_a_sentence(page: Callable[..., TestClient], free_port: Callable[[], int]) -> None:
    now = page("toy", rest=f"http://127.0.0.1:{free_port()}").get("/console/api/now").json()
    assert "no metrics at http://127.0.0.1" in now["figures_error"]


def test_a_page_that_is_none_is_refused() -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        model_names("{")
