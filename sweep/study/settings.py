"""The study file: the scientific settings of a sweep, checked as a whole before anything runs.

Where a study runs (nodes, GPUs, results root, batch sizes of the forward pass) is not part of it.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sweep.study.attribution import AttributionLevel, LrpAttribution, checked_levels
from sweep.study.base import Settings
from sweep.study.finetune import Finetune, FinetuneOverrides
from sweep.study.masking import Masking
from sweep.study.names import bad_names, file_safe
from sweep.study.pretraining import LevelName, Pretraining
from sweep.study.problems import refuse
from sweep.study.relevance import Relevance

INT64 = 2**63 - 1
"""The largest whole number that tables and queries hold."""


class Dataset(Settings):
    """Which images, at what size, and how they are split."""

    source: str
    """Where the images come from, as in 'folder:PATH' or 'manifest:PATH.csv' (see sweep.data.sources); paths start at the study file."""
    input_size: Annotated[int, Field(ge=32, le=1024)] = 224
    """Height and width of the networks' input, pixels."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the images held back from finetuning."""
    stratify: str = "identity"
    """Label column whose values are each split in that proportion."""
    split_seed: int = 0
    """Chooses which images are held back."""
    white: Annotated[float, Field(gt=0)] | None = None
    """Pixel value that is white, as in 4095 for data of 12 bits; by default the largest that a file's type holds."""


class Factors(BaseModel):
    """The factorial: every combination of levels is one model."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Annotated[dict[LevelName, FinetuneOverrides], Field(min_length=1)]]

    pretraining: Annotated[dict[LevelName, Pretraining], Field(min_length=1)]
    """Backbones by name; each is its weights, as in 'bundled:faces-small', or a mapping that also says what its input is."""
    task: Annotated[tuple[LevelName, ...], Field(min_length=1)]
    """Label columns of the images, each told apart by a readout of its own."""
    seed: Annotated[tuple[Annotated[int, Field(ge=0, le=INT64)], ...], Field(min_length=1)] = (1,)
    """Random initialisations of the readout."""
    attribution: dict[LevelName, AttributionLevel] = Field(default_factory=dict)
    """Ways to map what a model's decision came from, by name (docs/attributions.md). They are a factor of masks, not of models:
    every model gets them all. The first is LRP and takes the place of relevance.composite."""

    @field_validator("attribution", mode="before", json_schema_input_type=dict[LevelName, AttributionLevel])
    @classmethod
    def _levels_by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must map each level's name to its method, as in {gradient: gradient}")
        return value

    @field_validator("attribution")
    @classmethod
    def _first_is_relevance(cls, value: dict[str, Any]) -> dict[str, Any]:
        return checked_levels(value)

    @field_validator("pretraining", mode="before", json_schema_input_type=dict[LevelName, str | Pretraining])
    @classmethod
    def _weights_alone(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must map each level's name to its weights, as in {imagenet: 'npz:weights.npz'}")
        if "random" in value:
            raise ValueError(
                "'random' names the control masks; call this level something else, like 'untrained'"
            )
        return {
            name: {"weights": level} if isinstance(level, str) else level for name, level in value.items()
        }

    @field_validator("task", "seed")
    @classmethod
    def _no_level_twice(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = sorted({level for level in value if value.count(level) > 1})
        if twice:
            raise ValueError(f"names {', '.join(map(str, twice))} more than once")
        return value

    @model_validator(mode="after")
    def _each_is_told_from_the_others(self) -> "Factors":
        found = list(bad_names({name: [str(level) for level in levels] for name, levels in self}))
        overriding: dict[str, str] = {}
        for name, levels in self.extra.items():
            for setting in sorted(set().union(*(level.model_fields_set for level in levels.values()))):
                other = overriding.setdefault(setting, name)
                if other != name:
                    found.append(
                        (name, f"overrides {setting}, as the factor {other} does; make them one factor")
                    )
        refuse(*(((name,), why) for name, why in found))
        return self

    @model_validator(mode="after")
    def _own_readouts_differ(self) -> "Factors":
        found = []
        for name, level in self.pretraining.items():
            if level.readout != "own":
                continue
            where = ("pretraining", name)
            lacking = [task for task in self.task if task not in level.classes]
            if lacking:
                found.append(
                    (
                        where,
                        f"classes: name those of {lacking[0]}, in the order of the file's last dense layer",
                    )
                )
            for mark, levels in (("{task}", self.task), ("{seed}", self.seed)):
                if len(levels) > 1 and mark not in level.weights:
                    found.append(
                        (
                            where,
                            f"weights: own readouts of several {mark[1:-1]}s come from several files; name {mark} in the path",
                        )
                    )
            if self.extra:
                found.append(
                    (
                        where,
                        "readout: nothing is trained, so the factors that change training change nothing; leave them out",
                    )
                )
        refuse(*found)
        return self

    @property
    def extra(self) -> dict[str, dict[str, FinetuneOverrides]]:
        """The factors beyond pretraining, task and seed."""
        return self.__pydantic_extra__


class Analysis(Settings):
    """Settings of the analysis; none of them changes a stored map or mask."""

    draws: Annotated[int, Field(ge=1, le=INT64)] = 100
    """Sources drawn with replacement per destination and bin, as in the paper."""
    draw_seed: Annotated[int, Field(ge=-INT64, le=INT64)] = 0
    """Chooses what is drawn."""
    ranks: Annotated[int, Field(ge=1)] = 5
    """How many of the highest logits are kept per model and image."""


@dataclass(frozen=True)
class Cell:
    """One cell of the factorial, that is, one model to finetune."""

    model_id: str
    """Readable name: the levels joined by '-', the seed last, as in 'imagenet-identity-s3'."""
    pretraining: str
    task: str
    seed: int
    extra: Mapping[str, str]
    """Level of each further factor."""
    finetune: Finetune
    """Training settings with the overrides of the further factors applied."""

    @property
    def condition(self) -> str:
        """The levels of all factors but the seed, joined by '-'."""
        return "-".join([self.pretraining, self.task, *self.extra.values()])


Convolutions = Literal["winograd", "direct"]


class StudySettings(Settings):
    """Everything that a study file may say."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Names the study's folder under the results root and its MLflow experiment."""
    dataset: Dataset
    factors: Factors
    finetune: Finetune = Finetune()
    relevance: Relevance = Relevance()
    masking: Masking = Masking()
    convolutions: Convolutions = "winograd"
    """How wide 3 x 3 convolutions are computed in the passes that end in features: by Winograd's minimal filtering, in fewer
    multiplications and rounded a little more, or as TensorFlow does all others (direct)."""
    analysis: Analysis = Analysis()

    @model_validator(mode="after")
    def _enough_to_compare(self) -> "StudySettings":
        if len(list(self.cells())) < 2:
            raise ValueError("factors: the study has a single model; give a factor a second level to compare")
        return self

    @model_validator(mode="after")
    def _own_readouts_are_not_trained(self) -> "StudySettings":
        own = [name for name, level in self.factors.pretraining.items() if level.readout == "own"]
        for name in ("from_layer", "hidden", "mirror", "patience"):
            if own and name in self.finetune.model_fields_set:
                said = type(self.finetune).model_fields[name].alias or name
                why = f"the level {own[0]} of pretraining brings its readout along, and nothing is trained; leave this out"
                refuse((("finetune", said), why))
        return self

    @model_validator(mode="after")
    def _composite_is_said_once(self) -> "StudySettings":
        first = next(iter(self.factors.attribution.values()), None)
        if isinstance(first, LrpAttribution) and first.composite != self.relevance.composite:
            if "composite" in self.relevance.model_fields_set:
                refuse(
                    (
                        ("relevance", "composite"),
                        "the first level of factors.attribution says another; leave this out",
                    )
                )
            relevance = self.relevance.model_copy()
            # Not set but concluded: what writes the settings into a file again writes it in one place only.
            relevance.__dict__["composite"] = first.composite
            self.__dict__["relevance"] = relevance
        return self

    @model_validator(mode="after")
    def _levels_differ(self) -> "StudySettings":
        found = []
        for name, levels in self.factors.extra.items():
            seen: dict[Finetune, str] = {}
            for level, changes in levels.items():
                settings = self.finetune.model_copy(update=changes.changes)
                other = seen.setdefault(settings, level)
                if other != level:
                    why = f"the levels {other} and {level} come to the same settings; remove or change one of them"
                    found.append((("factors", name), why))
        refuse(*found)
        return self

    def backbone_of(self, cell: Cell) -> str:
        """Name of the frozen part that a model stands on: the level's, with the task and the seed that its path holds.

        Where training begins before the readout, the layer's name is part of it.
        """
        level = self.factors.pretraining[cell.pretraining].named(cell.pretraining, cell.task, cell.seed)
        return (
            level
            if cell.finetune.from_layer is None
            else f"{level}-from-{file_safe(cell.finetune.from_layer)}"
        )

    def backbones(self) -> dict[str, tuple[Pretraining, str | None]]:
        """Every frozen part by name: its level of pretraining, and the layer before which it ends, where it is not whole."""
        return {
            self.backbone_of(cell): (
                self.factors.pretraining[cell.pretraining].filled(cell.task, cell.seed),
                cell.finetune.from_layer,
            )
            for cell in self.cells()
        }

    def cells(self) -> Iterator[Cell]:
        """All cells, the seed varying slowest, so that a further seed only appends."""
        factors, extra = self.factors, self.factors.extra
        for seed, pretraining, task in itertools.product(factors.seed, factors.pretraining, factors.task):
            for levels in itertools.product(*extra.values()):
                chosen = dict(zip(extra, levels, strict=True))
                changes: dict[str, Any] = {}
                for factor, level in chosen.items():
                    changes |= extra[factor][level].changes
                yield Cell(
                    model_id="-".join([pretraining, task, *levels, f"s{seed}"]),
                    pretraining=pretraining,
                    task=task,
                    seed=seed,
                    extra=chosen,
                    finetune=self.finetune.model_copy(update=changes),
                )
