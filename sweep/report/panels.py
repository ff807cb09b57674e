"""What a model's MLflow run shows of it: its readout, and its maps of a few faces."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from sweep.plan import Model, Plan
from sweep.report.pictures import coloured, montage, overlaid, saturation
from sweep.stages import finetune, relevance
from sweep.storage.arrays import matrix
from sweep.storage.store import Store

FACES = 6
"""Faces on a panel, from the first unit of maps."""
SIDE = 160
"""Least height of a face on a panel, pixels."""


def model_files(plan: Plan, store: Store, model: Model) -> Mapping[str, bytes]:
    """A finished model's files by path: `readout.npz` and `maps.png`."""
    weights = store.read_weights(finetune.model_units(plan)[model.id])
    return {"readout.npz": weights, "maps.png": map_panel(plan, store, model)}


def map_panel(plan: Plan, store: Store, model: Model) -> bytes:
    """A PNG of a few faces (top), the model's relevance for each (middle), and that laid over the face (bottom)."""
    rows = store.read([relevance.units(plan)[model.id, 0]], columns=["map"])
    chunk = relevance.chunks(plan)[0]
    chosen = sorted(set(np.linspace(0, len(chunk) - 1, FACES).round().astype(int).tolist()))
    size = plan.study.dataset.input_size
    maps = matrix(rows["map"])[chosen].reshape(-1, size, size)
    faces = plan.images.pixels[[chunk[i] for i in chosen]]
    limit = saturation(maps)
    tiles = np.stack(
        [
            faces,
            np.stack([coloured(one, limit) for one in maps]),
            np.stack([overlaid(face, one, limit) for face, one in zip(faces, maps, strict=True)]),
        ]
    )
    times = max(1, round(SIDE / size))
    whole = montage(tiles, gap=max(1, size // 24)).repeat(times, axis=0).repeat(times, axis=1)
    content = io.BytesIO()
    Image.fromarray(whole).save(content, format="PNG", optimize=True)
    return content.getvalue()
