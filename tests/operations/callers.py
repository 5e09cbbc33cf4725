"""Callers of all servers behind one name, until stdin ends: a line of JSON for each call.

    python callers.py TARGET TIMEOUT_S

A line has the version that answered, which tells the server, or the text of the error; `heavy` says which signature was
asked.
"""

import json
import sys
import threading

import numpy as np
from featserve_client import FeatserveError, FeatureClient

CALLERS = 4


def main() -> None:
    target, timeout_s = sys.argv[1], float(sys.argv[2])
    ended, lock = threading.Event(), threading.Lock()

    def call(client: FeatureClient, signature: str) -> None:
        while not ended.is_set():
            line: dict[str, object] = {"heavy": signature == "heavy"}
            try:
                answer = client.predict({"x": np.zeros(1, np.float32)}, signature=signature)
                line["server"] = None if line["heavy"] else int(answer["y"][0])
            except FeatserveError as error:
                line["error"] = str(error)
            with lock:
                print(json.dumps(line), flush=True)

    with FeatureClient(target, model="small", timeout_s=timeout_s) as client:
        # One of them asks for what takes a while, so that a server which vanishes has calls that it had read.
        signatures = ["serving_default"] * (CALLERS - 1) + ["heavy"]
        threads = [threading.Thread(target=call, args=(client, signature)) for signature in signatures]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
