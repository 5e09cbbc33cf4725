"""The signatures of an exported model that the client asks by name: what each is called and takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What an image is when it is sent: a file's bytes, uint8 RGB of any size, or float32 RGB of the network's own size.
InputKind = Literal["encoded", "uint8", "float"]


@dataclass(frozen=True, kw_only=True)
class ImageSignature:
    """A signature that takes images; `NAME/LAYER` is its variant with one layer alone."""

    name: str
    input: str
    dtype: str

    def alone(self, layer: str) -> str:
        """Returns the name of the signature that computes only this layer."""
        return f"{self.name}/{layer}"


IMAGE_SIGNATURES: dict[InputKind, ImageSignature] = {
    "encoded": ImageSignature(name="encoded", input="image_bytes", dtype="string"),
    "uint8": ImageSignature(name="serving_default", input="images", dtype="uint8"),
    "float": ImageSignature(name="float_images", input="images", dtype="float32"),
}

#: The signature without inputs whose one output, of the same name, is the manifest as JSON text.
MANIFEST = "manifest"

#: The signature without inputs that answers pictures, and a sample of the live model's activations of them.
GOLDEN = "golden"
