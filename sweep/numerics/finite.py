"""Refuses numbers that are not finite, before they are stored or compared: a NaN sorts, counts and compares as if it were one."""

from collections.abc import Sequence

import numpy as np

from sweep.arrays import Array
from sweep.errors import WorkError


def fail_with(problems: Sequence[str]) -> None:
    """Raise WorkError with `problems`, if there are any, for work whose other units are stored by now."""
    if problems:
        raise WorkError("; ".join(problems))


def check_finite(values: Array, what: str, images: Sequence[str] | Array) -> None:
    """Raise WorkError, opening with `what`, naming the first image whose `values` (image, ...) are not all finite.

    The last number of float32 counts as none: TensorFlow's max-pool gives it, negative, where it sees nothing but NaN.
    """
    finite = (np.abs(values) < np.finfo(np.float32).max).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        count = int((~finite).sum())
        raise WorkError(
            f"{what}: not finite for image '{images[int(finite.argmin())]}' ({count} of {len(values)} images); "
            "nothing of it is stored"
        )
