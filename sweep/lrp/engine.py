"""Relevance maps of one network, or of many readouts on one backbone.

Per call the backbone's forward pass and denominators are computed once per image; each further readout costs one
backward pass. Graphs are traced once per architecture and composite, whatever the batch and the weights.

More than 300 lines: the types of what the two functions return, by their arguments, take 40 of them.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from sweep.errors import InputError
from sweep.lrp.assignment import Bias, Composite
from sweep.lrp.composites import composite as build_composite
from sweep.lrp.keras_reader import from_keras
from sweep.lrp.layers import Dense, Flatten, FloatArray
from sweep.lrp.linear import Tensor
from sweep.lrp.network import Network
from sweep.lrp.precision import full_precision
from sweep.lrp.program import chunks, program_of, weights_of
from sweep.lrp.rules import Rule
from sweep.lrp.steps import is_multiple_of_input
from sweep.lrp.steps import steps as describe

Bounds: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]
"""(low, high): the input's valid range, after preprocessing; a number each, or one per channel."""
Classes: TypeAlias = npt.ArrayLike
AnyComposite: TypeAlias = str | dict[str, Any] | Composite

CHUNK_BYTES = 2**30
"""Aim for the memory one pass takes on top of the weights; sets how many images and readouts it holds."""


def forward(network: Network, images: npt.ArrayLike) -> FloatArray:
    """Run a network on preprocessed images.

    `images` is (image, height, width, channels); returns (image, ...) in the shape of the network's output.
    Raises InputError where the images do not fit the network.
    """
    batch = _checked(network, images)
    steps = describe(network, [None] * len(network.layers))
    if not steps:
        return batch
    chunk = max(1, CHUNK_BYTES // (4 * 4 * max(map(prod, network.shapes))))
    program, weights = program_of(steps), weights_of(network, steps)
    parts = [program.run(weights, tf.constant(part)).numpy() for _, part in chunks(batch, chunk)]
    return np.concatenate(parts) if parts else np.zeros((0, *network.output_shape), np.float32)


@overload
def relevance(
    network: Network | Any,
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted", "all"],
    composite: AnyComposite = ...,
    bias: Bias = ...,
    *,
    bounds: Bounds | None = ...,
    return_logits: Literal[False] = ...,
) -> FloatArray: ...


@overload
def relevance(
    network: Network | Any,
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted", "all"],
    composite: AnyComposite = ...,
    bias: Bias = ...,
    *,
    bounds: Bounds | None = ...,
    return_logits: Literal[True],
) -> tuple[FloatArray, FloatArray]: ...


def relevance(
    network: Network | Any,
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted", "all"],
    composite: AnyComposite = "preset_a_flat",
    bias: Bias = "innvestigate",
    *,
    bounds: Bounds | None = None,
    return_logits: bool = False,
) -> FloatArray | tuple[FloatArray, FloatArray]:
    """Relevance map of each image: (image, height, width), channels summed, not normalised.

    `network` is a `Network`, or a Keras model as `from_keras` reads it (read once, it is quicker the second time).
    `images` is (image, height, width, channels), float32, already preprocessed. `targets` chooses the outputs whose
    logits are explained: a class per image, one class for all, "predicted", or "all" (every logit at once, which is
    the sum of the maps of all classes). `bias` is how signed parts of a pre-activation count the bias: whole, as
    iNNvestigate does, or split by sign, as the papers do. `bounds` is needed by the z-box rule only.
    With `return_logits`, the logits (image, class) of the same pass come as a second array.

    Sources: Bach et al. 2015, Montavon et al. 2019, Kohlbrenner et al. 2020; iNNvestigate 2.1.2's conventions.
    Raises InputError for networks that cannot be read, and for images, targets, composites or bounds that do not fit.
    """
    if not isinstance(network, Network):
        network = from_keras(network)
    maps, logits = _relevance(network, None, images, targets, composite, bias, bounds)
    return (maps[0], logits[0]) if return_logits else maps[0]


@overload
def shared_relevance(
    backbone: Network,
    readouts: Sequence[Dense | Network],
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted"],
    composite: AnyComposite = ...,
    bias: Bias = ...,
    *,
    bounds: Bounds | None = ...,
    return_logits: Literal[False] = ...,
) -> FloatArray: ...


@overload
def shared_relevance(
    backbone: Network,
    readouts: Sequence[Dense | Network],
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted"],
    composite: AnyComposite = ...,
    bias: Bias = ...,
    *,
    bounds: Bounds | None = ...,
    return_logits: Literal[True],
) -> tuple[FloatArray, list[FloatArray]]: ...


def shared_relevance(
    backbone: Network,
    readouts: Sequence[Dense | Network],
    images: npt.ArrayLike,
    targets: Classes | Literal["predicted"],
    composite: AnyComposite = "preset_a_flat",
    bias: Bias = "innvestigate",
    *,
    bounds: Bounds | None = None,
    return_logits: bool = False,
) -> FloatArray | tuple[FloatArray, list[FloatArray]]:
    """Relevance maps of all readouts of one backbone: (readout, image, height, width).

    Equal to `relevance` of each backbone + readout, at a fraction of the cost: the forward pass and the denominators
    are shared. Readouts may differ in their number of classes. A readout is a dense layer, which sees the backbone's output
    flat, or a network that takes that output and ends in logits; a flat output is an image of one pixel to it. `targets` is (readout, image) class numbers, or "predicted". The other arguments are those of `relevance`.
    With `return_logits`, a list with one (image, class) array per readout comes second.

    Raises InputError for images, readouts, targets, composites or bounds that do not fit.
    """
    maps, logits = _relevance(backbone, readouts, images, targets, composite, bias, bounds)
    return (maps, logits) if return_logits else maps


def _relevance(
    network: Network,
    readouts: Sequence[Dense | Network] | None,
    images: npt.ArrayLike,
    targets: Any,
    composite: AnyComposite,
    bias: Bias,
    bounds: Bounds | None,
) -> tuple[FloatArray, list[FloatArray]]:
    """Maps (readout, image, height, width) and logits; without readouts, of the network's own output."""
    batch = _checked(network, images)
    chosen = build_composite(composite)
    heads: list[_Head] = []
    if readouts is None:
        rules = chosen.rules(network.layers, bias, network.reads)
        n_classes = [prod(network.output_shape)]
    else:
        heads = [_Head(network, readout, index, chosen, bias) for index, readout in enumerate(readouts)]
        rules = heads[0].backbone_rules if heads else _with_readout(network, None, chosen, bias)
        if any(head.backbone_rules != rules for head in heads):
            raise InputError(
                "readouts: the composite gives the backbone's layers other rules behind some; ask for those apart"
            )
        n_classes = [head.n_classes for head in heads]
    classes = _classes(targets, n_classes, len(batch), single=readouts is None)
    multiple = all(head.keeps_multiples for head in heads)
    steps = describe(network, rules, chosen.sharing, multiple=multiple)
    program, weights = program_of(steps), weights_of(network, steps)
    box = _box(network, bounds) if any(rule and rule.needs_bounds for rule in rules) else None

    maps = np.zeros((len(n_classes), len(batch), *network.input_shape[:2]), np.float32)
    logits = [np.zeros((len(batch), n), np.float32) for n in n_classes]
    images_at_once, maps_at_once = pass_size(network, len(n_classes))
    for start, part in chunks(batch, images_at_once):
        here = slice(start, start + len(part))
        output, shared = program.record(weights, tf.constant(part), box, multiple=multiple)
        relevances = []
        for index in range(len(n_classes)):
            head = heads[index] if heads else None
            logits[index][here] = head.logits(output) if head else output.numpy().reshape(len(part), -1)
            initial = _initial(
                logits[index][here], classes if isinstance(classes, str) else classes[index, here]
            )
            relevances.append(head.relevance(output, initial, multiple) if head else tf.constant(initial))
        for first in range(0, len(n_classes), maps_at_once):
            several = tf.concat(relevances[first : first + maps_at_once], axis=0)
            several = tf.reshape(several, (-1, *network.output_shape))
            result = program.propagate(weights, shared, several, to_map=True).numpy()
            maps[first : first + maps_at_once, here] = result.reshape(-1, len(part), *network.input_shape[:2])
    return maps, logits


class _Head:
    """A readout, propagated by itself down to the backbone's output."""

    def __init__(
        self, backbone: Network, readout: Dense | Network, index: int, composite: Composite, bias: Bias
    ) -> None:
        n_features = prod(backbone.output_shape)
        if isinstance(readout, Dense):
            taken, name = readout.kernel.shape[0], f"readout {index} '{readout.name}'"
            network = Network((Flatten(), readout), (1, 1, n_features)) if taken == n_features else None
        else:
            taken, name = prod(readout.input_shape), f"readout {index}"
            network = readout if taken == n_features else None
        if network is None:
            raise InputError(f"{name}: takes {taken} inputs, but the backbone has {n_features} outputs")
        rules = _with_readout(backbone, network, composite, bias)
        self.backbone_rules = rules[: len(backbone.layers)]
        own = rules[len(backbone.layers) :]
        if any(rule and rule.needs_bounds for rule in own):
            raise InputError("composite: the rule z_box needs a layer with weights in the backbone")
        self._shape = network.input_shape
        self.n_classes = prod(network.output_shape)
        steps = describe(network, own, composite.sharing, multiple=True)
        self.keeps_multiples = is_multiple_of_input(steps)
        """Whether the relevance of the backbone's output is a multiple of it."""
        self._program, self._weights = program_of(steps), weights_of(network, steps)
        self._is_dense = isinstance(readout, Dense)

    @full_precision()
    def logits(self, output: Tensor) -> FloatArray:
        """Logits (image, class) of the backbone's output."""
        features = tf.reshape(output, (-1, *self._shape))
        if not self._is_dense:
            return self._program.run(self._weights, features).numpy()  # type: ignore[no-any-return]
        flat, dense = tf.reshape(features, (-1, prod(self._shape))), self._weights[1]
        return (tf.matmul(flat, dense["kernel"]) + dense["bias"]).numpy()  # type: ignore[no-any-return]

    def relevance(self, output: Tensor, initial: FloatArray, multiple: bool) -> Tensor:
        """Relevance of the backbone's output, (image, value); as a multiple of the output where `multiple`."""
        features = tf.reshape(output, (-1, *self._shape))
        _, shared = self._program.record(self._weights, features, None, multiple=True)
        found = self._program.propagate(self._weights, shared, tf.constant(initial), to_map=False)
        _, _, product = shared
        if multiple and not self._is_dense:  # of the output itself, and not of a part of it
            found *= tf.math.divide_no_nan(product, features)
        elif not multiple and not isinstance(product, tuple):  # none is 1
            found *= product
        return tf.reshape(found, (-1, prod(self._shape)))


def _with_readout(
    backbone: Network, head: Network | None, composite: Composite, bias: Bias
) -> tuple[Rule | None, ...]:
    """Rules of a backbone's layers and of those behind it."""
    whole = backbone.joined(head) if head else backbone
    return composite.rules(whole.layers, bias, whole.reads)


def _initial(logits: FloatArray, classes: npt.NDArray[np.int64] | str) -> FloatArray:
    """Of what multiples of the logits relevance starts: one of the chosen class, none of the others."""
    if isinstance(classes, str) and classes == "all":
        return np.ones_like(logits)
    chosen = logits.argmax(axis=1) if isinstance(classes, str) else classes
    return np.where(np.arange(logits.shape[1]) == chosen[:, None], np.float32(1), np.float32(0))


def _classes(targets: Any, n_classes: list[int], n_images: int, *, single: bool) -> Any:
    """Class numbers (readout, image), or the word that chooses them."""
    if isinstance(targets, str):
        words = ("predicted", "all") if single else ("predicted",)
        if targets not in words:
            raise InputError(f"targets: '{targets}' is neither class numbers nor {' nor '.join(words)}")
        return targets
    classes = np.asarray(targets)
    if classes.dtype.kind not in "iu":
        raise InputError(f"targets: must be whole numbers, not {classes.dtype}")
    if single:
        classes = np.broadcast_to(classes, (1, n_images)) if classes.ndim == 0 else classes[None]
    if classes.shape != (len(n_classes), n_images):
        wanted = (
            f"({n_images},)" if single else f"({len(n_classes)}, {n_images}): a class per readout and image"
        )
        raise InputError(f"targets: have the shape {np.shape(targets)}; expected {wanted}")
    for index, (row, n) in enumerate(zip(classes, n_classes, strict=True)):
        if row.size and not (row.min() >= 0 and row.max() < n):
            raise InputError(
                f"targets: readout {index} has the classes 0 to {n - 1}, got {row.min()} to {row.max()}"
            )
    return classes.astype(np.int64)


def _checked(network: Network, images: npt.ArrayLike) -> FloatArray:
    batch = np.ascontiguousarray(images, dtype=np.float32)
    if batch.shape[1:] != network.input_shape:
        wanted = ", ".join(map(str, network.input_shape))
        raise InputError(f"images: have the shape {batch.shape}; the network takes (image, {wanted})")
    return batch


def _box(network: Network, bounds: Bounds | None) -> Tensor:
    """The lowest and the highest valid image, as a batch of two."""
    if bounds is None:
        raise InputError(
            "bounds: the rule z_box needs the input's valid range, as in bounds=(low, high) per channel"
        )
    try:
        low, high = (np.broadcast_to(np.asarray(end, np.float32), network.input_shape) for end in bounds)
    except (TypeError, ValueError):
        channels = network.input_shape[-1]
        raise InputError(
            f"bounds: must be (low, high), each one number or {channels}, one per channel"
        ) from None
    if not (low < high).all():
        raise InputError("bounds: every low must be below its high")
    return tf.constant(np.stack([low, high]))


def pass_size(network: Network, n_maps: int) -> tuple[int, int]:
    """How many images, and how many maps of each, one pass may hold."""
    largest = 4 * max(map(prod, network.shapes))
    # A map in flight holds a layer's input, its output and the operation's workspace; an image holds its activations
    # and quotients.
    # Where tensors are read several times, more of them wait.
    per_map, per_image = (3 if network.is_chain else 6) * largest, 2 * 4 * sum(map(prod, network.shapes))
    images = CHUNK_BYTES // (per_image + n_maps * per_map)
    return max(1, images), max(1, CHUNK_BYTES // per_map) if images < 1 else max(1, n_maps)
