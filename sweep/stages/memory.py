"""How much memory a worker, or a trial, of a study takes, from the plan's numbers and the networks' shapes alone.

A worker holds a process with TensorFlow, the prepared weights of the backbones that it keeps, and the readouts that it
has read; on top of that comes the stage that takes the most. What lies in Ray's object store is not the worker's.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import prod

from sweep.lrp import Network
from sweep.lrp.layers import WEIGHTED
from sweep.lrp.rules import ONES, PLAIN, Rule
from sweep.numerics.masking import removed_count
from sweep.plan import Model, Plan
from sweep.stages import attributions, features, masking, randomized, relevance, similarity
from sweep.stages.loaded import HEAD_BYTES, KEPT_BACKBONES, KEPT_BLOCKS, KEPT_LEVELS, KEPT_READOUTS
from sweep.stages.outlines import Outline, outlines
from sweep.study import LrpAttribution

VALUE = 4
"""Bytes of a float32."""
PROCESS_BYTES = 500e6
"""A worker with TensorFlow, before it holds anything of the study: 350 MB of its own once TensorFlow computes, and its
part of 420 MB of libraries that the workers of a node share.

Measured on real workers that had done pieces of every kind, in memory of their own, and with the libraries, against the
estimate: 0.9 and 1.4 GB against 1.5 GB on the demo's networks at 96 px; 2.6 and 3.2 GB against 3.0 GB on two VGG-16
(random:1, random:2) at 96 px, both with 20 models and at the peak in relevance."""
PASS_COPIES = 3
"""Tensors as large as a layer's input and output together that are alive during a forward pass."""
BATCH_PIXELS = 8 * 224**2
"""Input pixels per forward pass, as in sweep.numerics.evaluation, which this module must not import for TensorFlow."""
LRP_BYTES = 2.0**30
"""What a pass of the LRP engine aims for, as in sweep.lrp.engine."""
FACTORS = 8
"""Winograd's factors of a kernel and of its transpose, in kernels."""
TRAINED_COPIES = 8
"""Copies of a deeper head while it is trained: weights in two forms, gradients, Adam's moments, the best so far, a checkpoint."""
FORWARD_FACTORS = 4
"""Winograd's factors of a kernel of the forward pass, in kernels."""


def worker_bytes(plan: Plan, networks: Mapping[str, Network]) -> int:
    """Bytes of memory that a worker of the study needs; `networks` are the backbones."""
    weights = sorted(
        (_weights(plan, one) for one in {id(one.trunk): one for one in outlines(plan, networks)}.values()),
        reverse=True,
    )
    processes = 2 if plan.study.relevance.engine == "innvestigate" else 1
    return int(
        PROCESS_BYTES * processes
        + sum(weights[:KEPT_BACKBONES])
        + (weights[0] if randomized.draws(plan) else 0)
        + _readouts(plan, networks)
        + _heads(plan, networks)
        + _stages(plan, networks)
    )


def _stages(plan: Plan, networks: Mapping[str, Network]) -> float:
    """What the stage that takes the most takes."""
    of_backbones = max(
        max(
            _features(network),
            _predictions(plan, network),
            _relevance(plan, name, network),
            _masking(plan, name, network),
        )
        for name, network in networks.items()
    )
    return max(of_backbones, _similarity(plan))


def trains_within(plan: Plan, networks: Mapping[str, Network]) -> bool:
    """Whether a worker can train models in the memory that it takes for other stages."""
    return trial_bytes(plan, networks) - PROCESS_BYTES <= _stages(plan, networks)


def trial_bytes(plan: Plan, networks: Mapping[str, Network]) -> int:
    """Bytes that a Tune trial needs: the features as stored, split and standardised, and the copies on the way."""
    largest = max(prod(network.output_shape) for network in networks.values())
    rows = len(plan.images.ids) * (2 if any(model.cell.finetune.mirror for model in plan.models) else 1)
    heads = [one for one in outlines(plan, networks) if one.is_deep]
    batch = max(model.cell.finetune.batch_size for model in plan.models)
    training = [
        TRAINED_COPIES * one.head_bytes + PASS_COPIES * VALUE * batch * sum(map(prod, one.head.shapes))
        for one in heads
    ]
    return int(PROCESS_BYTES + 4 * VALUE * rows * largest + max(training, default=0))


def _weights(plan: Plan, one: Outline) -> float:
    """A backbone's kernels: plain for the forward pass, and as the rules modify them."""
    forward = FORWARD_FACTORS if plan.study.convolutions == "winograd" else 1
    levels = attributions.levels(plan).values()
    further = [level.composite for level in levels if isinstance(level, LrpAttribution)]
    # What is no LRP shares one plain copy.
    copies = forward + (len(further) < len(levels))
    kernels = 0.0
    for given in (plan.study.relevance.composite, *further):
        rules, _ = one.rules(given, plan.study.relevance.bias)
        for layer, rule in zip(one.trunk.layers, rules, strict=True):
            if isinstance(layer, WEIGHTED):
                kernels += layer.kernel.size * (1 + copies + _modified(rule))
        copies = 0
    return VALUE * kernels


def _modified(rule: Rule | None) -> int:
    """How many kernels more a rule takes, Winograd's factors included."""
    kernels = {term.kernel for group in rule.groups for term in group.terms} if rule else set()
    return len(kernels - {PLAIN, ONES}) + FACTORS * bool(kernels - {ONES})


def _readouts(plan: Plan, networks: Mapping[str, Network]) -> float:
    """Readouts by themselves and side by side, as they are kept and as they are put together."""
    single = sorted((_readout(networks, model) for model in plan.models), reverse=True)
    blocks = [
        sum(_readout(networks, model) for model in block)
        for own in masking.blocks(plan).values()
        for block in own
    ]
    together = sorted(blocks, reverse=True)
    return sum(single[:KEPT_READOUTS]) + sum(together[:KEPT_BLOCKS]) + together[0]


def _heads(plan: Plan, networks: Mapping[str, Network]) -> float:
    """Deeper heads as they are kept, each with what is prepared of it for passes and relevance."""
    each = [one.head_bytes for one in outlines(plan, networks) if one.is_deep for _ in one.models]
    return (1 + FORWARD_FACTORS + FACTORS) * min(sum(each), HEAD_BYTES + max(each, default=0))


def _readout(networks: Mapping[str, Network], model: Model) -> float:
    if model.cell.finetune.is_deep:
        return 0.0
    return VALUE * prod(networks[model.backbone].output_shape) * len(model.classes)


def _pass(network: Network) -> float:
    """Activations of one forward pass."""
    images = max(1, BATCH_PIXELS // prod(network.input_shape[:2]))
    return (
        VALUE
        * PASS_COPIES
        * images
        * max(prod(one) + prod(next_one) for one, next_one in pairwise(network.shapes))
    )


def _features(network: Network) -> float:
    values = 2 * prod(network.input_shape) + 3 * prod(network.output_shape)
    return VALUE * features.CHUNK * values + _pass(network)


def _predictions(plan: Plan, network: Network) -> float:
    """The features of all images, as read and as a matrix, and their logits in order."""
    classes = max(len(model.classes) for model in plan.models)
    return VALUE * len(plan.images.ids) * (2 * prod(network.output_shape) + 6 * classes)


def _relevance(plan: Plan, backbone: str, network: Network) -> float:
    """One pass of the engine, and the maps of all models."""
    models = sum(model.backbone == backbone for model in plan.models)
    images, largest = min(relevance.CHUNK, len(plan.selected)), max(map(prod, network.shapes))
    wanted = VALUE * images * (2 * sum(map(prod, network.shapes)) + 3 * models * largest)
    return min(wanted, LRP_BYTES) + VALUE * images * models * prod(network.input_shape[:2])


def _similarity(plan: Plan) -> float:
    """Maps of some models in float64, those of one more, and a copy of one."""
    images = min(relevance.CHUNK, len(plan.selected))
    return 2 * VALUE * (similarity.MODELS + 2) * images * plan.study.dataset.input_size**2


def _masking(plan: Plan, backbone: str, network: Network) -> float:
    """Inputs, replacements, ranks and features of all levels, the logits of all destinations, and one pass."""
    images, pixels = min(masking.CHUNK, len(plan.selected)), prod(network.input_shape[:2])
    levels = len({removed_count(percent, pixels) for percent in plan.study.masking.percents})
    classes = max(sum(len(model.classes) for model in block) for block in masking.blocks(plan)[backbone])
    values = 4 * prod(network.input_shape) + 2 * pixels
    values += (2 * levels + KEPT_LEVELS) * prod(network.output_shape) + 2 * levels * classes
    return VALUE * images * values + _pass(network)
