"""A study bound to its images and weights: the models that it comes to, each with the key of all that determines it.

Planning reads the study, the images and the weight files; it computes nothing and needs neither Ray nor
TensorFlow.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.agreement import (
    check_controls,
    check_own_readout,
    check_split,
    same_backbones,
    unnamed_classes,
    untrained_classes,
)
from sweep.arrays import Array
from sweep.data.images import Images, load_images, select
from sweep.errors import InputError
from sweep.keys import key_of
from sweep.lrp import Network
from sweep.lrp.reference import check_reference
from sweep.models.network import model_rules, vgg_outline
from sweep.models.source import WeightSource
from sweep.models.weights import open_weights
from sweep.study import Cell, LrpAttribution, Study, load_study


@dataclass(frozen=True)
class Backbone:
    """A frozen convolutional part together with its input's preprocessing and size."""

    name: str
    """Level of the factor pretraining; with the task and the seed that its path holds."""
    source: str
    """Where the weights come from, as the study says it, with the task and the seed filled in."""
    weights: WeightSource
    key: str
    before: str | None = None
    """The layer before which it ends; None where it is all of the network but the readout."""

    def network(self, size: int) -> Network:
        """The frozen layers for square inputs of so many pixels. Raises InputError naming what is wrong."""
        return self.parts(size)[0]

    def parts(self, size: int) -> tuple[Network, Network | None]:
        """The same, and the layers behind it as their training begins; None where there are none but new ones."""
        whole = self.weights.network(size)
        return (whole, None) if self.before is None else self._cut(whole, self.before)

    def check_cut(self, size: int) -> None:
        """Raise InputError where the network cannot be cut there; VGG-16's layers are known without reading it."""
        if self.before is not None:
            self._cut(vgg_outline(size) if self.weights.is_vgg else self.weights.network(size), self.before)

    def _cut(self, whole: Network, before: str) -> tuple[Network, Network]:
        try:
            return whole.before(before)
        except InputError as error:
            raise InputError(f"finetune.from: in {self.source}, {error}") from None


def key_of_backbone(weights: WeightSource, size: int, convolutions: str, before: str | None) -> str:
    """Key of the frozen layers of some weights, up to the layer `before` where one is named."""
    whole = weights.backbone_key(size, convolutions)
    return whole if before is None else key_of(whole, "before", before)


@dataclass(frozen=True)
class Model:
    """One cell of the factorial, bound to the data that determines its weights."""

    cell: Cell
    key: str
    backbone: str
    """Name of the backbone that it stands on."""
    classes: tuple[str, ...]
    """Class names in the order of the readout's columns."""
    labels: tuple[int, ...]
    """Class of every image of the study, in image order."""

    @property
    def id(self) -> str:
        """Readable name of the model."""
        return self.cell.model_id


@dataclass(frozen=True)
class Gaps:
    """What a study lacks because its making failed; nothing is made from it."""

    models: frozenset[str] = frozenset()
    """Models that could not be finetuned."""
    maps: frozenset[tuple[str, int]] = frozenset()
    """Models and chunks of images whose maps could not be computed."""
    randomized: frozenset[tuple[str, int, int]] = frozenset()
    """Models, draws and chunks of images whose maps with permuted weights could not be computed."""
    attributions: frozenset[tuple[str, str, int]] = frozenset()
    """Models, levels and chunks of images whose maps by a further attribution could not be computed."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A study together with everything that follows from it; `sweep.stages` derives its units of work."""

    path: Path
    """The study file."""
    source: bytes
    """The study file's bytes, as they were planned."""
    study: Study
    images: Images
    selected: tuple[int, ...]
    """Positions of the images that get maps and masks."""
    backbones: Mapping[str, Backbone]
    models: tuple[Model, ...]
    """In the order of the factorial, the seed varying slowest."""
    gaps: Gaps = Gaps()
    """What there is no use in planning with."""
    derived: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What the stages derive from this plan, kept so that it is derived once."""

    @cached_property
    def model(self) -> Mapping[str, Model]:
        """Models by id."""
        return {model.id: model for model in self.models}

    @cached_property
    def present(self) -> tuple[Model, ...]:
        """The models that are not among the gaps."""
        return tuple(model for model in self.models if model.id not in self.gaps.models)

    def without(self, gaps: Gaps) -> "Plan":
        """The same plan with these gaps."""
        return replace(self, gaps=gaps)

    def image_keys(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Id and content key of some images."""
        ids = self.images.ids
        return [(ids[index], self.images.keys[index]) for index in positions]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the images, and about what the networks see of them."""
        size = self.study.dataset.input_size
        unlike = (
            f"factors.pretraining.{name}: was trained on images of {backbone.weights.trained_size} px and sees {size} px "
            "here (dataset.input_size)"
            for name, backbone in self.backbones.items()
            if backbone.weights.trained_size not in (None, size)
        )
        return (*self.images.notes, *unlike)

    def own_readout(self, model: Model) -> tuple[Array, Array] | None:
        """Kernel and bias of a model's readout where it comes from a file; None where it is to be trained."""
        if self.study.factors.pretraining[model.cell.pretraining].readout == "trained":
            return None
        with _placed(self.path):
            dense = self.backbones[model.backbone].weights.readout(self.study.dataset.input_size)
        return dense.kernel, dense.bias

    def load_networks(self) -> dict[str, Network]:
        """Read every backbone. Raises InputError naming the layer that is wrong."""
        size = self.study.dataset.input_size
        with _placed(self.path):
            return {name: backbone.network(size) for name, backbone in self.backbones.items()}


def make_plan(path: Path) -> Plan:
    """Read the study file at `path` and all it names. Raises InputError with one line per problem."""
    return plan_of(load_study(path))


def plan_of(study: Study) -> Plan:
    """Read all that a study names. Raises InputError with one line per problem."""
    with _placed(study.path):
        return _bind(study)


@contextmanager
def _placed(path: Path) -> Iterator[None]:
    """Open every line of an InputError with the study file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(*(f"{path}: {problem}" for problem in error.problems)) from None


@contextmanager
def _into(problems: list[str], opening: str = "") -> Iterator[None]:
    """Add the lines of an InputError to `problems`, so that all are told together."""
    try:
        yield
    except InputError as error:
        problems.extend(f"{opening}{problem}" for problem in error.problems)


def _bind(study: Study) -> Plan:
    base, problems = study.path.parent, list[str]()
    backbones: dict[str, Backbone] = {}
    for name, (level, before) in study.backbones().items():
        with _into(problems):
            weights = open_weights(level, base, name)
            key = key_of_backbone(weights, study.dataset.input_size, study.convolutions, before)
            backbones[name] = Backbone(name, level.weights, weights, key, before)
            if not weights.is_declared:
                problems.append(
                    f"factors.pretraining.{name}: '{level.weights}' does not say what input it was trained on; give "
                    "channel_order and mean of the pixels, and scale or deviation where they are not 1"
                )
    problems.extend(same_backbones({name: backbone.key for name, backbone in backbones.items()}))
    labels: dict[str, list[str]] = {}
    selected: list[int] = []
    with _into(problems):
        images = load_images(study.dataset, base)
        problems.extend(check_split(study, images))
        for task in study.factors.task:
            with _into(problems):
                labels[task] = images.labels(task)
        problems.extend(untrained_classes(images, labels))
        problems.extend(unnamed_classes(study, labels))
        selected = select(images, study.relevance.images)
        problems.extend(check_controls(study, labels, selected))
    # VGG-16's layers are known without reading its weights.
    others = [backbone.weights for backbone in backbones.values() if not backbone.weights.is_vgg]
    networks: list[Network | None] = [] if others and len(others) == len(backbones) else [None]
    for weights in others:
        with _into(problems):
            networks.append(weights.network(study.dataset.input_size))
    if not problems:
        for backbone in backbones.values():
            if backbone.before is not None:
                with _into(problems):
                    backbone.check_cut(study.dataset.input_size)
    depths = {len(cell.finetune.hidden) for cell in study.cells()}
    with _into(problems, "relevance."):
        for network in networks:
            for hidden in depths:
                model_rules(study.relevance.composite, study.relevance.bias, network, hidden)
        if study.relevance.engine == "innvestigate":
            check_reference(study.relevance.composite, study.relevance.bias)
    for name, attribution in study.factors.attribution.items():
        # The first has been looked at as the study's own.
        if isinstance(attribution, LrpAttribution) and attribution.composite != study.relevance.composite:
            with _into(problems, f"factors.attribution.{name}."):
                for network in networks:
                    for hidden in depths:
                        model_rules(attribution.composite, study.relevance.bias, network, hidden)
                if study.relevance.engine == "innvestigate":
                    check_reference(attribution.composite, study.relevance.bias)
    for name, (level, _) in study.backbones().items():
        if level.readout == "own" and not problems:
            with _into(problems):
                check_own_readout(
                    name, level, backbones[name].weights.readout(study.dataset.input_size).bias.size
                )
    if problems:
        raise InputError(*problems)
    return Plan(
        study.path,
        study.source,
        study,
        images,
        tuple(selected),
        backbones,
        tuple(_models(study, images, backbones, labels)),
    )


def _models(
    study: Study, images: Images, backbones: Mapping[str, Backbone], labels: Mapping[str, list[str]]
) -> Iterator[Model]:
    split = images.table["split"].to_pylist()
    for cell in study.cells():
        named = labels[cell.task]
        level = study.factors.pretraining[cell.pretraining]
        backbone = study.backbone_of(cell)
        classes = level.classes.get(cell.task) or tuple(sorted(set(named)))
        if level.readout == "own":  # looked at once
            cell = replace(cell, finetune=cell.finetune.model_copy(update={"epochs": 1}))
        own = [level.readout, classes] if level.readout == "own" else []
        key = key_of(
            "model",
            cell.model_id,
            backbones[backbone].key,
            images.keys,
            images.ids,
            named,
            split,
            cell.finetune.model_dump(),
            cell.seed,
            *own,
        )
        index = {name: position for position, name in enumerate(classes)}
        yield Model(cell, key, backbone, classes, tuple(index[name] for name in named))
