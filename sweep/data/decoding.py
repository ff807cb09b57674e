"""Image files as pixels, by the same rules for every source.

EXIF orientation is applied. 16-bit grey is scaled to 8 bits, 65535 becoming 255, unless `dataset.white` of the study names
another value that is white (4095 for data of 12 bits): then every image is scaled by it, also those with 8 bits, whole
numbers of 32 bits or floating-point numbers. Of 16-bit colour the upper 8 bits are kept. Transparency is laid over mid-grey;
palettes and CMYK become RGB; grey stays one channel until the networks need three. Values are taken as stored: colour
profiles and gammas are not applied. Of a file of several frames the first is read. The last two are remarked on.
"""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from sweep.arrays import Array

MAX_PIXELS = 50_000_000
"""Larger images are refused: a photograph of a face never needs them, a decompression bomb does."""
MID_GREY = 128
"""What shows through transparent pixels."""
DARK = 64
"""16-bit colour below this has lost most of its steps with its lower bits."""
SRGB_GAMMA = 1 / 2.2


def is_file(path: Path) -> bool:
    """Whether a file can be found at `path`: false also where the path is too long or leads through a closed folder."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class RawImage:
    """One decoded image as its source holds it."""

    image_id: str
    identity: str
    pixels: Array
    """uint8, (height, width) if grey or (height, width, 3) if RGB."""
    place: str
    """File and row or index, for messages."""
    gender: str | None = None
    view_deg: float | None = None
    labels: dict[str, str | None] = field(default_factory=dict)
    """Further label columns."""
    split: str | None = None
    """'train' or 'validation', where the source decides that."""
    remarks: tuple[str, ...] = ()
    """What its reader should know about it; each continues a sentence that begins with the image."""


class _Unusable(ValueError):
    """The image is readable, but not by the module's rules."""


def decode(path: Path | IO[bytes], white: float | None = None) -> Array:
    """Pixels of an image file as uint8, grey or RGB, by the module's rules.

    Raises ValueError with the reason where the file is no image, is truncated, or is too large.
    """
    return decode_with_remarks(path, white)[0]


def decode_with_remarks(path: Path | IO[bytes], white: float | None = None) -> tuple[Array, tuple[str, ...]]:
    """What `decode` returns, and what of the file it did not use."""
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if opened.width * opened.height > MAX_PIXELS:
                raise _Unusable(f"has {opened.width}x{opened.height} pixels; at most {MAX_PIXELS:,} are read")
            remarks = list(_remarks(opened))
            is_deep_colour = any(";16" in str(tile[3]) for tile in opened.tile)
            if white is not None and is_deep_colour and opened.mode in ("RGB", "RGBA"):
                raise _Unusable(
                    "has 16 bits a channel, of which 8 are read; dataset.white is for grey and 8 bits"
                )
            if getattr(opened, "tag_v2", {}).get(262) == 0 and opened.mode not in ("1", "L"):
                raise _Unusable("stores white as zero; save it with black as zero")
            pixels = _pixels(ImageOps.exif_transpose(opened), white)
            if is_deep_colour and pixels.ndim == 3 and pixels.max() < DARK:
                remarks.append(
                    "is dark and has 16 bits a channel, of which the upper 8 are read; save it with 8"
                )
            return pixels, tuple(remarks)
    except _Unusable:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"cannot be decoded: {error or type(error).__name__}") from None


def scaled(pixels: Array, white: float | None) -> Array:
    """Pixels as uint8, `white` becoming 255; None leaves them as they are.

    Raises ValueError where a value is below 0 or above `white`.
    """
    if white is None:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and np.isfinite(high)):
        raise _Unusable(f"has pixels of {low:g} to {high:g}; black is 0, and every value must be finite")
    if high > white:
        raise _Unusable(f"has pixels up to {high:g}, brighter than dataset.white ({white:g})")
    levels: Array = np.round(pixels * (255 / white)).astype(np.uint8)
    return levels


def _pixels(image: Image.Image, white: float | None) -> Array:
    if image.mode.startswith("I;16") and white is None:
        return np.round(np.asarray(image, dtype=np.float32) / 257).astype(np.uint8)
    if image.mode in ("I", "F") and white is None:
        raise _Unusable(
            f"has pixels of mode '{image.mode}'; save it with 8 or 16 bits a channel, or name the value that is "
            "white in dataset.white"
        )
    if image.mode.startswith("I") or image.mode == "F":
        return scaled(np.asarray(image).astype(np.float64), white)
    if white is not None and white > 255:
        raise _Unusable(f"has 8 bits a channel, so no pixel can be dataset.white ({white:g})")
    if image.has_transparency_data:
        grey = MID_GREY if white is None else round(MID_GREY * white / 255)
        backdrop = Image.new("RGBA", image.size, (grey, grey, grey, 255))
        image = Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
    return scaled(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")), white)


def _remarks(opened: Image.Image) -> Iterator[str]:
    # Cameras store previews as further frames of MPO files; the first is the photograph.
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        yield "has several frames, of which the first is read"
    if profile := opened.info.get("icc_profile"):
        name = _profile_name(profile)
        if "srgb" not in name.casefold():
            yield f"has the colour profile '{name}', which is not applied"
    elif abs((opened.info.get("gamma") or SRGB_GAMMA) - SRGB_GAMMA) > 0.01:
        yield f"has the gamma {opened.info['gamma']:g}, which is not applied"
    if opened.format == "JPEG" and opened.mode == "CMYK" and "adobe" not in opened.info:
        yield "is CMYK without Adobe's marker; its inks are read as inverted, as Adobe writes them"


def _profile_name(profile: bytes) -> str:
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except Exception:  # a damaged profile can raise anything, and is not needed
        return "unreadable"
