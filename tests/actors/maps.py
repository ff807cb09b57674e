"""Stored maps for what reads them."""

import pyarrow as pa

from sweep.arrays import Array
from sweep.keys import key_of
from sweep.storage.arrays import lists
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit


def store_maps(store: Store, name: str, maps: Array) -> Unit:
    """Store square `maps` (image, pixel) of a model called `name`."""
    count, side = len(maps), round(maps.shape[1] ** 0.5)
    unit = Unit("relevance", name, key_of("map", name), count)
    rows = {
        "model_id": [name] * count,
        "image_id": [f"image-{index}" for index in range(count)],
        "target_class": ["c"] * count,
        "logit": [1.0] * count,
        "max_abs": [1.0] * count,
        "height": [side] * count,
        "width": [side] * count,
        "map": lists(maps),
    }
    store.write(unit, pa.table(rows), SCHEMAS["relevance"])
    return unit
