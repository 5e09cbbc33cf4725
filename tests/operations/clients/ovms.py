"""ovmsclient, by gRPC or by REST: it names no signature."""

import json
import sys
from pathlib import Path

import numpy as np
import ovmsclient

plan, way = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
client = ovmsclient.make_grpc_client(plan["grpc"]) if way == "grpc" else ovmsclient.make_http_client(plan["rest"])


def tell(call, answer):
    print(json.dumps({"call": call, "answer": answer}))


# Its own default, version 0, is by REST the version of that number and not the newest.
which = {"model_name": plan["model"], "model_version": 1, "timeout": 60}
tell(
    "uint8" if way == "grpc" else "columns",
    client.predict(inputs={"images": np.asarray(plan["uint8"], np.uint8)}, **which).tolist(),
)
metadata = client.get_model_metadata(**which)
if way == "grpc":
    metadata = {"inputs": sorted(metadata["inputs"]), "outputs": sorted(metadata["outputs"])}
# By REST it looks for OpenVINO's names, and returns TensorFlow Serving's answer as it is.
tell("metadata", metadata)
tell("status", [each["state"] for each in client.get_model_status(**which).values()])
