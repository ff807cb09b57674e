"""What a user should know about images that can be used, but perhaps not as they think: a line each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.data.alike import differ_by_case

LEAST_RANGE = 64
"""A source that uses fewer of the 256 values is remarked on."""
OUTERMOST = 0.001
"""Share of the pixels at either end that do not count: a few hot pixels are no range."""
STEP = 4
"""Of every side of an image each so many-th pixel is looked at."""


def notes_of(
    pixels: Array,
    keys: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    remarks: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    """Notes on the images of a study.

    `pixels` is (image, size, size, 3), `keys` names the pixels of each, `columns` are those of the table `images`, and
    `remarks` says at which places each remark on a file holds.
    """
    return (
        *_narrow(pixels),
        *_leaks(keys, columns["split"], places),
        *_case(columns),
        *(f"{where[0]}: {remark}{_also(len(where))}" for remark, where in remarks.items()),
    )


def _narrow(pixels: Array) -> Iterator[str]:
    looked_at = np.ascontiguousarray(pixels[:, ::STEP, ::STEP])
    below = np.cumsum(np.bincount(looked_at.ravel(), minlength=256)) / looked_at.size
    low, high = int(np.searchsorted(below, OUTERMOST)), int(np.searchsorted(below, 1 - OUTERMOST))
    if high - low < LEAST_RANGE:
        yield (
            f"dataset.source: the images use only the pixel values {low} to {high} of 0 to 255; where another value "
            "than the file type's is white, name it in dataset.white (1023 for 10 bits, 4095 for 12)"
        )


def _leaks(keys: Sequence[str], split: Sequence[str], places: Sequence[str]) -> Iterator[str]:
    trained = {key: index for index, key in enumerate(keys) if split[index] == "train"}
    held = [
        (trained[key], index)
        for index, key in enumerate(keys)
        if split[index] == "validation" and key in trained
    ]
    if held:
        first, second = held[0]
        yield (
            f"{places[second]}: held back for validation, but has the same pixels as {places[first]}, which is "
            f"trained on, so accuracies are too high{_also(len(held))}"
        )


def _case(columns: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for name, values in columns.items():
        if name in ("image_id", "split"):
            continue
        alike = differ_by_case({value for value in values if isinstance(value, str)})
        if alike is not None:
            yield (
                f"dataset.source: '{alike[0]}' and '{alike[1]}' of {name} differ only by case and count as two values"
            )


def _also(count: int) -> str:
    return f" ({count:,} such images in all)" if count > 1 else ""
