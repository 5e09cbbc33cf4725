"""The tools' package, and a server whose speed is known."""

import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parent))


class SleepingServer:
    """Answers each request after `service_s`, `slots` at a time; `GARBAGE` is refused."""

    def __init__(self, service_s=0.02, slots=8):
        self.service_s = service_s
        self.stalled = threading.Event()
        self.answered = 0
        self._lock = threading.Lock()
        handler = grpc.unary_unary_rpc_method_handler(self._predict)
        service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler})
        self._server = grpc.server(futures.ThreadPoolExecutor(slots), handlers=[service])
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _predict(self, request, context):
        if request == b"GARBAGE":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image")
        while self.stalled.is_set():
            time.sleep(0.01)
        time.sleep(self.service_s)
        with self._lock:
            self.answered += 1
        return b"answer"

    def close(self):
        self._server.stop(None).wait()


@pytest.fixture
def sleeping():
    """Returns a function that starts a server of known speed."""
    servers = []

    def start(**kwargs):
        servers.append(SleepingServer(**kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
