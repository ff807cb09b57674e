"""Maps and masks of an export: an array and a picture per model."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from sweep.arrays import Array
from sweep.numerics.controls import mask_ranks
from sweep.numerics.masking import Ranking, removed_count
from sweep.plan import Plan
from sweep.report.pictures import coloured, montage, saturation
from sweep.stages import relevance
from sweep.storage.arrays import matrix
from sweep.storage.store import Store

COLUMNS = 16
"""Images in a row of a picture."""
KEPT = 255
"""Grey of pixels that no mask removes."""


def write_pictures(plan: Plan, store: Store, folder: Path) -> list[str]:
    """Write `maps/MODEL.npy` and `masks/MODEL.npy`, a PNG of each, and return the models that have them all.

    Maps are float32 (image, height, width) from -1 to 1 as the table `relevance` holds them. Masks are int32 (image,
    height, width): the rank of each pixel in the order of removal, 0 goes first; a mask of `percent` removes the pixels
    whose rank is below int(pixels * percent / 100 + 0.5).
    """
    for place in ("maps", "masks"):
        (folder / place).mkdir()
    units, count = relevance.units(plan), len(relevance.chunks(plan))
    size = plan.study.dataset.input_size
    masking, written = plan.study.masking, []
    ranking = Ranking(masking.order, masking.regions)
    ids = [plan.images.ids[position] for position in plan.selected]
    for model in plan.present:
        if any((model.id, chunk) in plan.gaps.maps for chunk in range(count)):
            continue
        own = [units[model.id, chunk] for chunk in range(count)]
        flat = matrix(store.read(own, columns=["map"])["map"])
        ranks = mask_ranks(flat, ranking, model.id, ids)
        maps, masks = (values.reshape(-1, size, size) for values in (flat, ranks))
        limit = saturation(maps)
        np.save(folder / "maps" / f"{model.id}.npy", maps, allow_pickle=False)
        np.save(folder / "masks" / f"{model.id}.npy", masks, allow_pickle=False)
        _save(folder / "maps" / f"{model.id}.png", np.stack([coloured(one, limit) for one in maps]))
        _save(folder / "masks" / f"{model.id}.png", _greys(masks, masking.percents))
        written.append(model.id)
    return written


def _greys(ranks: Array, percents: tuple[float, ...]) -> Array:
    """Masks (image, height, width) as RGB: black goes at the first level that removes anything, white at none below all."""
    pixels = ranks.shape[1] * ranks.shape[2]
    counts = [
        count for count in (removed_count(percent, pixels) for percent in percents) if 0 < count < pixels
    ]
    level = np.searchsorted(counts, ranks, side="right")
    greys = np.round(np.linspace(0, KEPT, len(counts) + 1)).astype(np.uint8)[level]
    return np.repeat(greys[..., None], 3, axis=-1)


def _save(path: Path, tiles: Array) -> None:
    """Save pictures (image, height, width, 3) as one PNG, COLUMNS in a row."""
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    grid = np.full((rows * columns, *tiles.shape[1:]), 255, np.uint8)
    grid[: len(tiles)] = tiles
    content = io.BytesIO()
    gap = max(1, tiles.shape[1] // 24)
    Image.fromarray(montage(grid.reshape(rows, columns, *tiles.shape[1:]), gap)).save(content, format="PNG")
    path.write_bytes(content.getvalue())
