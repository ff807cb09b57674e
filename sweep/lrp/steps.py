"""The steps of a graph: layers without their arrays, what each reads, and what is known of its relevance beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sweep.lrp.assignment import Sharing
from sweep.lrp.layers import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    Padding,
    ReLU,
    Shape,
    ZeroPad,
)
from sweep.lrp.network import Network
from sweep.lrp.rules import ONES, Input, Rule, for_nonnegative_input

Form: TypeAlias = Literal["positive", "multiple", "free"]
"""What is known of a tensor's relevance: a multiple of the tensor's positive part, of the tensor, or neither."""


@dataclass(frozen=True)
class Step:
    """A layer without its arrays: all that decides the graph."""

    kind: str
    """'linear' or 'average', 'max_pool', 'relu', 'leaky_relu', 'reshape', 'pad', 'identity', 'add', 'concatenate' or
    'multiply'."""
    reads: tuple[int, ...]
    """The tensors that it reads; 0 is the input, i + 1 what step i gives out."""
    befores: tuple[Shape, ...]
    """Their shapes."""
    after: Shape
    rule: Rule | None = None
    kernel_shape: Shape = ()
    depthwise: bool = False
    """Whether each channel is convolved by itself."""
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    max_value: float | None = None
    """Where a ReLU ends."""
    sharing: Sharing = "z"
    """How a sum shares its relevance."""
    joined: tuple[bool, ...] = ()
    """With the sharing `block`: which of what is added comes from a layer that shares the sum's denominator."""
    scaled: bool = False
    """Whether the relevance of the outputs is a multiple of their positive parts, by no more than they are."""
    winograd_forward: bool = False
    """Whether the forward pass, too, goes by Winograd's minimal filtering."""

    @property
    def before(self) -> Shape:
        """Shape of what it reads, of the first where there are several."""
        return self.befores[0]

    @property
    def inputs(self) -> list[Input]:
        """The distinct inputs that the rule's terms see."""
        groups = self.rule.groups if self.rule else ()
        return list(dict.fromkeys(term.input for group in groups for term in group.terms))

    @property
    def keeps_multiples(self) -> bool:
        """Whether the rule gives the inputs a relevance that is a multiple of them."""
        return set(self.inputs) in ({"plain"}, {"positive", "negative"})

    @property
    def has_one_share(self) -> bool:
        """Whether all inputs of a window get the same share, so that one channel stands for all."""
        return not self.depthwise and all(
            term.kernel == ONES for group in (self.rule.groups if self.rule else ()) for term in group.terms
        )

    @property
    def tiles(self) -> bool:
        """Whether the windows of a pool cover its input exactly once."""
        return self.size == self.stride and all(
            n % k == 0 for n, k in zip(self.before[:2], self.size, strict=True)
        )


def steps(
    network: Network, rules: Sequence[Rule | None], sharing: Sharing = "z", *, multiple: bool = False
) -> tuple[Step, ...]:
    """Describe each layer of a network, `rules` naming the rule of each layer that needs one.

    `multiple`: whether the relevance of the output comes as a multiple of the output.
    """
    described: list[Step] = []
    nonnegative = [False]
    for layer, rule, reads, after in zip(
        network.layers, rules, network.reads, network.shapes[1:], strict=True
    ):
        if rule is not None and nonnegative[reads[0]]:
            rule = for_nonnegative_input(rule)
        step = _step(layer, rule, reads, tuple(network.shapes[tensor] for tensor in reads), after)
        if step.kind == "add":
            step = replace(step, sharing=sharing)
        described.append(step)
        nonnegative.append(
            step.kind == "relu" or (step.kind != "linear" and all(nonnegative[tensor] for tensor in reads))
        )
    if sharing == "block":
        described = _with_blocks(described, rules)
    return _with_scales(described, nonnegative, "multiple" if multiple else "free")


def _step(
    layer: Layer, rule: Rule | None, reads: tuple[int, ...], befores: tuple[Shape, ...], after: Shape
) -> Step:
    def made(kind: str, **settings: Any) -> Step:
        return Step(kind, reads, befores, after, **settings)

    if isinstance(layer, Conv | DepthwiseConv):
        return made(
            "linear",
            rule=rule,
            kernel_shape=layer.kernel.shape,
            depthwise=isinstance(layer, DepthwiseConv),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
        )
    if isinstance(layer, Dense):
        return made("linear", rule=rule, kernel_shape=layer.kernel.shape)
    if isinstance(layer, MaxPool):
        return made("max_pool", size=layer.size, stride=layer.stride, padding=layer.padding)
    if isinstance(layer, AveragePool):
        return made("average", rule=rule, size=layer.size, stride=layer.stride, padding=layer.padding)
    if isinstance(layer, ReLU):
        return made("relu", max_value=layer.max_value)
    if isinstance(layer, LeakyReLU):
        return made("leaky_relu", kernel_shape=layer.slope.shape)
    if isinstance(layer, ZeroPad):
        return made("pad", pads=layer.padding)
    return made(_SIMPLE.get(type(layer), "identity"))


_SIMPLE: dict[type, str] = {
    Flatten: "reshape",
    Add: "add",
    Concatenate: "concatenate",
    Multiply: "multiply",
}


def _with_blocks(described: Sequence[Step], rules: Sequence[Rule | None]) -> list[Step]:
    """Find for each sum the layers that share its denominator: those that nothing else reads, and of one rule.

    `rules` are those of all layers, whatever is known of the signs of their inputs.
    """
    readers: dict[int, int] = {}
    for step in described:
        for tensor in step.reads:
            readers[tensor] = readers.get(tensor, 0) + 1
    found = []
    for step in described:
        if step.kind == "add":
            own = [
                rules[tensor - 1]
                if tensor and readers[tensor] == 1 and _can_share(described[tensor - 1])
                else None
                for tensor in step.reads
            ]
            chosen = next((rule for rule in own if rule), None)
            if chosen is None:
                step = replace(step, sharing="plus")
            else:
                step = replace(step, rule=chosen, joined=tuple(rule == chosen for rule in own))
        found.append(step)
    return found


def _can_share(step: Step) -> bool:
    """Whether a layer's rule has a meaning for a sum: it says what becomes of positive and of negative values."""
    return (
        step.kind == "linear"
        and step.keeps_multiples
        and all(group.where == "everywhere" for group in (step.rule.groups if step.rule else ()))
    )


def is_multiple_of_input(described: Sequence[Step]) -> bool:
    """Whether the relevance of a network's input comes as a multiple of it, where that of its output does."""
    arrivals: list[list[Form]] = [[] for _ in range(len(described) + 1)]
    arrivals[-1].append("multiple")
    for index in reversed(range(len(described))):
        for place, tensor in enumerate(described[index].reads):
            arrivals[tensor].append(_form_before(described[index], place, _met(arrivals[index + 1])))
    return _met(arrivals[0]) != "free"


def _met(arrivals: Sequence[Form]) -> Form:
    """The form of the relevance of a tensor that is read several times."""
    return arrivals[0] if len(arrivals) == 1 else "free" if "free" in arrivals else "multiple"


def _with_scales(described: Sequence[Step], nonnegative: Sequence[bool], start: Form) -> tuple[Step, ...]:
    """Find, from the end, where relevance is a multiple of the positive parts of the values it belongs to."""
    arrivals: list[list[Form]] = [[] for _ in nonnegative]
    arrivals[-1].append(start)
    found: list[Step] = []
    for index in reversed(range(len(described))):
        step, form = described[index], _met(arrivals[index + 1])
        if form == "multiple" and nonnegative[index + 1]:
            form = "positive"
        found.append(replace(step, scaled=step.kind == "linear" and form == "positive"))
        for place, tensor in enumerate(step.reads):
            arrivals[tensor].append(_form_before(step, place, form))
    return tuple(reversed(found))


def _form_before(step: Step, place: int, form: Form) -> Form:
    """The form of the relevance of what a step reads at a place, from that of its output."""
    if step.kind == "linear":
        return "multiple" if step.keeps_multiples else "free"
    if step.kind == "average":
        return "multiple"
    if step.kind == "add":
        if step.joined and step.joined[place]:
            return form  # its layer divides what the sum has by a denominator that they share
        return "positive" if form == "positive" and step.sharing == "plus" else "multiple"
    if form == "free" or step.kind == "multiply":  # multiples of any size
        return "free"
    if step.kind == "relu":
        return "positive"
    if step.kind == "leaky_relu" or (step.kind == "max_pool" and not step.tiles):
        return "multiple"
    return form
