"""The gradient of a network's output, sent back to a tensor inside it or to its input.

The forward pass, the places where ReLUs pass and the winners of max-pools depend on the image alone. They are computed
once per image, and every readout sends a gradient of its own through them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import tensorflow as tf

from sweep.lrp.factors import max_pool_transposed, moved_back, spread
from sweep.lrp.graph import every_tensor, times_shared, unrepeated
from sweep.lrp.linear import Tensor, Weights, transposed
from sweep.lrp.precision import full_precision
from sweep.lrp.rules import PLAIN
from sweep.lrp.steps import Step


class Backward:
    """The traced graphs of one architecture, for gradients of one of its tensors; weights are arguments."""

    def __init__(self, steps: tuple[Step, ...], tensor: int) -> None:
        """`tensor` is the one that gradients are of: 0 is the input, i + 1 what step i gives out."""
        self._steps, self._tensor = steps, tensor
        self._traced: dict[str, Any] = {}

    @full_precision()
    def record(self, weights: Sequence[Weights], images: Tensor) -> tuple[Tensor, Tensor, Any]:
        """The output, the tensor that gradients are of, and what `back` needs; `images` (image, height, width, channel)."""
        if "record" not in self._traced:
            function = tf.function(lambda w, x: _record(self._steps, w, x, self._tensor), autograph=False)
            images_of = tf.TensorSpec((None, *self._steps[0].before))
            self._traced["record"] = function.get_concrete_function(_specs(weights), images_of)
        return self._traced["record"](weights, images)  # type: ignore[no-any-return]

    @full_precision()
    def back(
        self, weights: Sequence[Weights], kept: Any, gradient: Tensor, *, guided: bool = False
    ) -> Tensor:
        """The gradient of the tensor, (readout · image, ...), from that of the output, the image varying fastest.

        `guided`: whether ReLUs let only positive gradients pass (Springenberg et al. 2015).
        """
        if (key := f"back {guided}") not in self._traced:
            function = tf.function(
                lambda w, k, g: _back(self._steps, w, k, g, self._tensor, guided), autograph=False
            )
            spec = tf.TensorSpec((None, *gradient.shape[1:]))
            self._traced[key] = function.get_concrete_function(
                _specs(weights), _specs(kept, batched=True), spec
            )
        return self._traced[key](weights, kept, gradient)


@lru_cache(maxsize=64)
def backward_of(steps: tuple[Step, ...], tensor: int) -> Backward:
    """The graphs of an architecture, built once."""
    return Backward(steps, tensor)


def _specs(tensors: Any, *, batched: bool = False) -> Any:
    return tf.nest.map_structure(
        lambda t: tf.TensorSpec((None, *t.shape[1:]) if batched else t.shape, t.dtype), tensors
    )


def _record(
    steps: Sequence[Step], weights: Sequence[Weights], images: Tensor, tensor: int
) -> tuple[Tensor, Tensor, list[Any]]:
    tensors = every_tensor(steps, weights, images)
    kept: list[Any] = [()] * len(steps)
    for index in range(tensor, len(steps)):
        step = steps[index]
        kept[index] = _kept(step, weights[index], [tensors[read] for read in step.reads], tensors[index + 1])
    return tensors[-1], tensors[tensor], kept


def _kept(step: Step, weights: Weights, inputs: Sequence[Tensor], output: Tensor) -> Any:
    """What the way back through a step takes of the image."""
    x = inputs[0]
    if step.kind == "relu":
        # Of the output, not of the input: TensorFlow merges a sum and its ReLU, and fails where the sum is read twice.
        passes = output > 0 if step.max_value is None else (output > 0) & (output < step.max_value)
        return tf.cast(passes, x.dtype)
    if step.kind == "leaky_relu":
        return tf.where(x > 0, 1.0, tf.broadcast_to(weights["slope"], tf.shape(x)))
    if step.kind == "max_pool":
        return max_pool_transposed(step, x, output, tf.ones_like(output)) if step.tiles else (x, output)
    return tuple(inputs) if step.kind == "multiply" else ()


def _back(
    steps: Sequence[Step],
    weights: Sequence[Weights],
    kept: Sequence[Any],
    gradient: Tensor,
    tensor: int,
    guided: bool,
) -> Tensor:
    arrived: list[list[Tensor]] = [[] for _ in range(len(steps) + 1)]
    arrived[-1].append(gradient)
    for index in reversed(range(tensor, len(steps))):
        if arrived[index + 1]:  # else it leads to the output through no step behind the tensor
            found = _through(steps[index], weights[index], kept[index], tf.add_n(arrived[index + 1]), guided)
            for read, one in zip(steps[index].reads, found, strict=True):
                arrived[read].append(one)
    return tf.add_n(arrived[tensor])


def _through(step: Step, weights: Weights, kept: Any, g: Tensor, guided: bool) -> Sequence[Tensor]:
    """The gradients of everything that a step reads, from that of its output."""
    if step.kind in ("linear", "average"):
        return [transposed(step, g, weights, PLAIN)]
    if step.kind == "relu":
        return [times_shared(tf.nn.relu(g) if guided else g, kept)]
    if step.kind == "leaky_relu":
        return [times_shared(g, kept)]
    if step.kind == "max_pool":
        if step.tiles:
            return [times_shared(spread(step, g), kept)]
        x, y = kept
        repeats = [tf.shape(g)[0] // tf.shape(x)[0], 1, 1, 1]
        return [max_pool_transposed(step, tf.tile(x, repeats), tf.tile(y, repeats), g)]
    if step.kind == "add":
        return [g] * len(step.reads)
    if step.kind == "concatenate":
        return tf.split(g, [shape[-1] for shape in step.befores], axis=-1)  # type: ignore[no-any-return]
    if step.kind == "multiply":
        first, second = kept
        return [
            unrepeated(times_shared(g, other), shape, step.after)
            for other, shape in zip((second, first), step.befores, strict=True)
        ]
    return [moved_back(step, g)]
