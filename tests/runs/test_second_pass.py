"""Work whose input was lost with a node is asked for once more; what failed otherwise is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.exceptions import ActorUnavailableError
from rich.console import Console

from sweep.actors.cluster import share_context
from sweep.actors.nodes import ATTEMPTS
from sweep.actors.pool import WorkerPool
from sweep.errors import WorkError
from sweep.numerics.readout import Readout
from sweep.plan import make_plan
from sweep.runs import pipeline
from sweep.runs.interrupt import Interrupts
from sweep.runs.run import Run, hold
from sweep.runs.sidecars import versions
from sweep.stages import STAGES, predictions
from sweep.storage.store import Store, Unit
from sweep.terminal.progress import Display
from sweep.tracking import Tracker
from tests.actors.test_pool import Worker
from tests.report.simulated import readout, simulate
from tests.studies import SmallStudy

pytestmark = pytest.mark.chaos

LOST, BROKEN = "first-identity-s1", "second-gender-s1"


class ForgetfulStore(Store):
    """Cannot be asked for the weights of LOST the first time, for want of another process; never has those of BROKEN.

    Each time either is asked for adds its first letter to the file `reads`.
    """

    def read_weights(self, unit: Unit) -> bytes:
        # As many features as simulated ones have.
        content = readout(unit.label, Readout.from_bytes(super().read_weights(unit)).bias.size, features=1)
        if unit.label not in (LOST, BROKEN):
            return content
        reads = Path(self.root).parent / "reads"
        with reads.open("a") as file:
            file.write(unit.label[0])
        if unit.label == BROKEN:
            raise WorkError("broken")
        if reads.read_text().count(LOST[0]) == 1:
            raise ActorUnavailableError("its node is gone", None)
        return content


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("sweep.actors.seats.Worker", Worker)
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


def test_what_lost_its_input_is_tried_again_and_what_failed_stays_failed(
    small_study: SmallStudy, tmp_path: Path
) -> None:
    plan, store = make_plan(small_study.path), ForgetfulStore(str(tmp_path / "root"))
    simulate(plan, store)
    wanted = STAGES["predictions"].units(plan)
    store.set_aside((unit.path for unit in wanted), ".elsewhere")
    display, interrupts = Display(Console(quiet=True)), Interrupts(lambda _: None)
    lease = hold(plan, store, display, interrupts)
    run = Run(plan, store, Tracker(plan, str(tmp_path)), display, lease, interrupts, versions())
    with WorkerPool(share_context(plan, {}, store)) as pool:
        pipeline._stage(run, pool, "predictions")
    (failure,) = run.failures
    assert failure.units == (predictions.units(plan)[BROKEN].path,)
    assert f"broken (tried {ATTEMPTS} times)" in failure.reason
    assert store.missing(wanted) == [predictions.units(plan)[BROKEN]]
    assert sorted((tmp_path / "reads").read_text()) == sorted(2 * LOST[0] + ATTEMPTS * BROKEN[0])
    assert run._done == len(wanted) - 1
