"""The actors that rank pixels: the same ranks as by hand, after the loss of one, and beside maps that kill one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from sweep.actors.ranks import RETRIES, Rankers
from sweep.numerics.masking import Ranking, random_ranks, removal_ranks
from sweep.storage.store import Store
from tests.actors.maps import store_maps
from tests.chaos.harness import kill, named, wait_until
from tests.chaos.lethal import LethalStore

MAPS = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


def processes() -> list[int]:
    return named(os.getpid(), "ray::_Ranker")


def test_ranks_are_those_made_by_hand_also_after_a_ranker_was_killed(tmp_path: Path) -> None:
    store, rankers = Store(str(tmp_path)), Rankers()
    unit, twice = store_maps(store, "first", MAPS), np.concatenate([MAPS, MAPS])
    for _ in range(2):
        refs: list[Any] = [
            rankers.of_maps(store, [unit, unit], Ranking("least")),
            rankers.of_random("random-2", "scattered", ["x", "y"], 4),
        ]
        of_maps, of_random = ray.get(refs)
        np.testing.assert_array_equal(of_maps, removal_ranks(twice, "least"))
        np.testing.assert_array_equal(of_random, random_ranks("random-2", ("x", "y"), 16))
        (process,) = processes()
        kill(process)
        assert wait_until(lambda gone=process: gone not in processes(), 20)


def test_maps_that_kill_a_ranker_are_given_up_and_the_others_are_ranked(tmp_path: Path) -> None:
    store, rankers = LethalStore(str(tmp_path)), Rankers()
    good, poisoned = store_maps(store, "good", MAPS), store_maps(store, "poisoned", MAPS)
    bad = rankers.of_maps(store, [poisoned], Ranking("absolute"))
    with pytest.raises(ray.exceptions.RayError):
        ray.get(bad)
    # A try that is sent to the dead process before Ray hears of its end is one of the retries too.
    assert 1 <= len((tmp_path / "deaths").read_text()) <= 1 + RETRIES
    after: Any = rankers.of_maps(store, [good], Ranking("absolute"))
    np.testing.assert_array_equal(ray.get(after), removal_ranks(MAPS, "absolute"))


def test_rankers_end_with_the_stage(tmp_path: Path) -> None:
    # What was killed above may have started again just before it was let go.
    before, rankers = set(processes()), Rankers()
    last: Any = rankers.of_random("random-1", "scattered", ["x"], 4)
    del rankers
    assert ray.get(last).shape == (1, 16)
    del last  # as long as it could get lost, Ray keeps what could make it again
    assert wait_until(lambda: set(processes()) <= before, 20)
