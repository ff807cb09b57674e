"""Tells MLflow of a study while it runs, and catches it up from the tables where it was away."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sweep.analysis.provenance import TableIdentity
from sweep.errors import redacted
from sweep.plan import Model, Plan
from sweep.tracking.connection import Connection, tracking_uri
from sweep.tracking.faults import Fault, RunRefusedError, fault_of
from sweep.tracking.logged import logged_model
from sweep.tracking.readouts import ADDRESS_TAG, READOUT, SHA256_TAG
from sweep.tracking.records import study_files
from sweep.tracking.study_runs import FILES_TAG, Rows, StudyRuns
from sweep.tracking.usage import NodeUsage

RUNS_WITH_FILES = 200
"""Models whose runs get files of their own, the first in the plan's order; the others name the store's address."""
IN_A_ROW = 3
"""So many models whose faults may pass by themselves, one after the other: then it is MLflow, and no more are tried."""
NAMED = 5
"""Models that a line names; it counts the others."""

History = Callable[[str], tuple[Rows, Mapping[str, float], str | None]]
Answer = TypeVar("Answer")


class Tracker:
    """The runs of one study. No method raises or blocks for long when the tracking server is away."""

    def __init__(self, plan: Plan, results: str) -> None:
        """Open the study's experiment and its parent run, creating what does not exist yet."""
        self.uri = tracking_uri(results)
        self._plan, self._results = plan, results
        self._connection = Connection(self.uri)
        self._runs = StudyRuns(plan, results, self.uri)
        self._stages: dict[str, float] = {}
        """Seconds by stage, not recorded yet."""
        self._usage = NodeUsage()
        self._made_again: list[str] = []
        """Models whose run was not found, and made again."""
        self._refused: dict[str, list[str]] = {}
        """Models without their run, by what MLflow has against it."""
        self._without_files: dict[str, list[str]] = {}
        """Runs without their files, by why."""
        self._try(lambda: None)

    def problems(self) -> list[str]:
        """What MLflow lacks, and what is not as it was: a line for each kind, with the reason and the remedy."""
        told = [f"its runs have a gap: {self._connection.fault.line}"] if self._connection.fault else []
        if self._made_again:
            told.append(
                f"the runs that these results name are not there ({_named(self._made_again)}): they were deleted, made at "
                "another address, or are those of results that these were copied from; new ones hold their history"
            )
        told += [f"models lack their runs ({_named(names)}): {why}" for why, names in self._refused.items()]
        told += [
            f"runs lack their files and have everything else ({_named(names)}): {why}"
            for why, names in self._without_files.items()
        ]
        return [redacted(f"MLflow at {self.uri}: {what}") for what in told]

    def start_models(self, models: Sequence[Model]) -> dict[str, str]:
        """Run id of each model's child run, by model id; models are absent where the server is away."""
        started = {}
        for model in models:
            run_id = self._try_one(functools.partial(self._runs.start, model))
            if run_id is not None:
                started[model.id] = run_id
        return started

    def epochs(self, run_id: str, rows: Rows, time_ms: int) -> None:
        """Record rows of the table `epochs` of one model; an epoch that is recorded already is not repeated."""
        self._try_one(lambda: self._runs.log_epochs(run_id, rows, time_ms))

    def finish_model(self, run_id: str, accuracies: Mapping[str, float], epochs: int) -> None:
        """Close a model's run with its final accuracies, unless some of its `epochs` are still to be caught up."""
        if self._runs.epochs_of(run_id) == epochs:
            self._try_one(lambda: self._runs.finish(run_id, accuracies))

    def stage_done(self, stage: str, units: int, seconds: float) -> None:
        """Record how long a stage took that stored `units`; a stage that had nothing to do is not recorded."""
        if told := self._usage.rest():
            self._try(lambda: self._runs.log_usage(told))
        if units:
            self._stages[stage] = seconds
            self._try(self._log_stages)

    def node_used(self, node: str, reading: Mapping[str, float]) -> None:
        """Record how busy a node is, now and then; what is read while the server is away is lost."""
        if told := self._usage.add(node, reading, time.monotonic()):
            self._try(lambda: self._runs.log_usage(told))

    def catch_up(self, models: Sequence[Model], history: History) -> None:
        """Tell MLflow what it lacks of stored `models`, after a kill or while the server was away.

        `history` gives a model's rows of the table `epochs`, its accuracies and the run that its results name; only
        steps that MLflow lacks are sent. Each model is a try of its own. Worth waiting for: a server that does not
        answer is asked again for some seconds.
        """

        def bring_up() -> bool:
            # Runs may have been deleted since, or made by a request whose answer was lost.
            self._runs.look()
            self._refused.clear()
            passing = in_a_row = 0
            for model in models:
                if self._runs.of.get(model.key, "") in self._runs.done:
                    continue
                told = history(model.id)
                try:
                    self._runs.of_one(functools.partial(self._bring_up, model, *told))
                    in_a_row = 0
                except RunRefusedError as error:
                    fault = fault_of(error.error, self.uri)
                    self._refused.setdefault(fault.kind, []).append(model.id)
                    if not fault.final:
                        passing, in_a_row = passing + 1, in_a_row + 1
                    if in_a_row == IN_A_ROW:
                        self._refused.clear()
                        raise error.error from None
            self._log_stages()
            return not passing

        self._connection.insist(bring_up)

    def attach_to_models(
        self, files_of: Callable[[Model], Mapping[str, bytes]], sha256: Mapping[str, str]
    ) -> None:
        """Attach files to the runs of the first RUNS_WITH_FILES models that have none yet.

        `files_of` makes a model's files by path; the readout's weights are READOUT. `sha256` gives the weights' digest
        by model id, which all runs are tagged with. Each model is a try of its own.
        """
        if self._away():
            return
        stored = [model for model in self._plan.models if model.id in sha256 and model.key in self._runs.of]
        lacking = [model.id for model in stored if self._runs.of[model.key] not in self._runs.with_files]
        in_a_row = 0
        for position, model in enumerate(stored):
            if model.id not in lacking:
                continue
            files = files_of(model) if position < RUNS_WITH_FILES else {}
            address = self._address(model)
            place = READOUT if files else address
            tags = {SHA256_TAG: sha256[model.id], ADDRESS_TAG: address, FILES_TAG: place}
            fault = self._upload(self._runs.of[model.key], files, tags, model)
            if fault is None:
                self._runs.with_files.add(self._runs.of[model.key])
                in_a_row = 0
                continue
            in_a_row = 0 if fault.final else in_a_row + 1
            without = self._without_files.setdefault(fault.kind, [])
            if in_a_row == IN_A_ROW:
                without += lacking[lacking.index(model.id) :]
                return
            without.append(model.id)

    def measure_models(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Record what the tables say of finished models, by model id; what MLflow has already is not sent again."""
        for model in self._plan.models:
            run_id = self._runs.of.get(model.key)
            if run_id is not None and model.id in metrics:
                self._try_one(functools.partial(self._runs.measure, run_id, metrics[model.id]))

    def finish_study(self, files: Mapping[str, bytes], tables: Mapping[str, TableIdentity]) -> None:
        """Attach a finished study's `files` (by path) to its run, and what identifies it and its tables."""
        tags = {
            f"sweep.table.{name}": f"{identity.rows} rows, {identity.sha256}"
            for name, identity in tables.items()
        }
        everything = {**files, **study_files(self._plan, tables)}
        self._try(lambda: self._runs.tag(self._runs.parent, tags))
        if not self._away() and (fault := self._upload(self._runs.parent, everything, {})):
            self._without_files.setdefault(fault.kind, []).append(self._plan.study.name)

    def close(self, status: str) -> None:
        """Close the parent run, and as KILLED (or FAILED) every child run that is still open."""
        self._connection.be_ready()  # a run that is not closed now stays open for good
        self._try(lambda: self._runs.close(status))

    def _bring_up(self, model: Model, rows: Rows, accuracies: Mapping[str, float], noted: str | None) -> None:
        there = model.key in self._runs.of
        run_id = self._runs.start(model)
        if noted and not there:
            self._made_again.append(model.id)
        self._runs.log_epochs(run_id, rows, int(time.time() * 1000))
        self._runs.finish(run_id, accuracies)

    def _log_stages(self) -> None:
        if self._stages:
            self._runs.log_stages(self._stages)
            self._stages.clear()

    def _upload(
        self, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str], model: Model | None = None
    ) -> Fault | None:
        """Send files, and with a model's readout the whole as an MLflow Model; why that was not possible, or None.

        An artifact store that refuses leaves runs to be closed.
        """
        try:
            if model is not None and READOUT in files:
                files = {**files, **logged_model(self._plan, model, files[READOUT])}
            self._runs.attach(run_id, files, tags)
        except Exception as error:
            return fault_of(error, self.uri)
        return None

    def _away(self) -> bool:
        """Whether MLflow itself did not answer when it was asked last; then there is no use in sending files."""
        fault = self._connection.fault
        return not self._runs.parent or (fault is not None and not fault.final)

    def _try_one(self, call: Callable[[], Answer]) -> Answer | None:
        """What `call` returns, which is about one model's run; what is refused here is told by `catch_up`."""

        def own() -> Answer | None:
            with suppress(RunRefusedError):
                return self._runs.of_one(call)
            return None

        return self._try(own)

    def _try(self, call: Callable[[], Answer]) -> Answer | None:
        def sure() -> Answer:
            self._runs.be_sure()
            return call()

        return self._connection.attempt(sure)

    def _address(self, model: Model) -> str:
        root = self._results.rstrip("/")
        root = root if "://" in root else str(Path(root).resolve())
        return f"{root}/{self._plan.study.name}/weights/{model.id}.{model.key}.npz"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
