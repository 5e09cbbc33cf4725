"""The demo: serves an exported model, extracts features of real photos through the client and draws them."""

import argparse
import signal
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import skimage
from featserve_client import FeatserveError, FeatureClient
from featserve_client.analysis.pictures import overlay, read_photo, strongest_channels
from featserve_client.core.vectors import to_vectors
from local_server import ServerError, served

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")
MAPS = 4
READY_TIMEOUT_S = 300


def main() -> int:
    """Runs the demo; 0 only if all of it worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-root", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=Path, default=Path("build/demo.png"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    photos = [Path(skimage.__file__).parent / "data" / name for name in PHOTOS]
    directory = (options.model_root / options.model).resolve()
    try:
        with served(f"--model_name={options.model}", f"--model_base_path={directory}") as address:
            features = extract(address, options.model, photos)
    except (FeatserveError, ServerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; the server is stopped", file=sys.stderr)
        return 130
    draw(photos, features, options.output)
    print(f"picture  {options.output}")
    return 0


def extract(address: str, model: str, photos: list[Path]) -> dict[str, npt.NDArray[np.float32]]:
    """Extracts the photos' features one by one and prints what came back."""
    with FeatureClient(address, model=model) as client:
        client.wait_until_ready(READY_TIMEOUT_S)
        rows = []
        for photo in photos:
            start = time.perf_counter()
            features = client.extract(photo)
            milliseconds = (time.perf_counter() - start) * 1000
            rows.append(features)
            for layer, activations in features.items():
                print(f"{photo.name:14} {layer}  {activations.shape}  {activations.dtype}  {milliseconds:.1f} ms")
        return {layer: np.concatenate([row[layer] for row in rows]) for layer in rows[0]}


def draw(photos: list[Path], features: dict[str, npt.NDArray[np.float32]], output: Path) -> None:
    """Draws each photo beside its strongest activation maps, and the photos' cosine similarity to each other."""
    layer, activations = next((name, value) for name, value in features.items())
    spatial = activations.ndim == 4
    columns = 1 + (MAPS if spatial else 0)
    figure = plt.figure(figsize=(2.1 * columns + 4.6, 2.2 * len(photos)), layout="constrained")
    maps, matrix = figure.subfigures(1, 2, width_ratios=(2.1 * columns, 4.6))
    axes = maps.subplots(len(photos), columns, squeeze=False)
    for row, photo, activation in zip(axes, photos, activations, strict=True):
        image = read_photo(str(photo))
        row[0].imshow(image)
        row[0].set_title(photo.name, fontsize=9)
        if spatial:
            for axis, channel in zip(row[1:], strongest_channels(activation, MAPS), strict=True):
                axis.imshow(overlay(image, activation[..., channel].astype(np.float64)))
                axis.set_title(f"channel {channel}", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    maps.suptitle(f"strongest maps of {layer}")
    vectors = to_vectors(activations)
    similarity = vectors @ vectors.T
    names = [photo.stem for photo in photos]
    axis = matrix.subplots()
    shown = axis.imshow(similarity, cmap="viridis", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=30)
    axis.set_yticks(range(len(names)), names)
    for (y, x), value in np.ndenumerate(similarity):
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white")
    # As high as the matrix, which is square.
    matrix.colorbar(shown, cax=axis.inset_axes((1.05, 0, 0.06, 1)))
    matrix.suptitle("cosine similarity")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
