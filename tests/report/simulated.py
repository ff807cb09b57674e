"""A finished study without its networks: every unit that a plan asks for, filled with seeded numbers."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.keys import generator
from sweep.plan import Plan
from sweep.stages import (
    all_units,
    columns_of,
    features,
    finetune,
    images,
    masking,
    predictions,
    randomized,
    relevance,
    similarity,
)
from sweep.storage.store import Store, Unit


def simulate(plan: Plan, store: Store, sensitivity: Callable[[str], float] = lambda destination: 1.0) -> None:
    """Store every unit of `plan` but for what its gaps name; accuracy falls with the percent removed,
    by how much depends on the pair and on the destination's `sensitivity`, and controls hurt little.
    """
    units: dict[str, Unit] = {unit.path: unit for unit in all_units(plan)}
    for path, rows in _filled(plan, store, sensitivity):
        unit = units.pop(path)
        schema = columns_of(plan, unit.table)
        store.write(unit, rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema), schema)
    assert {unit.label for unit in units.values()} == plan.gaps.models


def _filled(plan: Plan, store: Store, sensitivity: Callable[[str], float]) -> Iterator[tuple[str, Any]]:
    ids, side = plan.images.ids, plan.study.dataset.input_size
    yield images.unit(plan).path, plan.images.table
    for (name, c), unit in features.units(plan).items():
        yield (
            unit.path,
            [{"pretraining": name, "image_id": ids[i], "features": [0.0]} for i in features.chunks(plan)[c]],
        )
    for model in plan.present:
        draws = generator("simulated", model.id)
        epochs = model.cell.finetune.epochs
        yield (
            finetune.epoch_units(plan)[model.id].path,
            [
                {
                    "model_id": model.id,
                    "epoch": e,
                    "loss": 1 / e,
                    "accuracy": e / epochs,
                    "val_loss": 1.5 / e,
                    "val_accuracy": 0.9 * e / epochs,
                }
                for e in range(1, epochs + 1)
            ],
        )
        weights = f"weights/{model.id}.{model.key}.npz"
        yield (
            finetune.model_units(plan)[model.id].path,
            [
                {
                    "model_id": model.id,
                    "model_key": model.key,
                    "pretraining": model.cell.pretraining,
                    "task": model.cell.task,
                    "seed": model.cell.seed,
                    "n_classes": len(model.classes),
                    "epochs": epochs,
                    "train_accuracy": 1.0,
                    "val_accuracy": 0.9,
                    "weights_uri": weights,
                    "weights_sha256": store.write_file(weights, readout(model.id, len(model.classes))),
                    "mlflow_run_id": None,
                    **model.cell.extra,
                }
            ],
        )
        ranks = min(plan.study.analysis.ranks, len(model.classes))
        yield (
            predictions.units(plan)[model.id].path,
            [
                {
                    "model_id": model.id,
                    "image_id": image,
                    "rank": rank + 1,
                    "class": model.classes[chosen],
                    "logit": -rank,
                }
                for i, image in enumerate(ids)
                for rank, chosen in enumerate(_ranking(draws, model.labels[i], len(model.classes))[:ranks])
            ],
        )
    mapped: list[tuple[Unit, dict[str, Any], int]] = [
        *((unit, {"model_id": model}, c) for (model, c), unit in relevance.units(plan).items()),
        *(
            (unit, {"model_id": model, "draw": draw}, c)
            for (model, draw, c), unit in randomized.units(plan).items()
        ),
    ]
    for unit, named, c in mapped:
        maps = generator("map", *named.values(), c).normal(size=(len(relevance.chunks(plan)[c]), side * side))
        yield (
            unit.path,
            [
                {
                    **named,
                    "image_id": ids[i],
                    "target_class": "any",
                    "logit": 1.0,
                    "max_abs": 1.0,
                    "height": side,
                    "width": side,
                    "map": values / np.abs(values).max(),
                }
                for i, values in zip(relevance.chunks(plan)[c], maps, strict=True)
            ],
        )
    for place, unit in similarity.units(plan).items():
        model_id, _, c = place
        yield (
            unit.path,
            [
                {
                    "image_id": ids[i],
                    "model_a": other,
                    "model_b": model_id,
                    "pearson": float(generator("r", other, model_id, i).uniform(0.2, 0.9)),
                }
                for other in (model.id for model in similarity.others(plan, place))
                for i in masking.chunks(plan)[c]
            ],
        )
    for (mask, backbone, b, c), units in masking.units(plan).items():
        block = masking.blocks(plan)[backbone][b]
        models = [block[position] for group in masking.groups(plan, block) for position in group]
        for model, unit in zip(models, units, strict=True):
            yield unit.path, list(_masked(plan, mask, model.id, c, sensitivity(model.id)))


def readout(model_id: str, classes: int, features: int = 7) -> bytes:
    """Weights in the form that a finetune stores them."""
    draws, content = generator("readout", model_id), io.BytesIO()
    np.savez(
        content,
        kernel=draws.normal(size=(features, classes)).astype(np.float32),
        bias=draws.normal(size=classes).astype(np.float32),
    )
    return content.getvalue()


def _ranking(draws: np.random.Generator, label: int, classes: int) -> list[int]:
    return [label, *(int(c) for c in draws.permutation(classes) if c != label)]


def _masked(
    plan: Plan, mask: masking.Mask, destination: str, c: int, sensitivity: float
) -> Iterator[dict[str, Any]]:
    draws = generator("masked", mask.name, destination, c)
    strength = 1 if mask.source.split("-")[0] == destination.split("-")[0] else 0.6
    if mask.control != masking.OWN:
        strength *= 0.3
    for fill in plan.study.masking.fills:
        for percent in plan.study.masking.percents:
            chance = max(0.1, 1 - sensitivity * strength * (percent / 100) ** 0.3)
            for i in masking.chunks(plan)[c]:
                yield {
                    "source_id": mask.source,
                    "control": mask.control,
                    "draw": mask.draw,
                    "fill": fill,
                    "destination_id": destination,
                    "percent": percent,
                    "image_id": plan.images.ids[i],
                    "predicted_class": "any",
                    "correct": bool(draws.uniform() < chance),
                    "target_logit": 0.0,
                }
