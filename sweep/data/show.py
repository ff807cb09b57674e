"""A look at a dataset: how many images of what, and a contact sheet."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from sweep.data.images import Images

THUMBNAIL = 64
"""Side of a face on the contact sheet, pixels."""
SHEET_COLUMNS, SHEET_ROWS = 15, 20
NAMED_VALUES = 20
"""Labels with more values than this are summarised instead of listed."""


def counts(images: Images) -> pa.Table:
    """One row per label: how many values it has and how many images each of them, as text."""
    rows = []
    for name in ["split", *images.label_columns]:
        values = images.table[name].to_pylist()
        known = Counter(value for value in values if value is not None)
        if not known:
            continue
        number = sorted(known) if len(known) <= NAMED_VALUES else []
        listed = ", ".join(f"{_text(value)} {known[value]}" for value in number)
        spread = f"{min(known.values())} to {max(known.values())} images each"
        rows.append(
            {
                "label": name,
                "values": len(known),
                "images": known.total(),
                "unlabelled": len(values) - known.total(),
                "images per value": listed or spread,
            }
        )
    return pa.Table.from_pylist(rows)


def contact_sheet(images: Images) -> Image.Image:
    """A grid of faces, a row per identity and its views in order; long datasets are sampled evenly."""
    table = images.table.select(["identity", "view_deg", "image_id"]).to_pylist()
    by_identity: dict[str, list[int]] = {}
    for index in sorted(range(len(table)), key=lambda i: (table[i]["view_deg"] or 0, table[i]["image_id"])):
        by_identity.setdefault(table[index]["identity"], []).append(index)
    shown = _evenly(sorted(by_identity), SHEET_ROWS)
    columns = min(SHEET_COLUMNS, max(len(by_identity[identity]) for identity in shown))
    sheet = Image.new("RGB", (columns * THUMBNAIL, len(shown) * THUMBNAIL), "white")
    for row, identity in enumerate(shown):
        for column, index in enumerate(_evenly(by_identity[identity], columns)):
            face = Image.fromarray(images.pixels[index]).resize(
                (THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR
            )
            sheet.paste(face, (column * THUMBNAIL, row * THUMBNAIL))
    return sheet


def _evenly(values: list[Any], most: int) -> list[Any]:
    if len(values) <= most:
        return values
    return [values[index] for index in np.linspace(0, len(values) - 1, most).round().astype(int)]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
