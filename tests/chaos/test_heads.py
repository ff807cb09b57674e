"""A run dies in the middle of a long training: the next one goes on from the checkpoint, and ends with the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from sweep.plan import make_plan
from sweep.stages import finetune
from sweep.stages.checkpoint import FOLDER
from sweep.storage.store import Store
from tests.chaos.harness import RUN_SECONDS, assert_whole, contents, kill, run, running, wait_until
from tests.studies import SmallStudy, write_small_study

EPOCHS = 1500


def long_study(folder: Path) -> SmallStudy:
    """Two models, of which the last block and two dense layers are trained for half a minute each."""
    folder.mkdir()
    return write_small_study(folder).changed(
        factors={"pretraining": {"first": "npz:first.npz"}, "task": ["identity"]},
        finetune={"epochs": EPOCHS, "from": "block5_conv1", "hidden": [16], "learning_rate": 0.0001},
    )


def epochs_of(checkpoints: Path) -> dict[str, int]:
    """Epochs that each checkpoint holds."""
    found = {}
    for path in checkpoints.glob("*.npz"):
        try:
            with np.load(path, allow_pickle=False) as file:
                found[path.name] = len(json.loads(str(file["epochs"])))
        except (OSError, KeyError, ValueError, EOFError):  # gone, as its model is stored
            continue
    return found


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_head_goes_on_from_its_checkpoint_after_a_kill(tmp_path: Path) -> None:
    calm, study = long_study(tmp_path / "calm"), long_study(tmp_path / "study")
    run(calm)
    root = study.path.parent / "results" / "small"
    with running(study) as process:
        assert wait_until(lambda: bool(epochs_of(root / FOLDER)), RUN_SECONDS)
        kill(process.pid)
    before = epochs_of(root / FOLDER)
    assert before
    with running(study) as process:
        later: dict[str, int] = {}

        def is_later() -> bool:
            now = epochs_of(root / FOLDER)
            later.update({name: count for name, count in now.items() if count != before.get(name)})
            return bool(later) or process.poll() is not None

        assert wait_until(is_later, RUN_SECONDS)
        process.wait(RUN_SECONDS)
    for name, count in later.items():
        assert count > before.get(name, 0)
    plan = make_plan(study.path)
    store = Store(str(root))
    for unit in finetune.model_units(plan).values():
        (model,) = store.read([unit]).to_pylist()
        assert model["epochs"] == EPOCHS
    assert not list((root / FOLDER).glob("*"))
    assert_whole(plan, root)
    assert contents(root) == contents(calm.path.parent / "results" / "small")
