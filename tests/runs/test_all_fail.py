"""Runs of which little or nothing is left: what failed is told, and a report is written only where there is something in it."""

from pathlib import Path

import pytest

from tests.chaos.harness import Fault, run
from tests.studies import write_small_study

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(("match", "left"), [("models/", False), ("models/(second|first-identity-s2)", True)])
def test_endings_of_runs_in_which_nearly_all_models_fail(tmp_path: Path, match: str, left: bool) -> None:
    study = write_small_study(tmp_path)
    study = study.changed(factors={"task": ["identity"]})
    told = run(study, code=1, faults=[Fault(match, "poison", tmp_path / "met", times=99)])
    assert "sweep: finetune: second-identity-s1 (2 units): RuntimeError: poisoned" in told
    assert "Run the same command again to retry what failed" in told
    page = study.path.parent / "results" / "small" / "report" / "index.html"
    assert page.exists() == left
    if left:
        assert "3 of 4 models are not there" in page.read_text()
    else:
        assert "small has nothing to report yet" in " ".join(told.split())
