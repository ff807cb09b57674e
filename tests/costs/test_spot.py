"""Interruptions: the simulation beside a closed form, and beside one that goes from second to second and from piece to piece."""

from math import exp

import numpy as np
import pytest

from sweep.costs.spot import Fleet, StageWork, simulate
from sweep.keys import generator


def second_by_second(stages: list[StageWork], fleet: Fleet, draws: np.random.Generator, tick: float) -> float:
    """The twin: machines that wait, work at a piece, or lose it."""
    waits = [fleet.start] * fleet.machines
    now = 0.0
    for stage in stages:
        pieces = round(stage.work / stage.piece)
        left = [0.0] * fleet.machines
        """Seconds that each machine's piece takes still; 0 where it has none."""
        while pieces or any(left):
            now += tick
            for machine in range(fleet.machines):
                if waits[machine] > 0:
                    waits[machine] = max(0.0, waits[machine] - tick)
                elif draws.random() < fleet.rate * tick:
                    waits[machine] = fleet.start
                    pieces += left[machine] > 0
                    left[machine] = 0.0
                else:
                    if not left[machine] and pieces:
                        pieces -= 1
                        left[machine] = stage.piece
                    left[machine] = max(0.0, left[machine] - tick)
    return now


def mean_of(stages: list[StageWork], fleet: Fleet, runs: int) -> float:
    return float(np.mean([simulate(stages, fleet, generator("fast", run))[0] for run in range(runs)]))


def test_without_interruptions_it_is_a_division() -> None:
    stages = [StageWork(1200, 10), StageWork(300, 1)]
    for machines in (1, 3):
        seconds, taken = simulate(stages, Fleet(machines, 60, 0.0), generator("none"))
        assert seconds == pytest.approx(60 + 1500 / machines)
        assert taken == 0


def test_one_machine_takes_as_long_as_the_formula_says() -> None:
    """A piece takes (1 / rate + start) (exp(rate piece) - 1) on average where each interruption begins it again."""
    rate, piece, start = 1 / 500, 20.0, 100.0
    expected = start + 100 * (1 / rate + start) * (exp(rate * piece) - 1)
    found = mean_of([StageWork(100 * piece, piece)], Fleet(1, start, rate), 2000)
    assert found == pytest.approx(expected, rel=0.02)


def test_several_machines_take_as_long_as_piece_by_piece() -> None:
    stages = [StageWork(60 * 40, 40), StageWork(300 * 4, 4)]
    fleet = Fleet(3, 120, 1 / 600)
    slow = np.mean([second_by_second(stages, fleet, generator("slow", run), 1.0) for run in range(150)])
    # Pieces that do not divide evenly, and a last one that others wait for, are what the fast one leaves out.
    assert mean_of(stages, fleet, 2000) == pytest.approx(slow, rel=0.05)


def test_more_interruptions_take_longer_and_the_same_draws_the_same_time() -> None:
    stages = [StageWork(20_000, 30)]
    means = [mean_of(stages, Fleet(4, 300, per_hour / 3600), 200) for per_hour in (0.0, 0.2, 1.0, 4.0)]
    assert means == sorted(means)
    assert len(set(means)) == 4
    fleet = Fleet(4, 300, 1 / 3600)
    assert simulate(stages, fleet, generator(1)) == simulate(stages, fleet, generator(1))


def test_work_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="taken back faster"):
        simulate([StageWork(1e6, 1e4)], Fleet(1, 60, 1 / 10), generator("hopeless"))
