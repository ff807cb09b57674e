"""By what each stage's units were made: settings, code and package versions, in one sidecar per stage.

`<root>/.stages/<stage>.json` holds the settings that determine the stage, in full (the units' keys are hashes of
them), and for every combination of versions that stored units of the stage, which units those were.
"""

import importlib.metadata
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sweep import __version__
from sweep.analysis.provenance import code_commit
from sweep.errors import WorkError
from sweep.plan import Plan
from sweep.stages import STAGES
from sweep.storage.sealing import BrokenSeal
from sweep.storage.store import Store, Unit

FOLDER = ".stages"
PACKAGES = ("tensorflow", "keras", "numpy", "pillow")
"""Packages whose version can change a number in a table."""


@dataclass(frozen=True)
class Versions:
    """What computes: two runs with the same versions give the same rows on the same kind of machine."""

    code: str
    """Version of this package, with the commit where it runs from a git checkout."""
    python: str
    packages: dict[str, str]


UNKNOWN = Versions(code="unknown", python="unknown", packages={})
"""What stands for the versions in a sidecar that had to be written again."""


@dataclass
class Batch:
    """Units that one combination of versions stored."""

    versions: Versions
    first: str
    """When the first of them was begun, ISO 8601, UTC."""
    units: list[str] = field(default_factory=list)
    """Their keys."""


@dataclass
class Sidecar:
    """The sidecar of a stage."""

    stage: str
    settings: dict[str, Any]
    """Everything that determines the stage's rows."""
    made_by: list[Batch]


_SIDECAR = TypeAdapter(Sidecar)


def versions() -> Versions:
    """The versions that compute now."""
    return Versions(
        code=_code(),
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def settings(plan: Plan, stage: str) -> dict[str, Any]:
    """Everything that determines the rows of `stage`: its own settings and those of the stages it is made from."""
    earlier: dict[str, Any] = {}
    for source in STAGES[stage].made_from:
        earlier |= settings(plan, source)
    return earlier | dict(STAGES[stage].settings(plan))


def begin_stage(store: Store, plan: Plan, stage: str, missing: Sequence[Unit], now: Versions) -> None:
    """Note that the `missing` units of `stage` are made by these versions from now on.

    A unit that may take rows over from stored relatives is noted under the versions that made those as well.
    """
    if not missing:
        return
    keys = {unit.key for unit in missing}
    batches = [batch for batch in _batches(store, stage) if set(batch.units) - keys]
    related = store.relatives(missing) if STAGES[stage].in_parts else {}
    relatives = {unit.key: {path.rsplit(".", 2)[1] for path in paths} for unit, paths in related.items()}
    for batch in batches:
        known = set(batch.units)
        batch.units = sorted((known - keys) | {key for key, found in relatives.items() if found & known})
    own = next((batch for batch in batches if batch.versions == now), None)
    if own is None:
        own = Batch(now, datetime.now(UTC).isoformat(timespec="seconds"))
        batches.append(own)
    own.units = sorted({*own.units, *keys})
    sidecar = Sidecar(stage, settings(plan, stage), batches)
    store.write_json(f"{FOLDER}/{stage}.json", _SIDECAR.dump_json(sidecar, indent=1))


def restore_sidecars(store: Store, plan: Plan) -> None:
    """Write the sidecars again that are gone or damaged; by what their units were made is not known any more."""
    for stage in STAGES:
        if not _batches(store, stage):
            units = STAGES[stage].units(plan)
            absent = set(store.missing(units))
            begin_stage(store, plan, stage, [unit for unit in units if unit not in absent], UNKNOWN)


def drift(store: Store, plan: Plan, missing: Collection[Unit]) -> list[str]:
    """One line per stage that has units stored by other versions than compute now."""
    now, absent = versions(), set(missing)
    lines = []
    for stage in STAGES:
        stored = {unit.key for unit in STAGES[stage].units(plan) if unit not in absent}
        for batch in _batches(store, stage):
            units = stored & set(batch.units)
            if units and batch.versions != now:
                lines.append(
                    f"{stage}: {len(units):,} of {len(stored):,} units were stored by {_difference(batch.versions, now)}; "
                    f"`sweep run {plan.path} --refresh {stage}` makes them again"
                )
    return lines


def _difference(then: Versions, now: Versions) -> str:
    if then == UNKNOWN:
        return f"versions that {FOLDER} does not tell any more"
    changes = [
        f"{name} {version}" for name, version in then.packages.items() if now.packages.get(name) != version
    ]
    if then.python != now.python:
        changes.append(f"Python {then.python}")
    if then.code != now.code:
        changes.append(f"sweep {then.code}")
    current = {**now.packages, "Python": now.python, "sweep": now.code}
    return ", ".join(f"{change} (now {current.get(change.split()[0], 'absent')})" for change in changes)


def _batches(store: Store, stage: str) -> list[Batch]:
    name = f"{stage}.json"
    if name not in store.files.names(FOLDER):
        return []
    try:
        return _SIDECAR.validate_json(store.read_json(f"{FOLDER}/{name}")).made_by
    except (ValidationError, WorkError, BrokenSeal):
        return []  # damaged, or of another version of this package: then nothing is known


def _code() -> str:
    commit = code_commit()
    return __version__ if commit is None else f"{__version__} ({commit})"
