"""Networks with permuted weights: the same architecture, and nothing left of what its weights had learned.

A map of such a network shows what a map owes to the image and the architecture alone (Adebayo et al. 2018, "Sanity Checks
for Saliency Maps"). Draws follow from names alone, so anyone can repeat them.
"""

from dataclasses import replace
from typing import TypeVar

from sweep.arrays import Array
from sweep.keys import generator
from sweep.lrp.layers import WEIGHTED, Conv, Dense, DepthwiseConv
from sweep.lrp.network import Network

READOUT = "readout"
"""Name of a model's own layer, whose weights go by the model's key; all others go by their backbone's."""

AnyLayer = TypeVar("AnyLayer", bound=Conv | DepthwiseConv | Dense)


def permuted_network(network: Network, key: str, draw: int) -> Network:
    """Returns `network` with the weights of every layer permuted, as in `permuted_layer`, all layers at once."""
    layers = tuple(
        permuted_layer(layer, key, draw, place) if isinstance(layer, WEIGHTED) else layer
        for place, layer in enumerate(network.layers)
    )
    return replace(network, layers=layers)


def permuted_head(head: Dense | Network, key: str, draw: int) -> Dense | Network:
    """Returns a model's own layers with their weights permuted: a readout, or all layers of a deeper head."""
    if isinstance(head, Network):
        return permuted_network(head, key, draw)
    return permuted_layer(head, key, draw, READOUT)


def permuted_layer(layer: AnyLayer, key: str, draw: int, name: int | str) -> AnyLayer:
    """Returns a layer whose values have changed places within its kernel and, apart from that, within its bias.

    All orders are equally likely. The order follows from `key`, which names the weights, the number `draw` and the layer's
    `name`, which tells it from the other layers of those weights.
    """

    def moved(values: Array, part: str) -> Array:
        drawn = generator("permuted weights", key, draw, name, part)
        result: Array = drawn.permutation(values.ravel()).reshape(values.shape)
        return result

    return replace(layer, kernel=moved(layer.kernel, "kernel"), bias=moved(layer.bias, "bias"))
