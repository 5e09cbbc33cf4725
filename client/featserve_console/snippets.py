"""Code to copy, for a model and a layer of the server that the page shows."""

from __future__ import annotations

import json
import shlex
from string import Template

from .manifest import ENCODED, image_input
from .source import Address, Description, SourceError

_SYNC = """\
from featserve_client import $imports

with FeatureClient($target, model=$model$tls) as client:
    features = client.extract(["cat.jpg"], layers=$layer)
    print(features[$layer].shape)
"""
_ASYNC = """\
import asyncio

from featserve_client import $imports


async def main() -> None:
    async with AsyncFeatureClient($target, model=$model$tls) as client:
        features = await client.extract(["cat.jpg"], layers=$layer)
        print(features[$layer].shape)


asyncio.run(main())
"""
_CALL = """\
from featserve_client import $imports

with FeatureClient($target, model=$model$tls) as client:
    print(client.metadata().describe_signatures())
"""
_CURL = """\
printf '{"signature_name": "%s", "instances": [{"b64": "%s"}]}' \\
  $signature_word "$$(base64 -w 0 cat.jpg)" > request.json
curl --silent --show-error --fail$ca --data @request.json \\
  $url
"""
_GRPCURL = """\
# TensorFlow Serving has no reflection: give grpcurl its .proto files with -import-path and -proto.
printf '{"model_spec": %s, "output_filter": [%s],
  "inputs": {"$input": {"dtype": "DT_STRING",
    "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["%s"]}}}' \\
  $spec_word $layer_word "$$(base64 -w 0 cat.jpg)" |
grpcurl $plaintext-max-msg-sz 268435456 -d @ \\
  $grpc tensorflow.serving.PredictionService/Predict
"""
_NODE = """\
// npm install @grpc/grpc-js protobufjs
const { readFileSync } = require("node:fs");
const grpc = require("@grpc/grpc-js");
const protobuf = require("protobufjs");

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Model { string name = 1; string signature_name = 3; }
  message Shape { message Dim { int64 size = 1; } repeated Dim dim = 2; }
  message Tensor {
    int32 dtype = 1; Shape tensor_shape = 2; bytes tensor_content = 4;
    repeated float float_val = 5; repeated bytes string_val = 8;
  }
  message Request { Model model_spec = 1; map<string, Tensor> inputs = 2; repeated string output_filter = 3; }
  message Response { map<string, Tensor> outputs = 1; }
`, { keepCase: true });
const [Request, Response] = ["Request", "Response"].map((name) => root.lookupType(name));
const STRING = 7;

const client = new grpc.Client($target, $credentials, {
  "grpc.max_receive_message_length": 256 << 20,
});
const photo = { dtype: STRING, tensor_shape: { dim: [{ size: 1 }] }, string_val: [readFileSync("cat.jpg")] };
client.makeUnaryRequest(
  "/tensorflow.serving.PredictionService/Predict",
  (request) => Buffer.from(Request.encode(request).finish()),
  (answer) => Response.decode(answer),
  { model_spec: { name: $model, signature_name: $signature }, inputs: { $input: photo }, output_filter: [$layer] },
  (error, answer) => {
    if (error) throw error;
    const tensor = answer.outputs[$layer];
    console.log(tensor.tensor_shape.dim.map(({ size }) => Number(size)));
    client.close();
  },
);
"""
_NO_REST = """\
# The address of the REST API is not known here: start the console with --rest HOST:PORT.
"""


def snippets(model: str, description: Description, layer: str, address: Address) -> list[dict[str, str]]:
    """Returns code that asks a model for a layer of a photo, each as JSON with its `name` and `code`.

    Args:
        model: the model's name.
        description: what the model is.
        layer: the layer.
        address: where the server is.
    """
    words = {
        "model": json.dumps(model),
        "target": json.dumps(address.grpc),
        "layer": json.dumps(layer),
        "tls": f", tls={_tls(address)}" if address.tls else "",
    }
    imports = "TLS, " if address.tls else ""
    blocking = {**words, "imports": f"{imports}FeatureClient"}
    try:
        field = image_input(description)
    except SourceError:
        return [{"name": "Python", "code": Template(_CALL).substitute(blocking)}]
    alone = f"{ENCODED}/{layer}"
    signature = alone if alone in description.signatures else ENCODED
    code = {
        "Python": Template(_SYNC).substitute(blocking),
        "Python, async": Template(_ASYNC).substitute({**words, "imports": f"{imports}AsyncFeatureClient"}),
        "curl": _curl(model, signature, address),
        "grpcurl": Template(_GRPCURL).substitute(
            input=field,
            layer_word=shlex.quote(json.dumps(layer)),
            spec_word=shlex.quote(json.dumps({"name": model, "signature_name": signature})),
            grpc=shlex.quote(address.grpc),
            plaintext=_grpcurl_tls(address),
        ),
        "Node": Template(_NODE).substitute(
            {
                **words,
                "signature": json.dumps(signature),
                "input": json.dumps(field),
                "credentials": _node_credentials(address),
            }
        ),
    }
    return [{"name": name, "code": text} for name, text in code.items()]


def _curl(model: str, signature: str, address: Address) -> str:
    if address.rest is None:
        return _NO_REST
    secure = address.rest.startswith("https://")
    return Template(_CURL).substitute(
        signature_word=shlex.quote(signature),
        ca=f" --cacert ca.pem{' --cert client.pem --key client.key' if address.mutual_tls else ''}" if secure else "",
        url=shlex.quote(f"{address.rest}/v1/models/{model}:predict"),
    )


def _tls(address: Address) -> str:
    own = ', certificate="client.pem", private_key="client.key"' if address.mutual_tls else ""
    return f'TLS(ca="ca.pem"{own})'


def _grpcurl_tls(address: Address) -> str:
    if not address.tls:
        return "-plaintext "
    return f"-cacert ca.pem {'-cert client.pem -key client.key ' if address.mutual_tls else ''}"


def _node_credentials(address: Address) -> str:
    if not address.tls:
        return "grpc.credentials.createInsecure()"
    own = ', readFileSync("client.key"), readFileSync("client.pem")' if address.mutual_tls else ""
    return f'grpc.credentials.createSsl(readFileSync("ca.pem"){own})'
