"""A study from beginning to end in this process, one piece of work after the other: the slow twin of a run on Ray."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.actors.cluster import share_context
from sweep.actors.ranks import _Ranker
from sweep.actors.worker import do_piece
from sweep.plan import Plan
from sweep.stages import STAGES, columns_of, finetune, images, relevance
from sweep.stages.loaded import Loaded
from sweep.stages.stage import Piece
from sweep.storage.store import Store


def load(plan: Plan, store: Store) -> Loaded:
    """What a worker would load, with nothing in shared memory."""
    context = share_context(plan, plan.load_networks(), store, put=lambda value: value)
    return Loaded(context, lambda reference: reference)


def missing_pieces(plan: Plan, store: Store, stage: str) -> list[Piece]:
    """The pieces of work that a stage comes to now."""
    hand_out = STAGES[stage].pieces
    assert hand_out is not None
    return list(hand_out(plan, store, set(store.missing(STAGES[stage].units(plan))), _Ranker(None)))


def run_in_process(
    plan: Plan,
    store: Store,
    without: Sequence[str] = (),
    maps: Callable[[str, Sequence[str]], np.ndarray[Any, Any]] | None = None,
    up_to: str | None = None,
) -> None:
    """Bring a study to its end; models `without` are not finetuned, as if that had failed.

    `maps` stand for relevance, where given: (image, pixel) of a model's id and image ids. `up_to` names the stage after
    finetuning that is not made, nor any after it.
    """
    loaded = load(plan, store)
    store.write(images.unit(plan), plan.images.table, columns_of(plan, "images"))
    for piece in missing_pieces(plan, store, "features"):
        do_piece(loaded, piece)
    trials = {model.id: finetune.trial_of(plan, model, None) for model in plan.models}
    trunks = finetune.trunks_of(plan, plan.models)
    trainer = finetune.Trainer(finetune.Finetuning(store, trials, finetune.validation_mask(plan), trunks))
    for name, trial in trials.items():
        if name not in without and store.missing([trial.model_unit]):
            trainer.begin(name)
            while not trainer.epoch()["done"]:
                pass
    if maps:
        for (model_id, c), unit in relevance.units(plan).items():
            ids = [plan.images.ids[index] for index in relevance.chunks(plan)[c]]
            side = plan.study.dataset.input_size
            rows = [
                {
                    "model_id": model_id,
                    "image_id": image,
                    "target_class": "any",
                    "logit": 1.0,
                    "max_abs": 1.0,
                    "height": side,
                    "width": side,
                    "map": values.tolist(),
                }
                for image, values in zip(ids, maps(model_id, ids), strict=True)
            ]
            columns = columns_of(plan, "relevance")
            store.write(unit, pa.Table.from_pylist(rows, columns), columns)
    names = list(STAGES)
    for stage in names[names.index("finetune") + 1 : names.index(up_to) if up_to else None]:
        for piece in missing_pieces(plan, store, stage):
            do_piece(loaded, piece)
