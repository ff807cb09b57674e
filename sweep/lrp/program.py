"""Traced graphs and prepared weights, each made once and kept; graphs run in full float32, whoever calls them."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil
from typing import Any
from weakref import WeakKeyDictionary

import tensorflow as tf

from sweep.lrp import graph
from sweep.lrp.layers import FloatArray
from sweep.lrp.linear import Tensor, Weights, prepare
from sweep.lrp.network import Network
from sweep.lrp.precision import full_precision
from sweep.lrp.steps import Step


class Program:
    """The traced graphs of one architecture with one composite."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self._traced: dict[str, Any] = {}

    @full_precision()
    def run(self, weights: Sequence[Weights], images: Tensor, *, checked: bool = False) -> Tensor:
        """The plain forward pass; see `graph.run`."""
        if (key := f"run {checked}") not in self._traced:
            function = tf.function(lambda w, x: graph.run(self.steps, w, x, checked=checked), autograph=False)
            self._traced[key] = function.get_concrete_function(_specs(weights), self._images())
        return self._traced[key](weights, images)

    @full_precision()
    def record(
        self, weights: Sequence[Weights], images: Tensor, bounds: Tensor | None, *, multiple: bool
    ) -> tuple[Tensor, Any]:
        """The output, and what the backward pass shares; see `graph.record`."""
        box = () if bounds is None else (bounds,)
        if (key := f"record {len(box)} {multiple}") not in self._traced:
            function = tf.function(
                lambda w, x, b: graph.record(self.steps, w, x, b[0] if b else None, multiple=multiple),
                autograph=False,
            )
            self._traced[key] = function.get_concrete_function(_specs(weights), self._images(), _specs(box))
        return self._traced[key](weights, images, box)  # type: ignore[no-any-return]

    @full_precision()
    def propagate(
        self, weights: Sequence[Weights], shared: Any, relevance: Tensor, *, to_map: bool
    ) -> Tensor:
        """Relevance of the output sent back to the input; see `graph.propagate`."""
        # What is shared has another structure where relevance comes as a multiple, or there are no bounds.
        structure = tf.nest.map_structure(lambda tensor: tuple(tensor.shape[1:]), shared)
        key = f"propagate {to_map} {structure}"
        if key not in self._traced:
            function = tf.function(
                lambda w, s, r: graph.propagate(self.steps, w, s, r, to_map=to_map), autograph=False
            )
            spec = tf.TensorSpec((None, *relevance.shape[1:]))
            self._traced[key] = function.get_concrete_function(
                _specs(weights), _specs(shared, batched=True), spec
            )
        return self._traced[key](weights, shared, relevance)

    def _images(self) -> Any:
        return tf.TensorSpec((None, *self.steps[0].before))


def _specs(tensors: Any, *, batched: bool = False) -> Any:
    return tf.nest.map_structure(
        lambda t: tf.TensorSpec((None, *t.shape[1:]) if batched else t.shape, t.dtype), tensors
    )


@lru_cache(maxsize=64)
def program_of(steps: tuple[Step, ...]) -> Program:
    """The program of an architecture, built once."""
    return Program(steps)


_prepared: "WeakKeyDictionary[Network, dict[tuple[Step, ...], list[Weights]]]" = WeakKeyDictionary()
"""Modified weights of each living network, by how they were asked for."""


def weights_of(network: Network, steps: tuple[Step, ...]) -> list[Weights]:
    """A network's modified weights, prepared once and kept as long as the network lives."""
    known = _prepared.setdefault(network, {})
    if steps not in known:
        known[steps] = [prepare(layer, step) for layer, step in zip(network.layers, steps, strict=True)]
    return known[steps]


def chunks(batch: FloatArray, at_most: int) -> Iterator[tuple[int, FloatArray]]:
    """Parts of a batch, of nearly equal size, each with its start."""
    n_parts = ceil(len(batch) / at_most)
    for index in range(n_parts):
        start, stop = (len(batch) * index) // n_parts, (len(batch) * (index + 1)) // n_parts
        yield start, batch[start:stop]
