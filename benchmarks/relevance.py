"""How long a relevance map takes: this engine, iNNvestigate, zennit, and a plain forward pass, interleaved in one run.

    python benchmarks/relevance.py [--sizes 112 224] [--network vgg16|resnet50] [--json results.json]

VGG-16, or ResNet-50 of keras.applications with random weights, with preset_a_flat. Sums of ResNet-50 share their relevance
by z, so that all compute the same maps; batch normalisations are folded for all. Building iNNvestigate's analyzer of ResNet-50
takes some minutes and is not counted. zennit has no such preset: it and a row of the engine beside it explain by its own
composite epsilon_plus_flat, with biases split by sign, and the largest difference of their maps is told. Without the
environment of `benchmarks/zennit_peer.py` both are left out. Figures are medians over the rounds; "forwards" is the time of a map in units of the plain
forward pass of one image, measured in the same rounds. Peak memory is the process's whole resident memory, weights
and TensorFlow included. Without the weights file, random weights take their place; the work is the same.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import zennit_peer
from benchmarks.common import machine, peak_bytes, seconds, vgg16_layers
from sweep.lrp import Dense, Network, forward, from_keras, relevance, shared_relevance
from sweep.lrp.assignment import Bias
from sweep.lrp.reference import Innvestigate
from sweep.models.network import backbone_network, joined

N_CLASSES = 101
AS_ZENNIT: dict[str, Any] = {"preset": "epsilon_plus_flat", "kinds": {"add": "z"}}


COMPOSITES: dict[str, Any] = {
    "vgg16": "preset_a_flat",
    "resnet50": {"preset": "preset_a_flat", "kinds": {"add": "z"}},
}


def backbone_of(network: str, size: int) -> Network:
    """The network without its dense layer."""
    if network == "vgg16":
        return backbone_network(vgg16_layers(), size)
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(
        include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3)
    )
    return from_keras(model)


def measure(network: str, size: int, n_images: int, readouts: list[int], rounds: int) -> list[dict[str, Any]]:
    """One row per thing measured, of one network at one image size."""
    rng = np.random.default_rng(0)
    backbone, composite = backbone_of(network, size), COMPOSITES[network]
    n_features = prod(backbone.output_shape)
    kernels = 0.01 * rng.standard_normal((max(readouts), n_features, N_CLASSES), np.float32)
    heads = [Dense(kernel, np.zeros(N_CLASSES, np.float32)) for kernel in kernels]
    images = rng.uniform(-100, 130, (n_images, size, size, 3)).astype(np.float32)
    whole = joined(backbone, heads[0])

    def engine(m: int, by: Any, bias: Bias = "innvestigate") -> Callable[[], Any]:
        return lambda: shared_relevance(backbone, heads[:m], images, "predicted", by, bias)

    works: dict[str, tuple[Callable[[], Any], int]] = {
        "forward pass": (lambda: forward(backbone, images), n_images)
    }
    works |= {f"engine, M = {m}": (engine(m, composite), m * n_images) for m in readouts}
    has_zennit = zennit_peer.PYTHON.is_file()
    if has_zennit:
        works |= {
            f"engine as zennit, M = {m}": (engine(m, AS_ZENNIT, "split"), m * n_images)
            for m in sorted({readouts[0], readouts[-1]})
        }
    peaks = {name: peak_bytes(work) for name, (work, _) in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    difference = None
    with ExitStack() as stack:
        peers: dict[str, Callable[[], Any]] = {}
        reference = stack.enter_context(Innvestigate(whole, composite))
        peers["iNNvestigate"] = lambda: reference.analyze(images, "predicted")
        if has_zennit:
            zennit = stack.enter_context(zennit_peer.Zennit(whole, AS_ZENNIT["preset"]))
            classes = forward(whole, images).argmax(axis=1)
            peers["zennit"] = lambda: zennit.analyze(images, classes)
            own = relevance(whole, images, classes, AS_ZENNIT, "split")
            theirs = peers["zennit"]()["maps"]
            difference = float(
                (np.abs(own - theirs).max(axis=(1, 2)) / np.abs(theirs).max(axis=(1, 2))).max()
            )
        for name, ask in peers.items():
            peaks[name], times[name] = ask()["peak"], []
        for _ in range(rounds):
            for name, (work, n) in works.items():
                times[name].append(seconds(work) / n)
            for name, ask in peers.items():
                times[name].append(ask()["seconds"] / n_images)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        {
            "network": network,
            "size": size,
            "images": n_images,
            "what": name,
            "seconds_per_map": median,
            "forwards_per_map": median / medians["forward pass"],
            "times_innvestigate": medians["iNNvestigate"] / median,
            "times_zennit": medians["zennit"] / median if has_zennit else None,
            "difference_from_zennit": difference if name == "zennit" else None,
            "peak_bytes": peaks[name],
            "seconds_of_rounds": times[name],
        }
        for name, median in medians.items()
    ]


def main() -> None:
    """Measure, print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224], help="image sizes, pixels")
    parser.add_argument(
        "--readouts", type=int, nargs="+", default=[1, 5, 10, 20], help="readouts per backbone"
    )
    parser.add_argument("--network", choices=sorted(COMPOSITES), default="vgg16")
    parser.add_argument("--images", type=int, default=8, help="images per call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    for size in options.sizes:
        print(
            f"\n{size} px, {options.images} images      ms/map  forwards  x iNNvestigate  x zennit  peak MB"
        )
        for row in measure(options.network, size, options.images, sorted(options.readouts), options.rounds):
            rows.append(row)
            print(
                f"  {row['what']:<22}{1e3 * row['seconds_per_map']:>10.1f}{row['forwards_per_map']:>10.2f}"
                f"{row['times_innvestigate']:>16.2f}{row['times_zennit'] or float('nan'):>10.2f}"
                f"{row['peak_bytes'] / 1e6:>9.0f}"
            )
        if row["difference_from_zennit"] is not None:
            print(
                f"  largest difference from zennit's maps, of their maximum: {row['difference_from_zennit']:.1e}"
            )
    if options.json:
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
