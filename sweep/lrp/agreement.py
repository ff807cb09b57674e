"""Runs a network beside the Keras model that it was read from: what no list of layers foresees shows in the output."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from sweep.errors import InputError
from sweep.lrp.network import Network

AGREEMENT, LOW_AGREEMENT = 1e-3, 0.1
"""How far the network's output may be from the model's, in parts of its largest value; the second is for models that
compute in float16 or bfloat16 themselves."""


def check_agreement(model: Any, network: Network, *, stripped: bool) -> None:
    """Compare the network's output with the model's, on images of noise; `stripped`: without the model's softmax.

    Raises InputError where they differ or the model cannot be run.
    """
    import keras

    from sweep.lrp.engine import forward
    from sweep.lrp.precision import full_precision

    inputs = model.inputs[0]
    size = (inputs.shape[0] or 2, *network.input_shape)
    draws = np.random.default_rng(0)
    whole = keras.backend.is_int_dtype(inputs.dtype)
    images = (draws.integers(0, 256, size) if whole else draws.standard_normal(size)).astype(np.float32)
    with full_precision() if keras.backend.backend() == "tensorflow" else nullcontext():
        try:
            output = model(keras.ops.convert_to_tensor(images, inputs.dtype), training=False)
            wanted = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), np.float64)
        except Exception as error:  # a model may raise anything
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"from_keras: model '{model.name}' cannot be run itself: {reason}") from None
    found = forward(network, images).astype(np.float64)
    if stripped:
        found = np.exp(found - found.max(axis=-1, keepdims=True))
        found /= found.sum(axis=-1, keepdims=True)
    exact = all(layer.compute_dtype in ("float32", "float64") for layer in model._flatten_layers())
    allowed = (AGREEMENT if exact else LOW_AGREEMENT) * max(np.abs(wanted).max(), 1e-30)
    if wanted.shape != found.shape or not (np.abs(found - wanted) <= allowed).all():
        worst = f" by {np.abs(found - wanted).max():.3g}" if wanted.shape == found.shape else ""
        raise InputError(
            f"from_keras: model '{model.name}' computes something else than its layers say: its output differs from "
            f"theirs{worst} (its largest value: {np.abs(wanted).max():.3g}); is a layer quantised, patched or of an "
            "own kind?"
        )
