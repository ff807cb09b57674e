"""Where images come from: one function per kind of source, each yielding decoded images with their labels.

A source is written `kind:PATH` in the study file. Decoding rules, the same for every source: EXIF
orientation is applied; 16-bit grey is scaled to 8 bits; transparency is laid over mid-grey; palettes and
CMYK become RGB; grey stays one channel until the networks need three.
"""

import csv
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from sweep.errors import InputError

MAX_PIXELS = 50_000_000
"""Larger images are refused: a photograph of a face never needs them, a decompression bomb does."""


@dataclass(frozen=True)
class RawImage:
    """One decoded image as its source holds it."""

    image_id: str
    identity: str
    pixels: np.ndarray[Any, Any]
    """uint8, (height, width) if grey or (height, width, 3) if RGB."""
    place: str
    """File and row or index, for messages."""
    gender: str | None = None
    view_deg: float | None = None
    labels: dict[str, str | None] = field(default_factory=dict)
    """Further label columns."""


def read_source(source: str, base: Path) -> Iterator[RawImage]:
    """Yield the images of `source`, whose path is relative to the folder `base`.

    Raises InputError naming the file and the row or index of the first image that cannot be used.
    """
    kind, _, location = source.partition(":")
    reader = _READERS.get(kind)
    if reader is None or not location:
        raise InputError(f"dataset.source: '{source}' is no known source; use {', '.join(_KINDS)}")
    return reader(location, base)


def is_file(path: Path) -> bool:
    """Whether a file can be found at `path`: false also where the path is too long or leads through a closed folder."""
    try:
        return path.is_file()
    except OSError:
        return False


def decode(path: Path | IO[bytes]) -> np.ndarray[Any, Any]:
    """Pixels of an image file as uint8, grey or RGB, by the module's rules.

    Raises ValueError with the reason where the file is no image, is truncated, or is too large.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(
                    f"has {opened.width}x{opened.height} pixels; at most {MAX_PIXELS:,} are read"
                )
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I;16", "I;16B", "I;16L"):
                return np.round(np.asarray(image, dtype=np.float32) / 257).astype(np.uint8)
            if image.mode in ("I", "F"):
                raise ValueError(f"has pixels of mode '{image.mode}'; save it with 8 or 16 bits a channel")
            if image.has_transparency_data:
                backdrop = Image.new("RGBA", image.size, (128, 128, 128, 255))
                image = Image.alpha_composite(backdrop, image.convert("RGBA"))
                return np.asarray(image.convert("RGB"))
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"cannot be decoded: {error}") from None


def _read_faces_mat(path: Path, name: str, images_per_identity: int) -> Iterator[RawImage]:
    import scipy.io

    if not is_file(path):
        raise InputError(f"{path}: no such file (dataset.source)")
    try:
        content = scipy.io.loadmat(path, variable_names=["x", "label"])
        pixels, identities = content["x"], content["label"].ravel()
    except KeyError as error:
        raise InputError(
            f"{path}: has no variable {error}; expected x (height, width, images) and label"
        ) from None
    except Exception as error:
        raise InputError(f"{path}: not a readable MATLAB 5 file: {error}") from None
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] != len(identities):
        raise InputError(
            f"{path}: x must be uint8 (height, width, images) with one label each, "
            f"not {pixels.dtype} {pixels.shape} with {len(identities)} labels"
        )
    for index, identity in enumerate(identities):
        within = index % images_per_identity
        yield RawImage(
            image_id=f"{name}-{int(identity):02d}-{within:02d}",
            identity=f"{int(identity):02d}",
            pixels=pixels[:, :, index],
            place=f"{path}: image {index}",
            labels={"view_index": f"{within:02d}"},
        )


def _read_umist(location: str, base: Path) -> Iterator[RawImage]:
    """Graham & Allinson (1998): 20 people x 19 views from profile to frontal; the index is no angle."""
    return _read_faces_mat(base / location, "umist", images_per_identity=19)


def _read_orl(location: str, base: Path) -> Iterator[RawImage]:
    """AT&T Laboratories Cambridge: 40 people x 10 near-frontal images."""
    return _read_faces_mat(base / location, "orl", images_per_identity=10)


def _read_bundled(location: str, base: Path) -> Iterator[RawImage]:
    """Images inside the package: rendered heads, 101 identities x 15 views (docs/heads.md)."""
    import pyarrow.parquet as pq

    path = Path(__file__).parent / "bundled" / f"{location}.parquet"
    known = sorted(other.stem for other in path.parent.glob("*.parquet"))
    if location not in known:
        raise InputError(
            f"dataset.source: no bundled images are named '{location}'; known: {', '.join(known)}"
        )
    for row in pq.read_table(path).to_pylist():
        yield RawImage(
            image_id=row["image_id"],
            identity=row["identity"],
            pixels=decode(io.BytesIO(row["png"])),
            place=f"{path.name}: {row['image_id']}",
            gender=row["gender"],
            view_deg=row["view_deg"],
        )


def _read_manifest(location: str, base: Path) -> Iterator[RawImage]:
    """A CSV with the columns path, identity and optionally gender, view_deg and further labels."""
    path = base / location
    if not is_file(path):
        raise InputError(f"{path}: no such manifest (dataset.source)")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            rows = list(enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    missing = [column for column in ("path", "identity") if column not in columns]
    if missing:
        raise InputError(
            f"{path}: has no column {' and no column '.join(missing)}; found: {', '.join(columns)}"
        )
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: names a column twice: {', '.join(columns)}")
    taken = [column for column in columns if column in ("image_id", "split", "height", "width")]
    if taken:
        raise InputError(
            f"{path}: column {taken[0]}: the study makes a column of that name itself; rename it"
        )
    if not rows:
        raise InputError(f"{path}: lists no images")
    labels = [column for column in columns if column not in ("path", "identity", "gender", "view_deg")]
    seen: dict[str, int] = {}
    problems = []
    for line, row in rows:
        if None in row or None in row.values():
            problems.append(
                f"{path}: row {line}: has {'more' if None in row else 'fewer'} cells than the header"
            )
            continue
        file_name = row["path"]
        if not file_name or not is_file(path.parent / file_name):
            problems.append(f"{path}: row {line}: path: no file '{file_name}' under {path.parent}")
        elif file_name in seen:
            problems.append(
                f"{path}: row {line}: path: '{file_name}' stands in row {seen[file_name]} already"
            )
        if not row["identity"]:
            problems.append(f"{path}: row {line}: identity: is empty")
        seen.setdefault(file_name, line)
    if problems:
        raise InputError(
            *problems[:20], *([f"... and {len(problems) - 20} more"] if len(problems) > 20 else [])
        )
    for line, row in rows:
        place = f"{path}: row {line}"
        try:
            view = float(row["view_deg"]) if row.get("view_deg") else None
        except ValueError:
            raise InputError(f"{place}: view_deg: '{row['view_deg']}' is no number of degrees") from None
        try:
            pixels = decode(path.parent / row["path"])
        except ValueError as error:
            raise InputError(f"{place}: {row['path']} {error}") from None
        yield RawImage(
            image_id=Path(row["path"]).with_suffix("").as_posix(),
            identity=row["identity"],
            pixels=pixels,
            place=place,
            gender=row.get("gender") or None,
            view_deg=view,
            labels={column: row[column] or None for column in labels},
        )


_READERS: dict[str, Callable[[str, Path], Iterator[RawImage]]] = {
    "bundled": _read_bundled,
    "umist": _read_umist,
    "orl": _read_orl,
    "manifest": _read_manifest,
}
_KINDS = ("bundled:heads", "umist:PATH.mat", "orl:PATH.mat", "manifest:PATH.csv")
