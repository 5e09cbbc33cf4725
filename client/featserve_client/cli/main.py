"""The `featserve` command."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..analysis.golden import verify
from ..analysis.neighbors import embed, load_vectors, nearest
from ..analysis.pictures import check_picture, draw_maps, draw_sheet, page, read_photo, save
from ..bulk.formats import check_output
from ..bulk.job import extract_files, partial_folder
from ..client import FeatureClient
from ..config import TLS, Limits
from ..exceptions import ConfigError, FeatserveError, InvalidImageError
from ..images.find import find_images
from .progress import Reporter

_PICTURES = (".png", ".jpg", ".svg", ".pdf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 some images failed, 2 nothing could be done."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
    try:
        return int(arguments.run(arguments))
    except FeatserveError as exc:
        print(f"featserve: {exc}", file=sys.stderr)
        if arguments.verbose:
            raise
        return 2
    except KeyboardInterrupt:
        print("featserve: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="featserve", description="Image features from a model server, over gRPC.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    extract = commands.add_parser("extract", help="write the activations of images into a file")
    extract.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns, @FILE (a list) or - (a list on stdin)"
    )
    _server(extract)
    extract.add_argument("--layers", metavar="A,B", help="layers wanted (default: all that the model exports)")
    extract.add_argument(
        "--output",
        default="features.npz",
        metavar="FILE",
        help=".npz, .npy, .parquet, .h5 or .zarr (default: %(default)s)",
    )
    extract.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests in flight at most (default: %(default)s)"
    )
    extract.add_argument("--resume", action="store_true", help="go on where an earlier run was broken off")
    extract.add_argument("--quiet", action="store_true", help="no progress")
    extract.set_defaults(run=_extract)

    status = commands.add_parser("status", help="show the state of the model's versions")
    _server(status)
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)

    show = commands.add_parser("show", help="draw a photo's activation maps")
    show.add_argument("image", metavar="IMAGE")
    _server(show)
    show.add_argument("--layers", metavar="A,B", help="layers drawn (default: all that the model exports)")
    show.add_argument(
        "--output", default="maps.png", metavar="FILE", help=".png, .jpg, .svg or .pdf (default: %(default)s)"
    )
    show.set_defaults(run=_show)

    similar = commands.add_parser("similar", help="find the photos most like one, and draw them")
    similar.add_argument("query", metavar="QUERY", help="an image file")
    similar.add_argument("among", metavar="DIR_OR_PARQUET", help="images, or a .parquet that featserve extract wrote")
    _server(similar)
    similar.add_argument("-k", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    similar.add_argument("--layers", metavar="A", help="the layer compared (default: the model's last)")
    similar.add_argument(
        "--output", default="similar.png", metavar="FILE", help=".png, .jpg, .svg, .pdf or .html (default: %(default)s)"
    )
    similar.set_defaults(run=_similar)

    verify = commands.add_parser("verify", help="compare a server's answers with those of the exported Keras model")
    verify.add_argument("model_dir", metavar="MODEL_DIR", help="an exported version: ROOT/NAME/VERSION")
    _server(verify, model=None)
    verify.set_defaults(run=_verify)

    metadata = commands.add_parser("metadata", help="show the model's signatures and manifest")
    _server(metadata)
    metadata.add_argument("--json", action="store_true")
    metadata.set_defaults(run=_metadata)
    return parser


def _server(parser: argparse.ArgumentParser, *, model: str | None = "efficientnet_lite0") -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--server", default="localhost:8500", metavar="HOST:PORT", help="default: %(default)s")
    group.add_argument("--model", default=model, help=f"default: {model or 'the name in the directory'}")
    group.add_argument("--model-version", type=int, metavar="N", help="default: the server's latest")
    group.add_argument("--label", help="ask the version with this label")
    group.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="per request (default: %(default)s)"
    )
    group.add_argument("--max-message-bytes", type=int, default=Limits().max_message_bytes, metavar="BYTES")
    group.add_argument("--decode", choices=("server", "client"), default="server")
    group.add_argument("--ca", metavar="PEM", help="use TLS and trust this authority")
    group.add_argument("--certificate", metavar="PEM", help="the client's own certificate (mTLS)")
    group.add_argument("--private-key", metavar="PEM")
    group.add_argument("--server-name", metavar="NAME", help="the name in the server's certificate")
    group.add_argument("--token-file", metavar="FILE", help="send the bearer token in this file")
    parser.add_argument("--verbose", action="store_true", help="show the trace of an error")


def make_client(arguments: argparse.Namespace) -> FeatureClient:
    """Return the client that the options describe."""
    tls = None
    if arguments.ca or arguments.certificate or arguments.private_key or arguments.server_name:
        tls = TLS(
            ca=arguments.ca,
            certificate=arguments.certificate,
            private_key=arguments.private_key,
            server_name=arguments.server_name,
        )
    token = None
    if arguments.token_file:
        try:
            token = Path(arguments.token_file).read_text().strip()
        except (OSError, ValueError) as exc:
            raise ConfigError(f"--token-file: {exc}") from exc
    return FeatureClient(
        arguments.server,
        model=arguments.model,
        version=arguments.model_version,
        label=arguments.label,
        timeout_s=arguments.timeout,
        decode=arguments.decode,
        limits=Limits(max_message_bytes=arguments.max_message_bytes),
        tls=tls,
        token=token,
    )


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",")] if text else None


def _extract(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    check_output(output)
    paths = find_images(arguments.images)
    reporter = Reporter(quiet=arguments.quiet)
    try:
        with make_client(arguments) as client, reporter:
            summary = extract_files(
                client,
                paths,
                output,
                layers=_names(arguments.layers),
                concurrency=arguments.concurrency,
                resume=arguments.resume,
                report=reporter.update,
            )
    except (FeatserveError, KeyboardInterrupt):
        if reporter.done and partial_folder(output).exists():
            print("featserve: broken off; the same command with --resume goes on", file=sys.stderr)
        raise
    for layer, shape in summary.layers.items():
        print(f"{layer}  {(summary.rows, *shape)}  float32")
    print(summary.output)
    if summary.failures:
        print(f"featserve: {summary.failures} images failed, see {summary.failures_file}", file=sys.stderr)
    return 1 if summary.failures else 0


def _show(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    check_picture(output, *_PICTURES)
    layers = _names(arguments.layers)
    with make_client(arguments) as client:
        features = client.extract(arguments.image, layers)
        photo = read_photo(arguments.image)
        order = layers or client.metadata().layers
        maps = {layer: features[layer][0] for layer in order}
        save(output, draw_maps(photo, maps, f"{Path(arguments.image).name}  ·  {client.model}"))
    print(output)
    return 0


def _similar(arguments: argparse.Namespace) -> int:
    output, among = Path(arguments.output), Path(arguments.among)
    check_picture(output, *_PICTURES, ".html")
    if arguments.k < 1:
        raise ConfigError(f"-k must be at least 1, not {arguments.k}")
    with make_client(arguments) as client:
        if among.suffix == ".parquet":
            names, layer, vectors = load_vectors(among, arguments.layers)
        else:
            layer = arguments.layers or (client.metadata().layers or ("",))[-1]
            names, found = [], []
            for result in client.extract_iter(find_images([arguments.among]), layer, on_error="return"):
                if result.error is not None:
                    print(f"featserve: left out: {result.error}", file=sys.stderr)
                    continue
                names.append(result.source)
                found.append(embed(result.features[layer][np.newaxis]))
            if not names:
                raise InvalidImageError(arguments.among, "none of its images could be extracted")
            vectors = np.concatenate(found)
        query = embed(client.extract(arguments.query, layer)[layer])[0]
    if query.shape != vectors.shape[1:]:
        raise ConfigError(
            f"layer {layer!r} has {len(query)} channels on the server and {vectors.shape[1]} in {among}: "
            "the file is of another model"
        )
    keep = [row for row, name in enumerate(names) if Path(name).absolute() != Path(arguments.query).absolute()]
    rows, cosines = nearest(vectors[keep], query, arguments.k)
    most_like = [names[keep[row]] for row in rows]
    title = f"Most like {Path(arguments.query).name}  ·  {arguments.model}, {layer}, cosine"
    draw = page if output.suffix == ".html" else draw_sheet
    save(output, draw(arguments.query, most_like, cosines.tolist(), title))
    for name, cosine in zip(most_like, cosines, strict=True):
        print(f"{cosine:.4f}  {name}")
    print(output)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    model_dir = Path(arguments.model_dir)
    arguments.model = arguments.model or model_dir.absolute().parent.name
    checks = []
    with make_client(arguments) as client:
        for check in verify(client, model_dir):
            checks.append(check)
            verdict = "ok" if check.passed else "FAILED"
            print(
                f"{verdict:6}  {check.signature}:{check.layer}  {check.images} images  cosine {check.cosine:.7f} "
                f"(at least {check.threshold})  max relative error {check.max_relative_error:.1e}"
            )
    failed = sum(not check.passed for check in checks)
    if failed:
        print(f"featserve: {failed} of {len(checks)} checks failed", file=sys.stderr)
    return 1 if failed else 0


def _status(arguments: argparse.Namespace) -> int:
    with make_client(arguments) as client:
        versions = client.status()
    if arguments.json:
        print(json.dumps([asdict(version) for version in versions]))
    else:
        for version in versions:
            print(f"{arguments.model} version {version.version}: {version.state} {version.error}".rstrip())
    return 0 if any(version.available for version in versions) else 1


def _metadata(arguments: argparse.Namespace) -> int:
    with make_client(arguments) as client:
        model = client.metadata()
    if arguments.json:
        print(json.dumps(asdict(model)))
        return 0
    print(f"model {model.model}, version {model.version}")
    for name, signature in model.signatures.items():
        print(f"\n{name}")
        for key, spec in signature.inputs.items():
            print(f"  in   {key}: {spec}")
        for key, spec in signature.outputs.items():
            print(f"  out  {key}: {spec}")
    if model.manifest:
        print("\nmanifest")
        for key, value in model.manifest.items():
            if key not in ("signatures", "layers"):
                print(f"  {key}: {json.dumps(value)}")
    return 0
