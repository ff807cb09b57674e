"""A study from beginning to end: each stage asks the store what is missing and hands that to the workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.actors.cluster import cluster, share_context
from sweep.actors.pool import WorkerPool
from sweep.actors.work import units_of
from sweep.errors import WorkError
from sweep.finetune import finetune
from sweep.models.weights import Layers
from sweep.pieces import PIECES
from sweep.plan import STAGES, Plan
from sweep.progress import Display
from sweep.report.answers import answers_of
from sweep.report.page import write_report
from sweep.report.panels import model_files
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
    display.on_finish = tracker.stage_done
    run = Run(plan, store, tracker, display)
    status = KILLED
    try:
        if store.missing(everything):
            with cluster(address) as joined:
                _images(run)
                _run_on_workers(run, layers, joined)
        else:
            display.say(f"Everything is stored already ({len(everything):,} units); nothing to compute.")
        _catch_up(run)
        if not run.failures:
            _publish(run)
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


def _publish(run: Run) -> None:
    """Write a finished study's report, and give its runs in MLflow what belongs to them."""
    plan, store = run.plan, run.store
    answers = answers_of(plan, store)
    report = write_report(answers)
    models = store.read(plan.model_units.values(), columns=["model_id", "weights_sha256"]).to_pylist()
    digests = {row["model_id"]: row["weights_sha256"] for row in models}
    run.tracker.attach_to_models(lambda model: model_files(plan, store, model), digests)
    run.tracker.finish_study(report, answers.tables)


def _images(run: Run) -> None:
    for unit in run.missing("images"):
        run.store.write(unit, run.plan.images.table, run.plan.schema("images"))
        run.display.advance(1)
    run.display.finish()


def _run_on_workers(run: Run, layers: Mapping[str, Layers], joined: bool) -> None:
    """Every stage that computes. The workers give their CPUs back while Tune has its trials."""
    plan, store = run.plan, run.store
    context = share_context(plan, layers, store)
    with WorkerPool(context, growing=joined) as pool:
        _stage(run, pool, "features")
    missing = {unit.label for unit in run.missing("finetune")}
    models = [model for model in plan.models if model.id in missing]
    if models:
        run.failures += finetune(plan, models, store, run.tracker, run.display.advance)
    run.display.finish()
    with WorkerPool(context, growing=joined) as pool:
        for stage in ("predictions", "relevance", "similarity", "masking"):
            _stage(run, pool, stage)


def _stage(run: Run, pool: WorkerPool, stage: str) -> None:
    pieces = PIECES[stage](run.plan, run.store, set(run.missing(stage)))
    for failure in pool.run(pieces, run.display.advance):
        units = units_of(failure.work)
        run.failures.append(f"{stage}: {units[0].label} ({len(units)} units): {failure.reason}")
    run.display.finish()
