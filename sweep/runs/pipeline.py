"""A study from beginning to end: each stage asks the store what is missing and hands that to the workers."""

from collections.abc import Mapping
from contextlib import suppress

from sweep.actors.address import is_joined
from sweep.actors.cluster import cluster, share_context
from sweep.actors.nodes import Nodes
from sweep.actors.pool import WorkerPool
from sweep.actors.queue import Failure
from sweep.actors.ranks import Rankers
from sweep.actors.trials import finetune
from sweep.errors import LostError, Stopped, StoreError, WorkError
from sweep.lrp import Network
from sweep.plan import Gaps, Plan
from sweep.report.answers import Answers, answers_of
from sweep.report.model_metrics import model_metrics
from sweep.report.page import write_report
from sweep.report.panels import model_files
from sweep.runs.failures import failed, record
from sweep.runs.interrupt import Interrupts
from sweep.runs.lease import Lease
from sweep.runs.refresh import set_replaced_aside
from sweep.runs.run import Run, hold
from sweep.runs.sidecars import restore_sidecars, versions
from sweep.runs.speed import REPORT, forecast
from sweep.stages import STAGES, all_units, columns_of, index_of_study, stages_of
from sweep.stages.finetune import epoch_units, model_units
from sweep.stages.memory import trains_within, trial_bytes
from sweep.storage.checksums import STUDY, write_files
from sweep.storage.index import INDEX
from sweep.storage.store import Store, Unit
from sweep.terminal.progress import Display
from sweep.tracking import FAILED, FINISHED, KILLED, Tracker


def run_study(
    plan: Plan,
    store: Store,
    results: str,
    display: Display,
    address: str | None = None,
    refresh: str | None = None,
) -> Answers:
    """Bring a study to its end, doing only what is not stored yet; returns what its tables answer.

    `address` is a Ray cluster's; without one, and without RAY_ADDRESS, Ray starts on this machine. `refresh` names
    a stage to compute again, with all that is made from it. Raises WorkError listing what failed, after everything
    else was done; HeldError where another run of the study is alive; Stopped where this one was asked to stop.
    """
    networks = plan.load_networks()
    with Interrupts(display.say) as interrupts:
        try:
            with hold(plan, store, display, interrupts) as lease:
                return _run(plan, networks, store, results, display, lease, interrupts, address, refresh)
        except KeyboardInterrupt:
            raise interrupts.end or Stopped("stopped") from None


def _run(
    plan: Plan,
    networks: Mapping[str, Network],
    store: Store,
    results: str,
    display: Display,
    lease: Lease,
    interrupts: Interrupts,
    address: str | None,
    refresh: str | None,
) -> Answers:
    everything = all_units(plan)
    store.files.clear_temporary()
    set_replaced_aside(store, refresh)
    write_files(store, {STUDY: plan.source, INDEX: index_of_study(plan)})
    restore_sidecars(store, plan)
    tracker = Tracker(plan, results)
    for line in tracker.problems():  # now, as a wrong password or address can be mended while the study runs
        display.say(line)
    display.on_finish = tracker.stage_done
    run = Run(plan, store, tracker, display, lease, interrupts, versions())
    status = KILLED
    refused: StoreError | None = None
    try:
        if missing := store.missing(everything):
            display.say("Joining the cluster." if is_joined(address) else "Starting Ray on this machine.")
            with cluster(address) as joined:
                display.forecast = forecast(plan, networks, missing, results, joined)
                _compute(run, networks, joined)
                if run.damaged_inputs():
                    display.say("What was damaged is made again.")
                    _compute(run, networks, joined)
        else:
            display.say(f"Everything is stored already ({len(everything):,} units); nothing to compute.")
        display.stage(REPORT, 1, 0)
        _catch_up(run)
        try:
            answers = _publish(run)
        except StoreError:
            raise
        except WorkError as error:
            if not run.failures:
                raise
            display.say(str(error))  # what failed is told at the end, with what to do
        status = FAILED if run.failures else FINISHED
    except StoreError as error:
        status, refused = FAILED, error
        raise
    except WorkError:
        status = FAILED
        raise
    finally:
        if refused is None and not isinstance(interrupts.end, LostError | StoreError):
            with suppress(WorkError):
                record(store, run.failures, store.missing(everything))
        if not isinstance(interrupts.end, LostError):  # else all this is the other run's now
            tracker.close(status)
        for line in tracker.problems():
            display.say(line)
    if run.failures:
        raise WorkError("\n".join(run.outcome()))
    return answers


def _catch_up(run: Run) -> None:
    """MLflow follows the tables: whatever it missed of a stored model it is told now."""

    def history(model_id: str) -> tuple[list[dict[str, float]], dict[str, float], str | None]:
        epochs = run.store.read([epoch_units(run.plan)[model_id]]).to_pylist()
        columns = ["train_accuracy", "val_accuracy", "mlflow_run_id"]
        accuracies = run.store.read([model_units(run.plan)[model_id]], columns=columns).to_pylist()[0]
        return epochs, accuracies, accuracies.pop("mlflow_run_id")

    absent = {unit.label for unit in run.store.missing(list(model_units(run.plan).values()))}
    run.tracker.catch_up([model for model in run.plan.models if model.id not in absent], history)


def _publish(run: Run) -> Answers:
    """Write the study's report, with its gaps if it has any, and give its runs in MLflow what belongs to them.

    Returns what the report was made of, so that nothing is asked of the tables twice.
    """
    store = run.store
    answers = answers_of(run.plan.without(Gaps()), store)
    if answers.missing:
        write_files(store, {INDEX: index_of_study(answers.plan)})
    report = write_report(answers)
    digests = {row["model_id"]: row["weights_sha256"] for row in answers.models.to_pylist()}
    run.tracker.measure_models(model_metrics(answers))
    run.tracker.attach_to_models(lambda model: model_files(answers.plan, store, model), digests)
    run.tracker.finish_study(report, answers.tables)
    run.display.advance(1)
    run.display.finish()
    return answers


def _compute(run: Run, networks: Mapping[str, Network], joined: bool) -> None:
    """Every stage, by workers that live as long as possible; see `sweep.actors.training`."""
    plan, store = run.plan, run.store
    names = list(stages_of(plan))
    trials = names.index("finetune")
    before = [name for name in names[:trials] if STAGES[name].pieces]
    after = names[trials + 1 :]
    run.begin()
    for unit in run.missing("images"):
        store.write(unit, plan.images.table, columns_of(plan, "images"))
        run.advance(1)
    run.finish()
    context, nodes = (
        share_context(plan, networks, store),
        Nodes(store, run.display.say, run.tracker.node_used),
    )
    with WorkerPool(context, nodes, growing=joined) as pool:
        for stage in before:
            _stage(run, pool, stage)
        _finetune(run, pool, networks, joined)
        for stage in after:
            _stage(run, pool, stage)


def _finetune(run: Run, pool: WorkerPool, networks: Mapping[str, Network], joined: bool) -> None:
    plan = run.plan
    missing = {unit.label for unit in run.missing("finetune")}
    models = [model for model in plan.models if model.id in missing]
    problems: list[tuple[str, str]] = []
    if models and (joined or not trains_within(plan, networks)):
        pool.dismiss()
        memory = trial_bytes(plan, networks)
        problems = finetune(plan, models, run.store, run.tracker, run.advance, pool.nodes, memory)
    elif models:
        problems = finetune(plan, models, run.store, run.tracker, run.advance, pool)
    run.finish(
        [
            failed("finetune", [model_units(plan)[name], epoch_units(plan)[name]], why)
            for name, why in problems
        ]
    )


def _stage(run: Run, pool: WorkerPool, stage: str) -> None:
    pieces = STAGES[stage].pieces
    assert pieces is not None, f"{stage} has no pieces of work"

    def work(missing: list[Unit]) -> list[Failure]:
        return pool.run(pieces(run.plan, run.store, set(missing), Rankers(pool.nodes)), run.advance)

    wanted = run.missing(stage)
    with run.interrupts.draining(pool.drain):
        failures = work(wanted)
        if lost := [unit for failure in failures if failure.input_lost for unit in failure.piece.units]:
            # New pieces ask again for what was lost.
            failures = [failure for failure in failures if not failure.input_lost]
            failures += work(run.store.missing(lost))
        run.finish(
            [
                failed(stage, failure.piece.units, f"{failure.reason} (tried {failure.attempts} times)")
                for failure in failures
            ]
        )
        for failure in failures:
            if failure.refused:
                raise StoreError(failure.reason)
