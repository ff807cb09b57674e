"""The state of a study's results beyond how much is there: who runs it, what failed, what is damaged or outdated."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sweep.human.tables import damage_of, path_of, tables_of
from sweep.plan import Plan
from sweep.runs import failures, sidecars
from sweep.runs.holder import is_alive, read_holder
from sweep.stages import all_units
from sweep.storage.checksums import damaged_files
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import DAMAGED, Store

READERS = 8
"""Files that are verified at once: an object store answers slowly, and hashing leaves the interpreter free."""


def notes(plan: Plan, store: Store) -> Iterator[str]:
    """What there is to say about a study's results, a line each."""
    holder = read_holder(store.files)
    if holder is not None and is_alive(store.files, holder):
        doing = f": {holder.stage} {holder.done:,}/{holder.total:,}" if holder.stage else ""
        yield f"running: {holder}{doing}"
    missing = store.missing(all_units(plan))
    for failure in failures.recorded(store, missing):
        yield f"failed: {failure} ({failure.when})"
    yield from sidecars.drift(store, plan, missing)


def set_damaged_aside(plan: Plan, store: Store) -> list[str]:
    """Verify every file under the results root; set those aside that are damaged, and return a line for each."""
    checks = list(_checks(plan, store))
    with ThreadPoolExecutor(READERS) as readers:
        problems = list(readers.map(lambda check: check[1](), checks))
    damaged = [(path, problem) for (path, _), problem in zip(checks, problems, strict=True) if problem]
    damaged += damaged_files(store)
    store.set_aside((path for path, _ in damaged), DAMAGED)
    return [f"{store.root}/{path} {problem}" for path, problem in damaged]


def _checks(plan: Plan, store: Store) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Every file that carries its own checksum, and what verifies it."""
    units = all_units(plan)
    absent = set(store.missing(units))
    for unit in units:
        if unit not in absent:
            yield unit.path, partial(store.damage, unit)
    for table in SCHEMAS:
        own = [unit for unit in units if unit.table == table]
        for path in store.others(table, own):
            yield path, partial(store.damage_at, path)
    for experiment, table in tables_of(store.files):
        yield path_of(experiment, table), partial(damage_of, store.files, experiment, table)
    for folder in (sidecars.FOLDER, failures.FOLDER):
        for name in store.files.names(folder):
            yield f"{folder}/{name}", partial(store.damage_at, f"{folder}/{name}")
