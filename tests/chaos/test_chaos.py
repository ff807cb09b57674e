"""Kills at random moments: afterwards the tables are those of a run that nothing disturbed.

How many kills, and which: CHAOS_KILLS (20) and CHAOS_SEED (1). `make chaos` runs the long form.
"""

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sweep.plan import make_plan
from sweep.stages import all_units
from tests.chaos.harness import (
    RUN_SECONDS,
    Fault,
    assert_whole,
    contents,
    kill,
    named,
    run,
    running,
    stored,
    wait_until,
)
from tests.studies import SmallStudy, write_small_study

KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
KINDS = ("rename", "trial", "worker", "ranker", "driver", "node")
TITLES = {
    "trial": r"ray::(\w*Trainable|ReadoutTrial|_Inner)\b",
    "worker": r"ray::Worker\b",
    "ranker": r"ray::_Ranker\b",
}
"""Titles of the processes that compute; Tune wraps the trainable in classes of its own."""
DELAYS = {"trial": 3.0, "worker": 3.0, "ranker": 0.5}
"""For at most how many seconds such a process may live, of those that it lives in so small a study."""


def chaos_study(folder: Path) -> SmallStudy:
    """Four models, so that a run takes as little as it can."""
    folder.mkdir()
    return write_small_study(folder).changed(factors={"task": ["identity"]})


@contextmanager
def nodes(count: int) -> Iterator[tuple[str, Any]]:
    """A cluster of nodes with one CPU each on this machine: its address, and what takes the last node away."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        others = [cluster.add_node(num_cpus=1) for _ in range(count - 1)]
        cluster.wait_for_nodes()
        yield cluster.address, lambda: cluster.remove_node(others[-1], allow_graceful=False)
    finally:
        cluster.shutdown()


@dataclass
class Havoc:
    """Runs of one study, disturbed until all kills have happened."""

    study: SmallStudy
    draws: random.Random
    waiting: list[str]
    """Kinds of the kills still to happen, in order."""
    done: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.plan = make_plan(self.study.path)
        self.root = self.study.path.parent / "results" / "small"
        self.total = len(all_units(self.plan))

    @property
    def finished(self) -> bool:
        return stored(self.root) == self.total

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)

    def struck(self, kind: str) -> None:
        self.waiting.remove(kind)
        self.done.append(kind)
        self.say(f"{kind} killed ({len(self.done)} in all) at {stored(self.root)}/{self.total} units")

    def run(self) -> int:
        """One run, with the next kills: several kinds can strike one run, until one ends it."""
        strikes: list[str] = []
        for kind in self.waiting:
            if kind in strikes:
                break
            strikes.append(kind)
            if kind in ("driver", "node"):
                break
        if "node" in strikes:
            with nodes(2) as (address, remove):
                return self._disturbed([kind for kind in strikes if kind != "rename"], address, remove)
        return self._disturbed(strikes, None, None)

    def _disturbed(self, strikes: list[str], address: str | None, remove: Any) -> int:
        faults = [self._fault()] if "rename" in strikes else []
        arguments = ["--address", address] if address else []
        parent = os.getpid() if address else None
        with running(self.study, *arguments, faults=faults) as process:
            self.say(f"run begins at {stored(self.root)}/{self.total} units; to come: {', '.join(strikes)}")
            threshold = self.draws.randint(min(stored(self.root) + 1, self.total), self.total)
            delay = {kind: self.draws.uniform(0, longest) for kind, longest in DELAYS.items()}
            seen: dict[str, float] = {}
            deadline = time.monotonic() + RUN_SECONDS
            while process.poll() is None:
                assert time.monotonic() < deadline, "a run hangs"
                for kind in list(strikes):
                    if kind == "rename" and faults[0].met:
                        strikes.remove(kind)
                        self.struck(kind)
                    elif kind in TITLES and (targets := named(parent or process.pid, TITLES[kind])):
                        if time.monotonic() - seen.setdefault(kind, time.monotonic()) > delay[kind]:
                            kill(self.draws.choice(targets))
                            strikes.remove(kind)
                            self.struck(kind)
                    elif kind in ("driver", "node") and stored(self.root) >= threshold:
                        strikes.remove(kind)
                        kill(process.pid) if kind == "driver" else remove()
                        self.struck(kind)
                time.sleep(0.1)
        if faults and faults[0].met and "rename" in strikes:
            self.struck("rename")
        return process.returncode

    def _fault(self) -> Fault:
        """The process that stores a random unit dies before it renames the file."""
        present = {path.name for path in self.root.glob("*/*.parquet")}
        unit = self.draws.choice([unit for unit in all_units(self.plan) if unit.name not in present])
        return Fault(
            f"{unit.table}/{unit.label}[.]", "kill", self.study.path.parent / f"met-{len(self.done)}"
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run by two workers that nothing disturbs."""
    quiet = chaos_study(tmp_path_factory.mktemp("undisturbed") / "study")
    run(quiet)
    root = quiet.path.parent / "results" / "small"
    assert_whole(make_plan(quiet.path), root)
    return root


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_one_worker_gives_what_two_give(undisturbed: Path, tmp_path: Path) -> None:
    alone = chaos_study(tmp_path / "alone")
    with nodes(1) as (address, _):
        run(alone, "--address", address)
    assert_same(contents(alone.path.parent / "results" / "small"), contents(undisturbed))


@pytest.mark.chaos
@pytest.mark.timeout(KILLS * 240 + 600)
def test_after_any_kills_the_tables_are_those_of_an_undisturbed_run(
    undisturbed: Path, tmp_path: Path
) -> None:
    expected = contents(undisturbed)
    print(f"\n{KILLS} kills, seed {SEED}", flush=True)
    draws = random.Random(SEED)  # noqa: S311 - moments of kills, no secret
    kinds = [kind for _ in range(-(-KILLS // len(KINDS))) for kind in draws.sample(KINDS, len(KINDS))][:KILLS]
    havoc = Havoc(chaos_study(tmp_path / "disturbed"), draws, kinds)
    log, plan = havoc.study.path.parent / "run.log", havoc.plan
    while True:
        code = havoc.run()
        assert code in (0, 1, -9), f"exit code {code}\n{log.read_text()}"
        assert (code == 0) <= havoc.finished
        assert "Traceback" not in log.read_text()
        if code != 0:
            continue
        assert wait_until(lambda: not (havoc.root / ".lease.json").exists(), 5)
        assert_whole(plan, havoc.root)
        assert_same(contents(havoc.root), expected)
        havoc.say("finished, and equal to the undisturbed run")
        if not havoc.waiting:
            break
        shutil.rmtree(havoc.root)
    assert len(havoc.done) == KILLS
