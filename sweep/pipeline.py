"""A study from beginning to end: each stage asks the store what is missing and hands that to the workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sweep.actors.cluster import cluster, share_context
from sweep.actors.devices import share_of_cluster
from sweep.actors.pool import WorkerPool
from sweep.actors.work import (
    Features,
    Masked,
    ModelRef,
    Predictions,
    Relevance,
    Similarity,
    Work,
    units_of,
)
from sweep.errors import WorkError
from sweep.finetune import finetune
from sweep.models.weights import Layers
from sweep.plan import STAGES, Plan
from sweep.progress import Display
from sweep.report.summary import draw_figures
from sweep.store import Store, Unit
from sweep.tracking import FAILED, FINISHED, KILLED, Tracker


@dataclass
class Run:
    """One run of a study: what it needs at every stage, and what went wrong so far."""

    plan: Plan
    store: Store
    tracker: Tracker
    display: Display
    failures: list[str] = field(default_factory=list)

    def missing(self, stage: str) -> list[Unit]:
        """Units of `stage` that are not stored; begins the stage on the display."""
        units = self.plan.units(stage)
        missing = self.store.missing(units)
        self.display.stage(stage, len(units), len(units) - len(missing))
        return missing


def run_study(plan: Plan, store: Store, results: str, display: Display, address: str | None = None) -> None:
    """Bring a study to its end, doing only what is not stored yet.

    `address` is a Ray cluster's; without one, and without RAY_ADDRESS, Ray starts on this machine. Raises
    WorkError listing what failed, after everything else was done.
    """
    layers = plan.load_layers()
    everything = [unit for stage in STAGES for unit in plan.units(stage)]
    store.arrange(everything)
    store.write_file("study.yaml", plan.path.read_bytes())
    tracker = Tracker(plan, results)
    run = Run(plan, store, tracker, display)
    status = KILLED
    try:
        if store.missing(everything):
            with cluster(address):
                _images(run)
                _run_on_workers(run, layers)
        else:
            display.say(f"Everything is stored already ({len(everything):,} units); nothing to compute.")
        _catch_up(run)
        if not run.failures:
            tracker.artifacts(draw_figures(plan, store))
            tracker.summary(plan.rows(), store.root)
        status = FAILED if run.failures else FINISHED
    except WorkError:
        status = FAILED
        raise
    finally:
        tracker.close(status)
        if tracker.problem:
            display.say(
                f"MLflow at {tracker.uri} did not answer, so its history has a gap: {tracker.problem}"
            )
    if run.failures:
        shown = run.failures[:10] + (
            [f"... and {len(run.failures) - 10} more"] if len(run.failures) > 10 else []
        )
        raise WorkError(
            "\n".join([*shown, "Run the same command again to retry what failed; the rest is stored."])
        )


def _catch_up(run: Run) -> None:
    """MLflow follows the tables: whatever it missed of a stored model it is told now."""

    def history(model_id: str) -> tuple[list[dict[str, float]], dict[str, float]]:
        epochs = run.store.read([run.plan.epoch_units[model_id]]).to_pylist()
        columns = ["train_accuracy", "val_accuracy"]
        return epochs, run.store.read([run.plan.model_units[model_id]], columns=columns).to_pylist()[0]

    absent = {unit.label for unit in run.store.missing(list(run.plan.model_units.values()))}
    run.tracker.catch_up([model for model in run.plan.models if model.id not in absent], history)


def _images(run: Run) -> None:
    for unit in run.missing("images"):
        run.store.write(unit, run.plan.images.table, run.plan.schema("images"))
        run.display.advance(1)
    run.display.finish()


def _run_on_workers(run: Run, layers: Mapping[str, Layers]) -> None:
    """Every stage that computes. The workers give their CPUs back while Tune has its trials."""
    plan, store = run.plan, run.store
    share = share_of_cluster()
    context = share_context(plan, layers, store)
    with WorkerPool(context, share) as pool:
        _stage(run, pool, "features", _feature_work)
    missing = {unit.label for unit in run.missing("finetune")}
    models = [model for model in plan.models if model.id in missing]
    if models:
        run.failures += finetune(plan, models, store, run.tracker, share, run.display.advance)
    run.display.finish()
    with WorkerPool(context, share) as pool:
        for stage, work in _LATER_STAGES.items():
            _stage(run, pool, stage, work)


def _stage(
    run: Run, pool: WorkerPool, stage: str, pieces_of: Callable[[Plan, set[Unit]], list[Work]]
) -> None:
    pieces = pieces_of(run.plan, set(run.missing(stage)))
    for failure in pool.run(pieces, run.display.advance):
        units = units_of(failure.work)
        run.failures.append(f"{stage}: {units[0].label} ({len(units)} units): {failure.reason}")
    run.display.finish()


def _feature_work(plan: Plan, missing: set[Unit]) -> list[Work]:
    return [
        Features(backbone, plan.feature_chunks[c], unit)
        for (backbone, c), unit in plan.feature_units.items()
        if unit in missing
    ]


def _prediction_work(plan: Plan, missing: set[Unit]) -> list[Work]:
    everything = range(len(plan.images.ids))
    return [
        Predictions(
            _refer(plan, model_id, everything),
            tuple(
                plan.feature_units[plan.model[model_id].cell.pretraining, c]
                for c in range(len(plan.feature_chunks))
            ),
            unit,
        )
        for model_id, unit in plan.prediction_units.items()
        if unit in missing
    ]


def _relevance_work(plan: Plan, missing: set[Unit]) -> list[Work]:
    """Models that share a backbone share a piece, so that they share its forward pass."""
    settings = plan.study.relevance
    pieces: list[Work] = []
    for backbone in plan.backbones:
        for c, chunk in enumerate(plan.map_chunks):
            wanted = [
                model.id
                for model in plan.models
                if model.cell.pretraining == backbone and plan.relevance_units[model.id, c] in missing
            ]
            if wanted:
                refs = tuple(_refer(plan, model_id, chunk) for model_id in wanted)
                units = tuple(plan.relevance_units[model_id, c] for model_id in wanted)
                pieces.append(Relevance(backbone, chunk, refs, units, settings.composite, settings.bias))
    return pieces


def _similarity_work(plan: Plan, missing: set[Unit]) -> list[Work]:
    pieces: list[Work] = []
    models = tuple(model.id for model in plan.models)
    for c, chunk in enumerate(plan.map_chunks):
        wanted = tuple(
            (position, plan.similarity_units[model_id, c])
            for position, model_id in enumerate(models)
            if position and plan.similarity_units[model_id, c] in missing
        )
        if wanted:
            maps = tuple(plan.relevance_units[model_id, c] for model_id in models)
            pieces.append(Similarity(chunk, models, maps, wanted))
    return pieces


def _masking_work(plan: Plan, missing: set[Unit]) -> list[Work]:
    """One backbone pass per source, level and image answers for all destinations on that backbone."""
    pieces: list[Work] = []
    for backbone in plan.backbones:
        destinations = [model.id for model in plan.models if model.cell.pretraining == backbone]
        for c, chunk in enumerate(plan.mask_chunks):
            refs = {model_id: _refer(plan, model_id, chunk) for model_id in destinations}
            for source in [*(model.id for model in plan.models), *plan.random_sources]:
                wanted = [name for name in destinations if plan.masked_units[source, name, c] in missing]
                if wanted:
                    made = source not in plan.random_sources
                    maps = [plan.relevance_units[source, m] for m in plan.map_chunks_of(c)] if made else []
                    pieces.append(
                        Masked(
                            source=source,
                            maps=tuple(maps),
                            backbone=backbone,
                            images=chunk,
                            percents=plan.study.masking.percents,
                            destinations=tuple(refs[name] for name in wanted),
                            units=tuple(plan.masked_units[source, name, c] for name in wanted),
                        )
                    )
    return pieces


_LATER_STAGES = {
    "predictions": _prediction_work,
    "relevance": _relevance_work,
    "similarity": _similarity_work,
    "masking": _masking_work,
}


def _refer(plan: Plan, model_id: str, images: Sequence[int]) -> ModelRef:
    model = plan.model[model_id]
    targets = tuple(np.asarray(model.labels)[list(images)].tolist())
    return ModelRef(model_id, plan.model_units[model_id], model.classes, targets)
