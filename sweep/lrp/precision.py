"""Full float32 products for this package's own computations, whatever the process is set to.

TensorFlow may round the factors of products to fewer bits: TF32 on GPUs since Ampere (on by default), and float16 or
bfloat16 where automatic mixed precision is switched on. Such maps would not agree with the reference. Both are settings
of the whole process, so they are changed only while the package computes, and put back afterwards.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from sweep.errors import InputError

REWRITES = ("auto_mixed_precision", "auto_mixed_precision_onednn_bfloat16", "auto_mixed_precision_mkl")
"""Graph optimisations that lower the precision of products."""
ONEDNN_MODE = "ONEDNN_DEFAULT_FPMATH_MODE"
"""Environment variable that oneDNN reads once, so it cannot be overruled here."""

_lock = threading.Lock()
_inside = 0
_before: tuple[bool, dict[str, Any]] = (False, {})


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products in full float32 until the block ends; also usable as a decorator.

    Blocks may nest and may run in several threads: the first to begin saves the settings, the last to end restores
    them. Raises InputError where the environment makes oneDNN lower the precision.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    if os.environ.get(ONEDNN_MODE, "STRICT").upper() not in ("", "STRICT"):
        raise InputError(
            f"{ONEDNN_MODE}={os.environ[ONEDNN_MODE]}: oneDNN would round what LRP multiplies; unset it"
        )
    with _lock:
        if _inside == 0:
            options = tf.config.optimizer.get_experimental_options()
            rewrites = {name: True for name in REWRITES if options.get(name)}
            _before = (tf.config.experimental.tensor_float_32_execution_enabled(), rewrites)
            tf.config.experimental.enable_tensor_float_32_execution(False)
            if rewrites:
                tf.config.optimizer.set_experimental_options(dict.fromkeys(rewrites, False))
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            tensor_float_32, rewrites = _before
            tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
            if rewrites:
                tf.config.optimizer.set_experimental_options(rewrites)
