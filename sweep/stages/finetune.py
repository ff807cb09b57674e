"""The stage `finetune`: a readout or a deeper head per model, trained on stored features; Ray Tune schedules them
(sweep.actors.trials).

A model's row is written after its weights and epochs, so its presence means that all of it is there. While a deeper head is
trained, a checkpoint is kept beside, and whoever trains it next goes on from there.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.arrays import Array
from sweep.data.images import VALIDATION
from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.lrp import Network
from sweep.models.network import untrained_head
from sweep.plan import Model, Plan
from sweep.stages import features
from sweep.stages.checkpoint import Checkpoint
from sweep.stages.cost import FILE_BYTES, ROW_BYTES, Size, StageCost
from sweep.stages.loaded import ModelRef
from sweep.stages.stage import Stage, once_per_plan
from sweep.storage.arrays import matrix
from sweep.storage.schemas import SCHEMAS, with_extra
from sweep.storage.store import Store, Unit
from sweep.study import Finetune


@once_per_plan
def epoch_units(plan: Plan) -> Mapping[str, Unit]:
    """Units of the table `epochs` by model."""
    return {
        m.id: Unit(
            "epochs",
            m.id,
            key_of("epochs", m.key),
            m.cell.finetune.epochs,
            may_have_fewer=m.cell.finetune.patience is not None,
        )
        for m in plan.models
    }


@once_per_plan
def model_units(plan: Plan) -> Mapping[str, Unit]:
    """Units of the table `models` by model."""
    return {m.id: Unit("models", m.id, key_of("models", m.key), 1) for m in plan.models}


def refer(plan: Plan, model: Model) -> ModelRef:
    """A model as a worker needs it."""
    stored = model.id not in plan.gaps.models
    unit, is_deep = model_units(plan)[model.id], model.cell.finetune.is_deep
    return ModelRef(model.id, model.key, model.cell.task, unit, stored, is_deep)


def _units(plan: Plan) -> list[Unit]:
    return [*epoch_units(plan).values(), *model_units(plan).values()]


def _inputs(plan: Plan) -> Iterator[tuple[Unit, tuple[Unit, ...]]]:
    for model in plan.models:
        read = features.units_of_backbone(plan, model.backbone) + features.mirrored_units_of(plan, model)
        yield epoch_units(plan)[model.id], read
        yield model_units(plan)[model.id], read


def _settings(plan: Plan) -> dict[str, Any]:
    study = plan.study.model_dump(mode="json")
    return {"factors": study["factors"], "finetune": study["finetune"]}


def _cost(size: Size) -> StageCost:
    # Forward, and backward with respect to the weights; deeper heads backward with respect to what they see as well.
    shown = size.models * size.epochs * size.images * size.train_share
    other = shown * 2 * size.readout_flops
    row = size.epochs * ROW_BYTES["epochs"] + ROW_BYTES["models"]
    weights = 4 * (size.mean_features + 1) * size.classes + size.head_bytes
    written = size.models * (row + weights + 2 * FILE_BYTES)
    deep = shown * 3 * size.head_flops
    return StageCost("finetune", 2 * size.models, 0.0, deep, other, written)


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
    mirrored: tuple[Unit, ...]
    """Those of the mirrored images to train on, where there are any."""
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
        mirrored=features.mirrored_units_of(plan, model),
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
class Trunk:
    """A frozen part, as a head behind it sees it."""

    output: tuple[int, ...]
    """Shape of its output for one image."""
    tail: Network | None
    """The pretrained layers behind it; None where a head is all new."""


def trunks_of(plan: Plan, models: Iterable[Model]) -> dict[str, Trunk]:
    """The frozen parts that heads of `models` stand on, by name; their files are read."""
    names = {model.backbone for model in models if model.cell.finetune.is_deep}
    size = plan.study.dataset.input_size
    found = {}
    for name in sorted(names):
        network, tail = plan.backbones[name].parts(size)
        found[name] = Trunk(network.output_shape, tail)
    return found


@dataclass(frozen=True)
class Finetuning:
    """What the trials of a study share."""

    store: Store
    trials: Mapping[str, Trial]
    """By model."""
    validation: Array
    """See `validation_mask`."""
    trunks: Mapping[str, Trunk]
    """What deeper heads begin from, by backbone."""


class Trainer:
    """Trains one model after the other, an epoch at a time, and keeps the features of one backbone.

    A model is stored after its last epoch. Raises WorkError where a number is not finite.
    """

    def __init__(self, shared: Finetuning) -> None:
        self._shared = shared
        self._features = functools.lru_cache(maxsize=1)(self._read_features)
        self._examples = functools.lru_cache(maxsize=1)(self._split)

    def begin(self, model: str) -> None:
        """Take a model on, from its checkpoint where there is one."""
        from sweep.numerics.readout import GivenReadout, ReadoutTraining

        self._trial = self._shared.trials[model]
        chosen = self._trial.model
        self._epochs: list[Any] = []
        self._best: Any = None
        self._checkpoint: Checkpoint | None = None
        # What the model before took must be free before this one asks for it.
        self._training: Any = None
        if self._trial.own is not None:
            data = self._features(self._trial.features), np.asarray(chosen.labels), self._shared.validation
            self._training = GivenReadout(*data, *self._trial.own)
            return
        examples = self._examples(self._trial.features, self._trial.mirrored, chosen.labels)
        settings = chosen.cell.finetune
        if not settings.is_deep:
            self._training = ReadoutTraining(examples, len(chosen.classes), settings, chosen.key)
            return
        from sweep.numerics.head_training import HeadTraining

        trunk = self._shared.trunks[chosen.backbone]
        start = untrained_head(trunk.tail, trunk.output, settings.hidden, len(chosen.classes), chosen.key)
        self._training = HeadTraining(examples, start, len(settings.hidden) + 1, settings, chosen.key)
        self._checkpoint = Checkpoint(self._shared.store, chosen)
        self._epochs, self._best = self._checkpoint.restore(self._training)

    def epoch(self) -> dict[str, Any]:
        """Train an epoch; after the last, store the model. Returns what Ray Tune is told of it."""
        settings = self._trial.model.cell.finetune
        if not self._is_over(settings):  # a checkpoint may be of the last epoch
            self._epochs.append(self._training.epoch())
            if settings.patience is not None and self._lowest() == len(self._epochs) - 1:
                self._best = self._training.readout()
            if self._checkpoint and not self._is_over(settings):
                self._checkpoint.keep(self._training, self._epochs, self._best)
        done = self._is_over(settings)
        return asdict(self._epochs[-1]) | {"done": done} | (self._finish() if done else {})

    def _is_over(self, settings: Finetune) -> bool:
        since = len(self._epochs) - 1 - self._lowest() if self._epochs else 0
        return len(self._epochs) == settings.epochs or (
            settings.patience is not None and since >= settings.patience
        )

    def _lowest(self) -> int:
        """Place of the first epoch with the lowest loss on the images held back."""
        losses = [epoch.val_loss for epoch in self._epochs]
        return losses.index(min(losses))

    def _finish(self) -> dict[str, float]:
        trial, model, held = self._trial, self._trial.model, self._shared.validation
        readout = self._training.readout() if self._best is None else self._best
        logits = readout.logits(self._features(trial.features))
        if not np.isfinite(logits).all():
            raise WorkError("the logits of the trained model are not finite; lower finetune.learning_rate")
        correct = logits.argmax(axis=1) == np.asarray(model.labels)
        accuracies = {
            "train_accuracy": float(correct[~held].mean()),
            "val_accuracy": float(correct[held].mean()),
        }
        store_model(self._shared.store, trial, readout.to_bytes(), accuracies, self._epochs)
        if self._checkpoint:
            self._checkpoint.remove()
        return accuracies

    def _read_features(self, units: tuple[Unit, ...]) -> Array:
        return matrix(self._shared.store.read(units, columns=["features"])["features"])

    def _split(self, units: tuple[Unit, ...], mirrored: tuple[Unit, ...], labels: tuple[int, ...]) -> Any:
        from sweep.numerics.readout import Examples

        turned = self._read_features(mirrored) if mirrored else None
        return Examples(self._features(units), np.asarray(labels), self._shared.validation, turned)


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
        "epochs": len(epochs),
        **accuracies,
        "weights_uri": address,
        "weights_sha256": digest,
        "mlflow_run_id": trial.run_id,
        **cell.extra,
    }
    store.write(trial.model_unit, pa.Table.from_pylist([row], schema=trial.schema), trial.schema)
