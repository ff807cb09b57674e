"""The stage `finetune`: one readout per model, trained on stored features; Ray Tune schedules them (sweep.actors.trials).

A model's row is written after its weights and epochs, so its presence means that all of it is there.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.arrays import Array
from sweep.data.images import VALIDATION
from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.plan import Model, Plan
from sweep.stages import features
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import ModelRef
from sweep.stages.stage import Stage, once_per_plan
from sweep.storage.arrays import matrix
from sweep.storage.schemas import SCHEMAS, with_extra
from sweep.storage.store import Store, Unit


@once_per_plan
def epoch_units(plan: Plan) -> Mapping[str, Unit]:
    """Units of the table `epochs` by model."""
    return {m.id: Unit("epochs", m.id, key_of("epochs", m.key), m.cell.finetune.epochs) for m in plan.models}


@once_per_plan
def model_units(plan: Plan) -> Mapping[str, Unit]:
    """Units of the table `models` by model."""
    return {m.id: Unit("models", m.id, key_of("models", m.key), 1) for m in plan.models}


def refer(plan: Plan, model: Model) -> ModelRef:
    """A model as a worker needs it."""
    stored = model.id not in plan.gaps.models
    return ModelRef(model.id, model.key, model.cell.task, model_units(plan)[model.id], stored)


def _units(plan: Plan) -> list[Unit]:
    return [*epoch_units(plan).values(), *model_units(plan).values()]


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for model in plan.models:
        read = features.units_of_backbone(plan, model.backbone)
        yield epoch_units(plan)[model.id], read
        yield model_units(plan)[model.id], read


def _settings(plan: Plan) -> dict[str, Any]:
    study = plan.study.model_dump(mode="json")
    return {"factors": study["factors"], "finetune": study["finetune"]}


def _cost(size: Size) -> StageCost:
    # Forward, and backward with respect to the weights.
    other = size.models * size.epochs * size.images * size.train_share * 2 * size.readout_flops
    row = size.epochs * ROW_BYTES["epochs"] + ROW_BYTES["models"]
    weights = 4 * (size.mean_features + 1) * size.classes
    written = size.models * (row + weights + 2 * FILE_BYTES)
    return StageCost("finetune", 2 * size.models, other_flops=other, bytes=written)


STAGE = Stage(
    name="finetune",
    tables=("epochs", "models"),
    made_from=("features",),
    units=_units,
    inputs=_inputs,
    settings=_settings,
    cost=_cost,
)


# What a trial does


@dataclass(frozen=True)
class Trial:
    """Everything a trial needs to train and store one model."""

    model: Model
    features: tuple[Unit, ...]
    """Features of all images on the model's backbone."""
    epochs_unit: Unit
    model_unit: Unit
    schema: pa.Schema
    """Columns of the table `models` in this study."""
    run_id: str | None
    """The model's MLflow run."""
    own: tuple[Array, Array] | None = None
    """Kernel and bias of a readout that was trained elsewhere."""


def trial_of(plan: Plan, model: Model, run_id: str | None) -> Trial:
    """The trial that trains a model."""
    return Trial(
        model=model,
        features=features.units_of_backbone(plan, model.backbone),
        epochs_unit=epoch_units(plan)[model.id],
        model_unit=model_units(plan)[model.id],
        schema=with_extra("models", list(plan.study.factors.extra)),
        run_id=run_id,
        own=plan.own_readout(model),
    )


def validation_mask(plan: Plan) -> Array:
    """Whether each image is held back from training, bool (image,)."""
    return np.asarray([part == VALIDATION for part in plan.images.table["split"].to_pylist()])


@dataclass(frozen=True)
class Finetuning:
    """What the trials of a study share."""

    store: Store
    trials: Mapping[str, Trial]
    """By model."""
    validation: Array
    """See `validation_mask`."""


class Trainer:
    """Trains one model after the other, an epoch at a time, and keeps the features of one backbone.

    A model is stored after its last epoch. Raises WorkError where a number is not finite.
    """

    def __init__(self, shared: Finetuning) -> None:
        self._shared = shared
        self._features = functools.lru_cache(maxsize=1)(self._read_features)

    def begin(self, model: str) -> None:
        """Take a model on."""
        from sweep.numerics.readout import GivenReadout, ReadoutTraining

        self._trial = self._shared.trials[model]
        chosen = self._trial.model
        data = self._features(self._trial.features), np.asarray(chosen.labels), self._shared.validation
        self._training: ReadoutTraining | GivenReadout
        if self._trial.own is not None:
            self._training = GivenReadout(*data, *self._trial.own)
        else:
            self._training = ReadoutTraining(*data, len(chosen.classes), chosen.cell.finetune, chosen.key)
        self._epochs: list[Any] = []

    def epoch(self) -> dict[str, Any]:
        """Train an epoch; after the last, store the model. Returns what Ray Tune is told of it."""
        epoch = self._training.epoch()
        self._epochs.append(epoch)
        done = len(self._epochs) == self._trial.model.cell.finetune.epochs
        return asdict(epoch) | {"done": done} | (self._finish() if done else {})

    def _finish(self) -> dict[str, float]:
        trial, model, held = self._trial, self._trial.model, self._shared.validation
        readout = self._training.readout()
        logits = readout.logits(self._features(trial.features))
        if not np.isfinite(logits).all():
            raise WorkError("the logits of the trained model are not finite; lower finetune.learning_rate")
        correct = logits.argmax(axis=1) == np.asarray(model.labels)
        accuracies = {
            "train_accuracy": float(correct[~held].mean()),
            "val_accuracy": float(correct[held].mean()),
        }
        store_model(self._shared.store, trial, readout.to_bytes(), accuracies, self._epochs)
        return accuracies

    def _read_features(self, units: tuple[Unit, ...]) -> Array:
        return matrix(self._shared.store.read(units, columns=["features"])["features"])


def store_model(
    store: Store, trial: Trial, weights: bytes, accuracies: Mapping[str, float], epochs: Sequence[Any]
) -> None:
    """Store a trained model: its weights, its history (a dataclass per epoch), and last its row."""
    model, cell = trial.model, trial.model.cell
    address = f"weights/{model.id}.{model.key}.npz"
    digest = store.write_file(address, weights)
    history = [{"model_id": model.id, **asdict(epoch)} for epoch in epochs]
    store.write(trial.epochs_unit, pa.Table.from_pylist(history), SCHEMAS["epochs"])
    row = {
        "model_id": model.id,
        "model_key": model.key,
        "pretraining": cell.pretraining,
        "task": cell.task,
        "seed": cell.seed,
        "n_classes": len(model.classes),
        "epochs": cell.finetune.epochs,
        **accuracies,
        "weights_uri": address,
        "weights_sha256": digest,
        "mlflow_run_id": trial.run_id,
        **cell.extra,
    }
    store.write(trial.model_unit, pa.Table.from_pylist([row], schema=trial.schema), trial.schema)
