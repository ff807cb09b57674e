"""Floating-point operations of networks: of a forward pass, and of relevance in passes."""

from collections.abc import Sequence
from math import prod

from sweep.lrp import Network
from sweep.lrp.layers import WEIGHTED
from sweep.lrp.network import first_weighted
from sweep.lrp.rules import ONES, PLAIN, Rule, for_nonnegative_input


def relevance_passes(network: Network, rules: Sequence[Rule | None]) -> tuple[float, float]:
    """Passes that relevance takes per image, whatever the number of models, and per map.

    An image needs the forward pass and the products in its denominators; a map needs one transposed map per term. A
    kernel of ones needs a single channel, which is next to nothing. What has no kernel counts for nothing.
    """
    first = set(first_weighted(network.layers, network.reads))
    per_image = per_map = 0.0
    for index, (own, rule) in enumerate(zip(_layer_flops(network), rules, strict=True)):
        if rule is None or not own:
            continue
        seen = rule if index in first else for_nonnegative_input(rule)
        terms = [term for group in seen.groups for term in group.terms]
        products = {
            (term.input, term.kernel)
            for term in terms
            if term.kernel != ONES and term.input not in ("low", "high")
        }
        per_image += own * (1 + len(products - {("plain", PLAIN)}))
        per_map += own * sum(term.kernel != ONES for term in terms)
    return per_image / pass_flops(network), per_map / pass_flops(network)


def pass_flops(network: Network) -> float:
    """Multiplications and additions of one image's forward pass through layers with kernels."""
    return sum(_layer_flops(network))


def _layer_flops(network: Network) -> list[float]:
    """The same of each layer; none where it has no kernel."""
    return [
        2.0 * layer.kernel.size * prod(after[:-1]) if isinstance(layer, WEIGHTED) else 0.0
        for layer, after in zip(network.layers, network.shapes[1:], strict=True)
    ]
