"""A look at a backbone: its layers as the engine sees them, and what it expects of its input."""

from collections.abc import Sequence
from math import prod

import pyarrow as pa

from sweep.lrp import COMPOSITES, Add, Network, composite
from sweep.lrp.layers import KINDS, WEIGHTED
from sweep.lrp.network import first_weighted
from sweep.models.source import Preprocessing


def layer_rows(network: Network) -> pa.Table:
    """One row per layer; `reads` says what it reads where that is not just the layer before it."""
    rows = []
    for index, (layer, reads) in enumerate(zip(network.layers, network.reads, strict=True)):
        named = ["the input" if tensor == 0 else _name(network, tensor - 1) for tensor in reads]
        rows.append(
            {
                "layer": _name(network, index),
                "kind": KINDS[type(layer)],
                "reads": "" if reads == (index,) else ", ".join(named),
                "output": " x ".join(map(str, network.shapes[index + 1])),
                "weights": layer.kernel.size + layer.bias.size if isinstance(layer, WEIGHTED) else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=_COLUMNS)


_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("layer", "kind", "reads", "output")] + [("weights", pa.int64())]
)


def _name(network: Network, index: int) -> str:
    return f"{index} {network.layers[index].name}".strip()


def said_of(network: Network) -> list[str]:
    """What follows from the layers for relevance, in words, a line each."""
    first = [network.layers[index].name for index in first_weighted(network.layers, network.reads)]
    lines = [
        f"features: {prod(network.output_shape):,}" + _of(network.output_shape),
        f"the first layers with weights, which flat and z_box are for: {', '.join(first)}",
    ]
    if any(isinstance(layer, Add) for layer in network.layers):
        sharing = {name: composite(name).sharing for name in COMPOSITES}
        plus, z = ([name for name, own in sharing.items() if own == kind] for kind in ("plus", "z"))
        lines.append(
            f"sums share their relevance by plus with {', '.join(plus)}, and by z with {', '.join(z)}; change it by "
            "{preset: ..., kinds: {add: z}} (docs/lrp.md)"
        )
    lines.append(f"composites that apply: {', '.join(COMPOSITES)}")
    return lines


def said_of_input(preprocessing: Preprocessing, size: int | None, *, is_declared: bool) -> str:
    """What a source says of the images that its network is given."""
    if not is_declared:
        return "input: not said by the file; a study must give channel_order and mean, and scale or deviation"
    listed = ", ".join(f"{mean:g}" for mean in preprocessing.mean)
    parts = [f"{preprocessing.channel_order}, minus ({listed}), times {preprocessing.scale:g}"]
    if len(set(preprocessing.deviation)) > 1:
        parts.append(f"divided by ({', '.join(f'{one:g}' for one in preprocessing.deviation)})")
    if size is not None:
        parts.append(f"trained on images of {size} px")
    return f"input: {', '.join(parts)}"


def _of(shape: Sequence[int]) -> str:
    return f" ({' x '.join(map(str, shape))})" if len(shape) > 1 else ""
