"""Where images come from: one function per kind of source, each yielding decoded images with their labels.

A source is written `kind:PATH` in the study file. `sweep.data.decoding` says how files are decoded, `sweep.data.folder` how
a folder of pictures is read, `sweep.data.manifest` how a manifest is.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sweep.arrays import Array
from sweep.data.decoding import RawImage, decode, is_file, scaled
from sweep.data.folder import files_of_folder, read_folder
from sweep.data.manifest import listed, read_manifest
from sweep.errors import InputError


def read_source(source: str, base: Path, white: float | None = None) -> Iterator[RawImage]:
    """Yield the images of `source`, whose path is relative to the folder `base`.

    `white` is the pixel value that is white; None: the largest that the file type holds. Raises InputError naming the
    file and the row or index of every image that cannot be used.
    """
    kind, _, location = source.partition(":")
    reader = _READERS.get(kind)
    if reader is None or not location:
        raise InputError(f"dataset.source: '{source}' is no known source; use {', '.join(_KINDS)}")
    return reader(location, base, white)


def files_of_source(source: str, base: Path) -> list[str]:
    """Paths of the files that a source is made of, as they stand in the study file or relative to its folder `base`.

    Raises InputError where a manifest or a folder cannot be read.
    """
    kind, _, location = source.partition(":")
    if kind not in _READERS or kind == "bundled":
        return []
    if kind == "folder":
        # What lies at an absolute path is not taken along, whatever it holds.
        return [location] if Path(location).is_absolute() else files_of_folder(location, base)
    found = [location]
    if kind == "manifest" and not Path(location).is_absolute():
        found += [str(Path(location).parent / name) for name in listed(base / location)]
    return found


def _scaled(pixels: Array, white: float | None, place: str) -> Array:
    try:
        return scaled(pixels, white)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def _read_faces_mat(
    path: Path, name: str, images_per_identity: int, white: float | None
) -> Iterator[RawImage]:
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
    if identities.dtype.kind not in "iuf" or (identities != np.floor(identities)).any():
        raise InputError(f"{path}: label must hold whole numbers, one per identity")
    for index, identity in enumerate(identities):
        within = index % images_per_identity
        yield RawImage(
            image_id=f"{name}-{int(identity):02d}-{within:02d}",
            identity=f"{int(identity):02d}",
            pixels=_scaled(pixels[:, :, index], white, f"{path}: image {index}"),
            place=f"{path}: image {index}",
            labels={"view_index": f"{within:02d}"},
        )


def _read_umist(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
    """Graham & Allinson (1998): 20 people x 19 views from profile to frontal; the index is no angle."""
    return _read_faces_mat(base / location, "umist", images_per_identity=19, white=white)


def _read_orl(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
    """AT&T Laboratories Cambridge: 40 people x 10 near-frontal images."""
    return _read_faces_mat(base / location, "orl", images_per_identity=10, white=white)


def _read_bundled(location: str, base: Path, white: float | None) -> Iterator[RawImage]:
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
            pixels=_scaled(decode(io.BytesIO(row["png"])), white, row["image_id"]),
            place=f"{path.name}: {row['image_id']}",
            gender=row["gender"],
            view_deg=row["view_deg"],
        )


_READERS: dict[str, Callable[[str, Path, float | None], Iterator[RawImage]]] = {
    "bundled": _read_bundled,
    "umist": _read_umist,
    "orl": _read_orl,
    "folder": read_folder,
    "manifest": read_manifest,
}
_KINDS = ("folder:PATH", "manifest:PATH.csv", "bundled:heads", "umist:PATH.mat", "orl:PATH.mat")
