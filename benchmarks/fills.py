"""What fills and controls cost: masked passes under every fill, as multiples of the same passes under the mean.

    python benchmarks/fills.py [--images 8] [--rounds 5] [--json out.json]

For each network and size, the same images are masked at the demo's levels by the same maps; only the fill differs. A
control has the passes of a mask; how many it adds to a study follows from the plan, here the demo's.
"""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.common import CAFFE, ROOT, command_line, face_pixels, interleaved, tell, vgg16_layers
from sweep.arrays import Array
from sweep.models.network import backbone_network
from sweep.models.source import Layers
from sweep.models.weights import open_weights
from sweep.numerics.evaluation import Evaluator, Imputed, Replacement, SameForAllMasks
from sweep.numerics.linear_fill import LinearFill
from sweep.numerics.masking import removal_ranks, removed_count, replacements
from sweep.plan import make_plan, plan_of
from sweep.stages import stage_costs
from sweep.stages.cost import size_of
from sweep.study import Pretraining

PERCENTS = (1.0, 3.16, 10.0, 31.6)
FILLS = ("mean", "zero", "grey", "noise", "blur", "linear")
NETWORKS = (("faces-small", 96), ("VGG-16", 112), ("VGG-16", 224))
CONTROLS = ("other_image", "mean_map", "reversed", "blocks", "scattered")


def layers_of(network: str) -> Layers:
    """The weights of one of `NETWORKS`."""
    if network == "VGG-16":
        return vgg16_layers()
    return open_weights(Pretraining(weights=f"bundled:{network}"), ROOT, network).load()


def smooth_maps(images: int, size: int) -> Array:
    """Maps (image, pixel) whose high values lie together, as those of relevance do."""
    draws = np.random.default_rng(0).normal(size=(images, size, size))
    waves = np.fft.fft2(draws) * np.hypot(*np.meshgrid(*[np.fft.fftfreq(size) * size] * 2)).clip(1) ** -1.0
    return np.fft.ifft2(waves).real.reshape(images, -1).astype(np.float32)


def fills(
    network: str, size: int, images: int, rounds: int, *, grey: bool, convolutions: Any
) -> dict[str, Any]:
    """Seconds per masked pass under each fill."""
    pixels = face_pixels(images, size)
    if grey:
        pixels = np.repeat(pixels.mean(axis=3, keepdims=True).round().astype(np.uint8), 3, axis=3)
    keys = [str(index) for index in range(images)]
    evaluator = Evaluator(backbone_network(layers_of(network), size), convolutions)
    inputs, ranks = CAFFE(pixels), removal_ranks(smooth_maps(images, size))
    counts = [removed_count(percent, size * size) for percent in PERCENTS]

    def replacement(fill: Any) -> Replacement:
        if fill == "linear":
            return Imputed(LinearFill(pixels, keys, "mask"), CAFFE.of_floats)
        return SameForAllMasks(replacements(fill, pixels, keys, CAFFE))

    def passes(fill: str) -> Any:
        def work() -> None:
            levels = evaluator.masked_features(inputs, replacement(fill), ranks, counts)
            levels[-1].numpy()

        return work

    times = interleaved({fill: passes(fill) for fill in FILLS}, rounds)
    return {
        "network": network,
        "size": size,
        "colour": not grey,
        "convolutions": convolutions,
        "milliseconds_per_pass": 1000 * times["mean"] / (images * len(counts)),
        "over_mean": {fill: times[fill] / times["mean"] for fill in FILLS},
    }


def controls() -> list[dict[str, Any]]:
    """Masked passes of the demo with one fill and no control, or one, by the plan."""
    study = make_plan(ROOT / "studies" / "demo.yaml").study
    found = []
    for chosen in ((), *((name,) for name in CONTROLS)):
        masking = study.masking.model_copy(update={"fills": ("linear",), "controls": chosen})
        plan = plan_of(study.model_copy(update={"masking": masking}))
        costs = {cost.stage: cost.passes for cost in stage_costs(size_of(plan, plan.load_networks()))}
        found.append({"control": chosen[0] if chosen else "none", "passes": costs["masking"]})
    return found


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = command_line(__doc__, images=8, rounds=5).parse_args()
    rows = [
        fills(network, size, options.images, options.rounds, grey=grey, convolutions=convolutions)
        for network, size in NETWORKS
        for grey in (True, False)
        for convolutions in (("direct", "winograd") if network == "VGG-16" else ("direct",))
    ]
    tell({"rows": rows, "controls": controls(), "images": options.images}, options.json)


if __name__ == "__main__":
    main()
