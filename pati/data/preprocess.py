"""Preprocessing: the only path from a photo to the tensor that a network receives.

`Preprocess` is stored in the model file. Training, command line, Python API, report and web app all use it. Knows
nothing of networks or classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pati.data import decode
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.recipe import field_named

if TYPE_CHECKING:
    import torch

Photo: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]


class PreprocessDocument(TypedDict):
    """A `Preprocess` in a model file."""

    size: int
    resize: str
    mean: Sequence[float]
    std: Sequence[float]
    colour: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Decode, turn upright, convert to RGB, resize to a square, normalise.

    `resize` is stretch (whole photo, aspect ratio not preserved), crop (central square) or pad (whole photo on grey).
    The filter is Pillow's bilinear one, whose support grows with the reduction, so it averages all source pixels.
    `mean` and `std` are per channel, for values in 0..1. `colour` is srgb (colours with a profile are converted to
    sRGB) or stored (profiles are ignored, as for all models of version 0.x before profiles were read).
    """

    size: int
    resize: str = "stretch"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    colour: str = "srgb"

    def photo(self, photo: Photo) -> NDArray[np.uint8]:
        """RGB pixels `uint8 (H, W, 3)` at the photo's own size.

        Takes a path, encoded bytes, a Pillow image, or an array `uint8 (H, W[, 1|3|4])`. Raises `decode.Unreadable`.
        """
        if isinstance(photo, bytes):
            return self.decoded(photo).pixels
        if isinstance(photo, Image.Image):
            return decode.from_pillow(photo, to_srgb=self.colour == "srgb")
        if isinstance(photo, np.ndarray):
            return _from_array(photo)
        return self.decoded(decode.read(Path(photo))).pixels

    def decoded(self, data: bytes) -> decode.Decoded:
        """Decode a photo's bytes, with its colours as `colour` says; raises `decode.Unreadable`."""
        return decode.decode(data, None, self.colour == "srgb")

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize `uint8 (H, W, 3)` of any size to `uint8 (size, size, 3)`."""
        if pixels.shape[:2] == (self.size, self.size):
            return pixels
        return self.fit_image(Image.fromarray(pixels))

    def fit_image(self, image: Image.Image) -> NDArray[np.uint8]:
        """Like `fit`, for a Pillow image in mode RGB."""
        width, height = image.size
        target = (self.size, self.size)
        if self.resize == "stretch" or height == width:
            return np.asarray(image.resize(target, Image.Resampling.BILINEAR))
        if self.resize == "crop":
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            return np.asarray(image.resize(target, Image.Resampling.BILINEAR, box=box))
        scale = self.size / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", target, (128, 128, 128))
        offset = ((self.size - inner[0]) // 2, (self.size - inner[1]) // 2)
        canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), offset)
        return np.asarray(canvas)

    def place(self, width: int, height: int, box: tuple[float, float, float, float]) -> tuple[float, ...]:
        """Map a box (left, top, right, bottom) from the pixels of a photo of this size to those of the resized square.

        With `crop`, the result may extend beyond the square.
        """
        if self.resize == "stretch" or height == width:
            across, down, left, top = self.size / width, self.size / height, 0.0, 0.0
        elif self.resize == "crop":
            across = down = self.size / min(height, width)
            left, top = ((self.size - side * across) / 2 for side in (width, height))
        else:
            scale = self.size / max(height, width)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            across, down = inner[0] / width, inner[1] / height
            left, top = ((self.size - side) // 2 for side in inner)
        x1, y1, x2, y2 = box
        return (x1 * across + left, y1 * down + top, x2 * across + left, y2 * down + top)

    def covered(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a photo of this size that the resized square shows.

        Left, top, right and bottom as fractions of the photo's sides. Inverse of `place`: with `crop` it is smaller
        than the photo, with `pad` larger.
        """
        left, top, right, bottom = self.place(width, height, (0, 0, width, height))
        across, down = right - left, bottom - top
        return (-left / across, -top / down, (self.size - left) / across, (self.size - top) / down)

    def __call__(self, photo: Photo) -> NDArray[np.uint8]:
        """Photo -> `uint8 (size, size, 3)`; raises `decode.Unreadable`."""
        return self.fit(self.photo(photo))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """`uint8 (N, H, W, 3)` -> `float32 (N, 3, H, W)`, channels-last, with mean about 0 and deviation about 1."""
        scale, shift = (values.to(pixels.device) for values in self.normalisation())
        return (pixels.float() * (scale / 255) + shift).permute(0, 3, 1, 2)  # NHWC -> NCHW, a view

    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift `(3,)` that normalise values in 0..1."""
        import torch

        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return 1 / std, -mean / std

    def geometry(self) -> dict[str, int | str]:
        """The settings that determine the pixels of a pack; mean and std are applied later."""
        return {"size": self.size, "resize": self.resize, "filter": "bilinear", "colour": self.colour}

    def to_json(self) -> PreprocessDocument:
        """Plain values for the model file."""
        return {
            "size": self.size, "resize": self.resize, "mean": self.mean, "std": self.std, "colour": self.colour,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: PreprocessDocument) -> Preprocess:
        """Inverse of `to_json`. Accepts any JSON value; raises `PatiError` unless it is valid."""
        try:
            result = cls(
                size=int(values["size"]),
                resize=str(values["resize"]),
                mean=_three(values["mean"]),
                std=_three(values["std"]),
                colour=str(values.get("colour", "stored")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PatiError(N_("the model's preprocessing can't be read: {error}", error=repr(error))) from None
        finite = all(map(math.isfinite, (*result.mean, *result.std)))
        if (
            not finite
            or not 1 <= result.size <= field_named("size").metadata["high"]
            or min(result.std) <= 0
            or result.resize not in ("stretch", "crop", "pad")
            or result.colour not in ("srgb", "stored")
        ):
            raise PatiError(N_("the model's preprocessing is out of range: {values}", values=values))
        return result


def downscaled(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Packed pixels `uint8 (N, H, H, 3)`, downscaled to `size` if larger, with the filter of `Preprocess`."""
    from torch.nn.functional import interpolate

    if pixels.shape[1] <= size:
        return pixels
    images = pixels.permute(0, 3, 1, 2)  # NHWC -> NCHW, a view
    if pixels.is_cuda:  # CUDA interpolates floating point only
        images = interpolate(images.float(), (size, size), mode="bilinear", antialias=True).round().to(pixels.dtype)
    else:
        images = interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.permute(0, 2, 3, 1)


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _from_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.size == 0:
        raise PatiError(
            N_(
                "expected a photo as a non-empty uint8 array, got {dtype} {shape}",
                dtype=array.dtype,
                shape=str(array.shape),
            ),
            N_("values from 0 to 255, in the order (height, width, channels)"),
        )
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
        squeezed = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        return decode.from_pillow(Image.fromarray(np.ascontiguousarray(squeezed)))
    raise PatiError(N_("expected a photo of shape (H, W), (H, W, 3) or (H, W, 4), got {shape}", shape=str(array.shape)))
