"""A network as the engine sees it: layers that hold plain arrays, and which tensors each of them reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from sweep.errors import InputError
from sweep.lrp.layers import KINDS, WEIGHTED, Conv, Flatten, FloatArray, Layer, Shape, output_shape

Reads: TypeAlias = tuple[tuple[int, ...], ...]
"""For each layer the tensors it reads. Tensor 0 is the input, tensor i + 1 what layer i gives out."""


def chain(count: int) -> Reads:
    """What the layers of a chain read: each the one before it."""
    return tuple((index,) for index in range(count))


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in an order in which each reads tensors before it; the last one's output is the network's.

    Networks compare by identity, so that what is prepared for one can be kept for as long as it lives.

    Raises InputError, naming the layer, where one does not fit what it reads, and where a tensor is read by none.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int]
    """(height, width, channels) of one image."""
    reads: Reads = ()
    """The tensors that each layer reads; by default, and for an empty tuple, the layers are a chain."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        object.__setattr__(self, "reads", tuple(map(tuple, self.reads)) or chain(len(self.layers)))
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(f"network: input shape {self.input_shape} is not (height, width, channels)")
        if len(self.reads) != len(self.layers):
            raise InputError(f"network: names what {len(self.reads)} of its {len(self.layers)} layers read")
        self.shapes  # noqa: B018  (checks that the layers fit)
        unread = set(range(len(self.layers))) - {tensor for read in self.reads for tensor in read}
        if unread:
            raise InputError(f"network: {self._describe(min(unread) - 1)} leads to nothing")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of one image of each tensor: the input, and what every layer gives out."""
        return tuple(self._walk())

    @property
    def output_shape(self) -> Shape:
        """Shape of the network's output for one image."""
        return self.shapes[-1]

    @property
    def first_kernel(self) -> FloatArray:
        """The kernel (height, width, channel, output) of the first convolution. Raises StopIteration where there is none."""
        return next(layer.kernel for layer in self.layers if isinstance(layer, Conv))

    @property
    def is_chain(self) -> bool:
        """Whether each layer reads the one before it, and no other."""
        return self.reads == chain(len(self.layers))

    def then(self, *layers: Layer) -> "Network":
        """The network with further layers behind it."""
        count = len(self.layers)
        behind = tuple((count + index,) for index in range(len(layers)))
        return Network((*self.layers, *layers), self.input_shape, (*self.reads, *behind))

    def joined(self, head: "Network") -> "Network":
        """The network with another one behind it, which reads its output."""
        count = len(self.layers)
        behind = tuple(tuple(count + tensor for tensor in read) for read in head.reads)
        return Network((*self.layers, *head.layers), self.input_shape, (*self.reads, *behind))

    def up_to(self, index: int) -> "Network":
        """The part of the network that leads to the output of one of its layers."""
        needed = {index}
        for place in range(index, -1, -1):
            if place in needed:
                needed |= {tensor - 1 for tensor in self.reads[place] if tensor}
        kept = sorted(needed)
        tensors = {0: 0} | {place + 1: position + 1 for position, place in enumerate(kept)}
        return Network(
            tuple(self.layers[place] for place in kept),
            self.input_shape,
            tuple(tuple(tensors[tensor] for tensor in self.reads[place]) for place in kept),
        )

    def before(self, name: str) -> tuple["Network", "Network"]:
        """The network cut before the layer `name`: what leads there, and all from that layer on, which reads only that.

        Where what leads there is flat, the second part takes it as an image of one pixel. Raises InputError where no layer
        has that name, where there is nothing before it, and where what is behind it also reads what is before.
        """
        place = next((index for index, layer in enumerate(self.layers) if layer.name == name), None)
        if place is None:
            known = ", ".join(layer.name for layer in self.layers if isinstance(layer, WEIGHTED))
            raise InputError(f"no layer is named '{name}'; those with weights are {known}")
        cut = self.reads[place][0]
        if not cut:
            raise InputError(f"nothing is before the layer '{name}'")
        first = self.up_to(cut - 1)
        kept = {id(layer) for layer in first.layers}
        behind = [index for index, layer in enumerate(self.layers) if id(layer) not in kept]
        flat = len(self.shapes[cut]) == 1
        tensors = {cut: int(flat)} | {index + 1: position + 1 + flat for position, index in enumerate(behind)}
        for index in behind:
            for tensor in self.reads[index]:
                if tensor not in tensors:
                    raise InputError(
                        f"the network cannot be cut before '{name}': {self._describe(index)} reads {self._describe(tensor - 1)}"
                    )
        shape = (1, 1, *self.shapes[cut]) if flat else self.shapes[cut]
        reads = [tuple(tensors[tensor] for tensor in self.reads[index]) for index in behind]
        layers = [self.layers[index] for index in behind]
        if flat:
            layers, reads = [Flatten(), *layers], [(0,), *reads]
        return first, Network(tuple(layers), (shape[0], shape[1], shape[2]), tuple(reads))

    def _walk(self) -> Iterator[Shape]:
        known: list[Shape] = [self.input_shape]
        yield self.input_shape
        for index, (layer, read) in enumerate(zip(self.layers, self.reads, strict=True)):
            if not read or not all(0 <= tensor <= index for tensor in read):
                raise InputError(f"network: {self._describe(index)} reads {read}, not tensors before it")
            try:
                known.append(output_shape(layer, [known[tensor] for tensor in read]))
            except ValueError as error:
                raise InputError(f"network: {self._describe(index)} {error}") from None
            yield known[-1]

    def _describe(self, index: int) -> str:
        if index < 0:
            return "the input"
        layer = self.layers[index]
        kind = KINDS.get(type(layer), type(layer).__name__)
        return f"layer {index} ({kind} '{getattr(layer, 'name', '')}')"


def first_weighted(layers: Sequence[Layer], reads: Reads) -> list[int]:
    """Layers with weights that see the input through no other layer with weights."""
    behind, found = [False], []
    for index, (layer, read) in enumerate(zip(layers, reads, strict=True)):
        is_behind = any(behind[tensor] for tensor in read)
        if isinstance(layer, WEIGHTED) and not is_behind:
            found.append(index)
        behind.append(is_behind or isinstance(layer, WEIGHTED))
    return found
