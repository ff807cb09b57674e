"""A study of generated faces whose predictions are simulated, so that conditions have choices without any network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweep.plan import Plan, make_plan
from sweep.stages.filenames import store_of
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import write_faces, write_small_study

CONDITIONS = ("first-identity", "second-identity")


@dataclass(frozen=True)
class Simulated:
    """A stored study, and where it lies."""

    path: Path
    results: Path
    plan: Plan
    store: Store

    @property
    def arguments(self) -> Sequence[str | Path]:
        """What commands need to find it."""
        return self.path, "--results", self.results


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Two pretrainings, two tasks, three seeds, twelve people from three sides."""
    folder = tmp_path_factory.mktemp("human")
    small = write_small_study(folder)
    write_faces(folder / "people", identities=12, views=3)
    small = small.changed(
        dataset={"source": "manifest:people/manifest.csv"},
        factors={"seed": [1, 2, 3]},
        masking={"percents": [1, 10]},
    )
    plan = make_plan(small.path)
    store = store_of(plan, str(folder / "results"))
    simulate(plan, store)
    (folder / "results" / "small" / "study.yaml").write_bytes(plan.source)
    return Simulated(small.path, folder / "results", plan, store)
