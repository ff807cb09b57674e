"""What a stage is: a handful of functions on a plan, and the pieces of work that its missing units come to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from sweep.numerics.masking import Ranking
from sweep.plan import Plan
from sweep.stages.cost import Size, StageCost
from sweep.stages.loaded import Loaded
from sweep.storage.store import Parts, Store, Unit

_Result = TypeVar("_Result")

Rows = Mapping[str, Any]
"""Rows of a table, by column."""


@dataclass(frozen=True)
class UnitRows:
    """The rows of one unit, as a worker has computed them."""

    unit: Unit
    rows: Rows | pa.Table
    parts: Parts | None = None
    """The parts that the rows consist of, where a later unit may take some of them over."""


class Piece(Protocol):
    """What one worker does in one call; plain values, small enough to send by the thousand."""

    @property
    def units(self) -> Sequence[Unit]:
        """The units that it writes."""
        ...

    def compute(self, loaded: Loaded) -> Iterator[UnitRows]:
        """Compute the units with what the worker has loaded."""
        ...


class Ranker(Protocol):
    """Ranks the pixels of a source's masks once, for all workers; gives references that `Loaded.get` resolves."""

    def of_maps(self, store: Store, maps: Sequence[Unit], ranking: Ranking) -> Any:
        """Ranks int32 (image, pixel) made from the stored maps of one source."""
        ...

    def of_random(self, mask: str, control: str, image_keys: Sequence[str], size: int) -> Any:
        """Ranks of a random order of the pixels, or of blocks of pixels, of images of `size` pixels a side."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage of a study."""

    name: str
    tables: tuple[str, ...]
    """The tables that it writes; their columns are in `sweep.storage.schemas`."""
    made_from: tuple[str, ...]
    """The stages whose units it reads."""
    units: Callable[[Plan], list[Unit]]
    """Every unit that it writes, without those that need something that the plan's `gaps` name."""
    inputs: Callable[[Plan], Iterator[tuple[Unit, tuple[Unit, ...]]]]
    """Every unit, with the units that it is made from."""
    settings: Callable[[Plan], Mapping[str, Any]]
    """The settings of its own that determine its rows, for the record of the stage."""
    cost: Callable[[Size], StageCost]
    """What it takes, by arithmetic."""
    pieces: Callable[[Plan, Store, set[Unit], Ranker], Iterator[Piece]] | None = None
    """Pieces of work for the missing units; None where the run does the work itself or Ray Tune schedules it."""
    in_parts: bool = False
    """Whether its units consist of parts, which a unit takes over from stored ones of the same name."""


def once_per_plan(function: Callable[[Plan], _Result]) -> Callable[[Plan], _Result]:
    """Compute a function of a plan once for each plan: units are asked for by every stage and every reader."""

    @wraps(function)
    def remembered(plan: Plan) -> _Result:
        if function not in plan.derived:
            plan.derived[function] = function(plan)
        result: _Result = plan.derived[function]
        return result

    return remembered


def no_inputs(
    units: Callable[[Plan], list[Unit]],
) -> Callable[[Plan], Iterator[tuple[Unit, tuple[Unit, ...]]]]:
    """The inputs of a stage that reads no stored unit."""
    return lambda plan: ((unit, ()) for unit in units(plan))


def chunked(positions: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Positions in groups of `size`; the last may be smaller."""
    return [tuple(positions[start : start + size]) for start in range(0, len(positions), size)]
