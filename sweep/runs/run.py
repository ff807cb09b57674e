"""One run of a study: where it stands, what went wrong so far, and its hold on the results root."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweep.errors import LostError, Stopped, StoreError
from sweep.plan import Gaps, Plan
from sweep.runs.failures import FOLDER, FailedWork
from sweep.runs.holder import Holder
from sweep.runs.interrupt import Interrupts
from sweep.runs.lease import Action, Lease
from sweep.runs.sidecars import Versions, begin_stage
from sweep.stages import STAGES, made_from, with_gaps
from sweep.storage.files import PATIENCE
from sweep.storage.store import DAMAGED, Store, Unit
from sweep.terminal.progress import Display
from sweep.tracking import Tracker

SHOWN = 10
"""Failures that are listed at the end of a run; all are recorded."""


@dataclass
class Run:
    """One run of a study: what it needs at every stage, and what went wrong so far."""

    plan: Plan
    """With the gaps that failed work has left so far: no later stage waits for what is not to be had."""
    store: Store
    tracker: Tracker
    display: Display
    lease: Lease
    interrupts: Interrupts
    versions: Versions
    failures: list[FailedWork] = field(default_factory=list)
    _stage: str = ""
    _done: int = 0
    _total: int = 0

    def missing(self, stage: str) -> list[Unit]:
        """Units of `stage` that are to be made now; begins the stage on the display and in its sidecar."""
        units = STAGES[stage].units(self.plan)
        missing = self.store.missing(units)
        self._stage, self._done, self._total = stage, len(units) - len(missing), len(units)
        self.display.stage(stage, self._total, self._done)
        self.advance(0)
        begin_stage(self.store, self.plan, stage, missing, self.versions)
        return missing

    def advance(self, units: int) -> None:
        """Count `units` more as stored."""
        self._done += units
        if units:
            self.display.advance(units)
        self.lease.progress(self._stage, self._done, self._total)

    def finish(self, failures: Sequence[FailedWork] = ()) -> None:
        """End the stage; what it failed to make is left out of the later stages."""
        self.failures += failures
        if failures:
            self.plan = with_gaps(self.plan, self.store.missing(STAGES[self._stage].units(self.plan)))
        self.display.finish()

    def begin(self) -> None:
        """Forget what an earlier pass over the stages has left undone."""
        self.failures.clear()
        self.plan = self.plan.without(Gaps())

    def damaged_inputs(self) -> bool:
        """Whether work failed because of stored files that are damaged; they are set aside, so count as missing."""
        failed = {path for failure in self.failures for path in failure.units}
        # Around gaps there are units that the whole plan does not have, and the other way round.
        plans = (self.plan, self.plan.without(Gaps()))
        inputs = {unit for plan in plans for unit in made_from(plan, failed)}
        # What a worker found to be damaged is set aside by now: it counts, unless making it is what failed.
        damaged = [unit for unit in inputs if unit.path not in failed and self.store.damage(unit)]
        self.store.set_aside((unit.path for unit in damaged), DAMAGED)
        return bool(damaged)

    def waiting(self) -> dict[str, int]:
        """How many units of each stage were not tried, as they are made from what failed."""
        whole = self.plan.without(Gaps())
        counts = {
            name: len(stage.units(whole)) - len(stage.units(self.plan)) for name, stage in STAGES.items()
        }
        return {name: count for name, count in counts.items() if count}

    def outcome(self) -> list[str]:
        """What to tell about work that failed, and about work that was not tried because of it."""
        shown = [str(failure) for failure in self.failures[:SHOWN]]
        if len(self.failures) > SHOWN:
            shown.append(f"... and {len(self.failures) - SHOWN} more")
        waiting = [f"{count:,} of {stage}" for stage, count in self.waiting().items()]
        if waiting:
            shown.append(f"not tried, as they are made from what failed: {', '.join(waiting)} (units)")
        where = f"{self.store.root}/{FOLDER}/"
        return [
            *shown,
            f"Run the same command again to retry what failed; the rest is stored. Errors: {where}",
        ]


def hold(plan: Plan, store: Store, display: Display, interrupts: Interrupts) -> Lease:
    """The study's lease, whose thread passes on what other terminals and the store have to say."""
    refusing_since: list[float] = []

    def on_action(action: Action) -> None:
        interrupts.ask(Stopped(f"stopped by `sweep {action}`"), drop=action == "cancel")

    def on_loss(holder: Holder | None) -> None:
        by = f"{holder} has taken over" if holder else "its lease was removed"
        interrupts.ask(
            LostError(f"{plan.path}: this run was silent for too long, and {by}; it ends"), drop=True
        )

    def on_trouble(reason: str | None) -> None:
        if reason is None:
            display.say(f"{store.root} answers again")
            refusing_since.clear()
        elif not refusing_since:
            display.say(f"{reason} (waiting for up to {PATIENCE:.0f} s)")
            refusing_since.append(time.monotonic())
        elif time.monotonic() - refusing_since[0] > PATIENCE:
            interrupts.ask(StoreError(reason))
            refusing_since[0] = math.inf  # once: a second time would drop what is in flight

    return Lease(store.files, str(plan.path), on_action, on_loss, on_trouble)
