"""Permuted networks: what keeps its place, what does not, and their maps against the formulas on weights permuted by hand."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sweep.data.images import load_images
from sweep.keys import generator
from sweep.lrp import Conv, Dense, Network, forward, shared_relevance
from sweep.models.network import backbone_network
from sweep.models.weights import open_weights
from sweep.numerics.permutation import READOUT, permuted_layer, permuted_network
from sweep.numerics.similarity import pearson, standardized
from sweep.study import Dataset, Pretraining
from tests.lrp import nets, twin


def split(network: Network) -> tuple[Network, Dense]:
    """A network as a backbone and its last layer."""
    readout = network.layers[-1]
    assert isinstance(readout, Dense)
    return Network(network.layers[:-1], network.input_shape), readout


def by_hand(layer: Conv | Dense, key: str, draw: int, name: int | str) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel and bias in float64, each value carried to its new place one by one."""

    def moved(values: np.ndarray, part: str) -> np.ndarray:
        order = generator("permuted weights", key, draw, name, part).permutation(values.size)
        target = np.zeros(values.size)
        for place, source in enumerate(order.tolist()):
            target[place] = values.ravel()[source]
        return target.reshape(values.shape)

    return moved(layer.kernel, "kernel"), moved(layer.bias, "bias")


@pytest.mark.parametrize("composite", ["preset_a", "preset_a_flat", "preset_b_flat"])
def test_maps_are_those_of_the_formulas_on_weights_permuted_by_hand(composite: str) -> None:
    network = nets.small(3)
    backbone, readout = split(network)
    layers = []
    for place, layer in enumerate(backbone.layers):
        if isinstance(layer, Conv):
            kernel, bias = by_hand(layer, "backbone key", 2, place)
            layer = Conv(kernel, bias, stride=layer.stride, padding=layer.padding)
        elif isinstance(layer, Dense):
            layer = Dense(*by_hand(layer, "backbone key", 2, place))
        layers.append(layer)
    layers.append(Dense(*by_hand(readout, "model key", 2, READOUT)))
    images = np.random.default_rng(0).normal(size=(3, *network.input_shape)).astype(np.float32)
    (maps,) = shared_relevance(
        permuted_network(backbone, "backbone key", 2),
        [permuted_layer(readout, "model key", 2, READOUT)],
        images,
        [[0, 1, 3]],
        composite,
    )
    slow = Network(tuple(layers), network.input_shape)
    for image, target, own in zip(images, (0, 1, 3), maps, strict=True):
        expected, _ = twin.relevance(slow, image, nets.preset_rules(composite, slow), target)
        np.testing.assert_allclose(own, expected, atol=1e-4 * np.abs(expected).max())


def arrays(network: Network) -> list[np.ndarray]:
    return [
        array
        for layer in network.layers
        if isinstance(layer, Conv | Dense)
        for array in (layer.kernel, layer.bias)
    ]


def test_every_kernel_and_every_bias_keeps_its_values_and_none_its_order() -> None:
    network = nets.small(1)
    permuted = permuted_network(network, "key", 1)
    assert [type(layer) for layer in permuted.layers] == [type(layer) for layer in network.layers]
    assert permuted.shapes == network.shapes
    for before, after in zip(arrays(network), arrays(permuted), strict=True):
        assert before.shape == after.shape
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        assert not np.array_equal(before, after)
    assert [layer.stride for layer in permuted.layers if isinstance(layer, Conv)] == [(1, 1), (1, 1), (2, 2)]


def test_an_order_follows_from_key_draw_and_layer_alone() -> None:
    layer = Dense(np.arange(60, dtype=np.float32).reshape(6, 10), np.arange(10, dtype=np.float32))
    again = permuted_layer(layer, "key", 1, READOUT)
    np.testing.assert_array_equal(permuted_layer(layer, "key", 1, READOUT).kernel, again.kernel)
    others = [
        again,
        permuted_layer(layer, "other key", 1, READOUT),
        permuted_layer(layer, "key", 2, READOUT),
        permuted_layer(layer, "key", 1, 3),
    ]
    for one, other in combinations(others, 2):
        assert not np.array_equal(one.kernel, other.kernel)
        assert not np.array_equal(one.bias, other.bias)


def test_all_orders_are_equally_likely() -> None:
    layer = Dense(np.array([[1.0, 2.0, 3.0]], np.float32), np.zeros(3, np.float32))
    orders = [tuple(permuted_layer(layer, "key", draw, 0).kernel[0]) for draw in range(600)]
    times = [orders.count(order) for order in set(orders)]
    assert len(times) == 6
    # A binomial count of mean 100 and deviation 9.
    assert min(times) > 60
    assert max(times) < 140


@pytest.mark.parametrize("pretraining", ["faces-small", "objects-small"])
def test_maps_of_the_bundled_backbones_change_with_their_weights(pretraining: str) -> None:
    size, count = 96, 8
    images = load_images(Dataset(source="bundled:heads", input_size=size), Path())
    frontal = [i for i, view in enumerate(images.table["view_deg"].to_pylist()) if view == 0][:count]
    source = open_weights(Pretraining(weights=f"bundled:{pretraining}"), Path(), pretraining)
    inputs = source.preprocessing(images.pixels[frontal])
    backbone = backbone_network(source.load(), size)
    # Each of the images is a class of its own, told from the others by its features.
    features = forward(backbone, inputs)
    kernel = (features - features.mean(axis=0)).T
    readout = Dense(kernel, np.zeros(count, np.float32))
    targets = [list(range(count))]
    (own,) = shared_relevance(backbone, [readout], inputs, targets)
    draws = [
        shared_relevance(
            permuted_network(backbone, source.key, draw),
            [permuted_layer(readout, "model key", draw, READOUT)],
            inputs,
            targets,
        )[0]
        for draw in (1, 2, 3)
    ]
    every = [standardized(np.abs(maps).reshape(count, -1)) for maps in (own, *draws)]
    with_own = [pearson(every[0], draw).mean() for draw in every[1:]]
    assert max(with_own) < 0.6, with_own
