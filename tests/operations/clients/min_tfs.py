"""min-tfs-client: it names no signature, and has Predict alone."""

import json
import sys
from pathlib import Path

import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray

plan = json.loads(Path(sys.argv[1]).read_text())
host, port = plan["grpc"].split(":")
images = {"images": np.asarray(plan["uint8"], np.uint8)}
(output,) = TensorServingClient(host, int(port)).predict_request(plan["model"], images).outputs.values()
print(json.dumps({"call": "uint8", "answer": tensor_proto_to_ndarray(output).tolist()}))
