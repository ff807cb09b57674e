"""The state of a study's results beyond how much is there: who runs it, what failed, what is damaged or outdated."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sweep.failures import recorded
from sweep.lease import is_alive, read_holder
from sweep.plan import STAGES, Plan
from sweep.sidecars import drift
from sweep.store import DAMAGED, Store, Unit

READERS = 8
"""Files that are verified at once: an object store answers slowly, and hashing leaves the interpreter free."""


def notes(plan: Plan, store: Store) -> Iterator[str]:
    """What there is to say about a study's results, a line each."""
    holder = read_holder(store.files)
    if holder is not None and is_alive(store.files, holder):
        doing = f": {holder.stage} {holder.done:,}/{holder.total:,}" if holder.stage else ""
        yield f"running: {holder}{doing}"
    missing = [unit for stage in STAGES for unit in store.missing(plan.units(stage))]
    for failure in recorded(store, missing):
        yield f"failed: {failure} ({failure.when})"
    yield from drift(store, plan, missing)


def set_damaged_aside(plan: Plan, store: Store) -> list[str]:
    """Verify every stored file of the study; set those aside that are damaged, and return a line for each."""
    stored = [unit for stage in STAGES for unit in _stored(plan, store, stage)]
    with ThreadPoolExecutor(READERS) as readers:
        damaged = [
            (unit, problem)
            for unit, problem in zip(stored, readers.map(store.damage, stored), strict=True)
            if problem
        ]
    store.set_aside((unit for unit, _ in damaged), DAMAGED)
    return [f"{store.root}/{unit.path} {problem}" for unit, problem in damaged]


def _stored(plan: Plan, store: Store, stage: str) -> list[Unit]:
    units = plan.units(stage)
    absent = set(store.missing(units))
    return [unit for unit in units if unit not in absent]
