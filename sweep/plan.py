"""What a study comes to: its models, and every unit of work with its key and number of rows.

Planning reads the study, the images and the weight files; it computes nothing and needs neither Ray nor
TensorFlow.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from sweep.agreement import check_split, same_backbones, untrained_classes
from sweep.data.images import Images, load_images, select
from sweep.errors import InputError
from sweep.keys import key_of
from sweep.lrp.reference import check_reference
from sweep.models.network import model_rules
from sweep.models.weights import Layers, WeightSource, open_weights
from sweep.storage.schemas import MASKED_CELLS, SCHEMAS, with_extra
from sweep.storage.store import Unit
from sweep.study import Cell, Study, load_study

FEATURE_CHUNK = 128
"""Images per unit of features."""
MAP_CHUNK = 32
"""Images per unit of relevance and of similarity."""
MASK_CHUNK = 8 * MAP_CHUNK
"""Images per unit of masked predictions; a whole number of map chunks."""
DESTINATION_BLOCK = 256
"""Destinations that one matrix product answers for, and that share a unit where only cells are kept."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "images": ("images",),
    "features": ("features",),
    "finetune": ("epochs", "models"),
    "predictions": ("predictions",),
    "relevance": ("relevance",),
    "similarity": ("similarity",),
    "masking": ("masked",),
}
"""The stages in order, and the tables that each writes."""


@dataclass(frozen=True)
class Backbone:
    """A frozen convolutional part together with its input's preprocessing and size."""

    name: str
    """Level of the factor pretraining."""
    weights: WeightSource
    key: str


@dataclass(frozen=True)
class Model:
    """One cell of the factorial, bound to the data that determines its weights."""

    cell: Cell
    key: str
    classes: tuple[str, ...]
    """Class names in the order of the readout's columns."""
    labels: tuple[int, ...]
    """Class of every image of the study, in image order."""

    @property
    def id(self) -> str:
        """Readable name of the model."""
        return self.cell.model_id


@dataclass(frozen=True)
class Plan:
    """A study together with everything that follows from it."""

    path: Path
    """The study file."""
    study: Study
    images: Images
    selected: tuple[int, ...]
    """Positions of the images that get maps and masks."""
    backbones: Mapping[str, Backbone]
    models: tuple[Model, ...]
    """In the order of the factorial, the seed varying slowest."""

    @cached_property
    def model(self) -> Mapping[str, Model]:
        """Models by id."""
        return {model.id: model for model in self.models}

    @cached_property
    def feature_chunks(self) -> list[tuple[int, ...]]:
        """Image positions of each unit of features."""
        return _chunks(range(len(self.images.ids)), FEATURE_CHUNK)

    @cached_property
    def map_chunks(self) -> list[tuple[int, ...]]:
        """Image positions of each unit of relevance and similarity."""
        return _chunks(self.selected, MAP_CHUNK)

    @cached_property
    def mask_chunks(self) -> list[tuple[int, ...]]:
        """Image positions of each unit of masked predictions."""
        return _chunks(self.selected, MASK_CHUNK)

    @cached_property
    def random_sources(self) -> list[str]:
        """Names of the random masks."""
        return [f"random-{k}" for k in range(1, self.study.masking.random_masks + 1)]

    @cached_property
    def image_unit(self) -> Unit:
        """The table `images`, whole."""
        return Unit("images", "images", key_of("images", self.images.key), len(self.images.ids))

    @cached_property
    def feature_units(self) -> dict[tuple[str, int], Unit]:
        """Units by pretraining and chunk."""
        units = {}
        for backbone in self.backbones.values():
            for c, chunk in enumerate(self.feature_chunks):
                key = key_of("features", backbone.name, backbone.key, self._image_keys(chunk))
                units[backbone.name, c] = Unit("features", f"{backbone.name}.{c:04d}", key, len(chunk))
        return units

    @cached_property
    def epoch_units(self) -> dict[str, Unit]:
        """Units by model."""
        return {
            m.id: Unit("epochs", m.id, key_of("epochs", m.key), m.cell.finetune.epochs) for m in self.models
        }

    @cached_property
    def model_units(self) -> dict[str, Unit]:
        """Units by model; written after the model's weights and epochs, so its presence means all is there."""
        return {m.id: Unit("models", m.id, key_of("models", m.key), 1) for m in self.models}

    @cached_property
    def prediction_units(self) -> dict[str, Unit]:
        """Units by model."""
        ranks = self.study.analysis.ranks
        return {
            m.id: Unit(
                "predictions",
                m.id,
                key_of("predictions", m.key, ranks),
                len(self.images.ids) * min(ranks, len(m.classes)),
            )
            for m in self.models
        }

    @cached_property
    def relevance_units(self) -> dict[tuple[str, int], Unit]:
        """Units by model and map chunk."""
        settings = self.study.relevance.model_dump(exclude={"images"})
        units = {}
        for model in self.models:
            for c, chunk in enumerate(self.map_chunks):
                key = key_of("relevance", model.key, settings, self._image_keys(chunk))
                units[model.id, c] = Unit("relevance", f"{model.id}.{c:04d}", key, len(chunk))
        return units

    @cached_property
    def similarity_units(self) -> dict[tuple[str, int], Unit]:
        """Units by model and map chunk: the model against all that precede it in `models`.

        A further seed only appends to `models`, so it adds units and leaves the others as they are.
        """
        units = {}
        for c, chunk in enumerate(self.map_chunks):
            preceding = key_of("no model")
            for position, model in enumerate(self.models):
                own = self.relevance_units[model.id, c].key
                if position:
                    key = key_of("similarity", own, preceding)
                    units[model.id, c] = Unit("similarity", f"{model.id}.{c:04d}", key, position * len(chunk))
                preceding = key_of(preceding, own)
        return units

    @cached_property
    def sources(self) -> list[str]:
        """Names of everything that makes masks: the models, then the random masks."""
        return [*(model.id for model in self.models), *self.random_sources]

    @cached_property
    def destination_blocks(self) -> Mapping[str, list[tuple[Model, ...]]]:
        """Models of each backbone, in blocks."""
        blocks = {}
        for backbone in self.backbones:
            own = [model for model in self.models if model.cell.pretraining == backbone]
            blocks[backbone] = [
                tuple(own[i] for i in block) for block in _chunks(range(len(own)), DESTINATION_BLOCK)
            ]
        return blocks

    def groups(self, block: Sequence[Model]) -> list[tuple[int, ...]]:
        """Positions in a block of the destinations that share a unit: all of them where only cells are kept."""
        if self.study.masking.granularity == "cell":
            return [tuple(range(len(block)))]
        return [(position,) for position in range(len(block))]

    @cached_property
    def masked_units(self) -> dict[tuple[str, str, int, int], tuple[Unit, ...]]:
        """Units by source, backbone, block of destinations and mask chunk, one per group of the block.

        Where only cells are kept, a further model on a backbone renews the backbone's last block, which costs no pass
        more: the new model needs the same ones.
        """
        settings = self.study.masking.model_dump(exclude={"random_masks"})
        units = {}
        for c, chunk in enumerate(self.mask_chunks):
            images = self._image_keys(chunk)
            for source in self.sources:
                maps = [source] if source in self.random_sources else self._map_keys(source, c)
                masks = key_of("masked", maps, settings, images)
                for backbone, blocks in self.destination_blocks.items():
                    for b, block in enumerate(blocks):
                        units[source, backbone, b, c] = tuple(
                            self._masked_unit(
                                source, f"{backbone}.{b:04d}", [block[i] for i in group], masks, c
                            )
                            for group in self.groups(block)
                        )
        return units

    def _masked_unit(self, source: str, block: str, models: Sequence[Model], masks: str, c: int) -> Unit:
        cells = self.study.masking.granularity == "cell"
        rows = len(self.study.masking.percents) * (len(models) if cells else len(self.mask_chunks[c]))
        key = key_of(masks, [model.key for model in models])
        return Unit("masked", f"{source}--{block if cells else models[0].id}.{c:04d}", key, rows)

    def units(self, stage: str) -> list[Unit]:
        """Every unit that `stage` writes."""
        return {
            "images": lambda: [self.image_unit],
            "features": lambda: list(self.feature_units.values()),
            "finetune": lambda: [*self.epoch_units.values(), *self.model_units.values()],
            "predictions": lambda: list(self.prediction_units.values()),
            "relevance": lambda: list(self.relevance_units.values()),
            "similarity": lambda: list(self.similarity_units.values()),
            "masking": lambda: [unit for group in self.masked_units.values() for unit in group],
        }[stage]()

    def all_units(self) -> list[Unit]:
        """Every unit of the study."""
        return [unit for stage in STAGES for unit in self.units(stage)]

    def rows(self) -> dict[str, int]:
        """Rows that each table will have."""
        total: dict[str, int] = {}
        for unit in self.all_units():
            total[unit.table] = total.get(unit.table, 0) + unit.rows
        return total

    def schema(self, table: str) -> pa.Schema:
        """Columns of `table` in this study."""
        if table == "images":
            return self.images.table.schema
        if table == "models":
            return with_extra("models", list(self.study.factors.extra))
        if table == "masked" and self.study.masking.granularity == "cell":
            return MASKED_CELLS
        return SCHEMAS[table]

    def load_layers(self) -> dict[str, Layers]:
        """Read every backbone's weights. Raises InputError naming the layer that is wrong."""
        with _placed(self.path):
            return {name: backbone.weights.load() for name, backbone in self.backbones.items()}

    @property
    def key(self) -> str:
        """Key of the whole study: the same only if every unit is the same."""
        return key_of([sorted(unit.key for unit in self.units(stage)) for stage in STAGES])

    def map_chunks_of(self, mask_chunk: int) -> range:
        """Map chunks that hold the images of a mask chunk."""
        per_mask = MASK_CHUNK // MAP_CHUNK
        return range(mask_chunk * per_mask, min((mask_chunk + 1) * per_mask, len(self.map_chunks)))

    def _map_keys(self, model_id: str, mask_chunk: int) -> list[str]:
        return [self.relevance_units[model_id, c].key for c in self.map_chunks_of(mask_chunk)]

    def _image_keys(self, chunk: Sequence[int]) -> list[tuple[str, str]]:
        ids = self.images.ids
        return [(ids[index], self.images.keys[index]) for index in chunk]


def make_plan(path: Path) -> Plan:
    """Read the study file at `path` and all it names. Raises InputError with one line per problem."""
    study = load_study(path)
    with _placed(path):
        return _bind(path, study)


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


def _bind(path: Path, study: Study) -> Plan:
    base, problems = path.parent, list[str]()
    backbones: dict[str, Backbone] = {}
    for name, level in study.factors.pretraining.items():
        with _into(problems):
            weights = open_weights(level, base, name)
            key = key_of("backbone", weights.key, asdict(weights.preprocessing), study.dataset.input_size)
            backbones[name] = Backbone(name, weights, key)
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
        selected = select(images, study.relevance.images)
    with _into(problems, "relevance."):
        model_rules(study.relevance.composite, study.relevance.bias)
        if study.relevance.engine == "innvestigate":
            check_reference(study.relevance.composite, study.relevance.bias)
    if problems:
        raise InputError(*problems)
    return Plan(
        path, study, images, tuple(selected), backbones, tuple(_models(study, images, backbones, labels))
    )


def _models(
    study: Study, images: Images, backbones: Mapping[str, Backbone], labels: Mapping[str, list[str]]
) -> Iterator[Model]:
    split = images.table["split"].to_pylist()
    for cell in study.cells():
        named = labels[cell.task]
        classes = tuple(sorted(set(named)))
        key = key_of(
            "model", cell.model_id, backbones[cell.pretraining].key, images.keys, images.ids, named, split,
            cell.finetune.model_dump(), cell.seed,
        )  # fmt: skip
        index = {name: position for position, name in enumerate(classes)}
        yield Model(cell, key, classes, tuple(index[name] for name in named))


def _chunks(positions: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(positions[start : start + size]) for start in range(0, len(positions), size)]
