"""The time left of a whole study, while one is done at a known pace."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sweep.plan import make_plan
from sweep.runs.speed import REPORT_SECONDS, TUNE_SECONDS, forecast
from sweep.stages import all_units
from sweep.storage.store import Unit
from sweep.terminal import progress
from sweep.terminal.forecast import Forecast
from sweep.terminal.progress import Display
from tests.studies import SmallStudy

EXPECTED = {"images": 0.0, "features": 10.0, "finetune": 40.0, "relevance": 100.0, "masking": 350.0}


@given(
    pace=st.floats(0.1, 20),
    position=st.integers(1, 4),
    share=st.floats(0.01, 1),
    measured=st.booleans(),
)
def test_at_a_steady_pace_the_time_left_is_exact(
    pace: float, position: int, share: float, measured: bool
) -> None:
    names = list(EXPECTED)
    stage = names[position]
    spent = {name: pace * EXPECTED[name] for name in names[:position] if EXPECTED[name]}
    left = Forecast(EXPECTED, measured).left(spent, stage, share, pace * EXPECTED[stage] * share)
    rest = EXPECTED[stage] * (1 - share) + sum(EXPECTED[name] for name in names[position + 1 :])
    assert left == pytest.approx(pace * rest)


@given(pace=st.floats(0.1, 20), share=st.floats(0.01, 1), start=st.floats(0, 8))
def test_the_start_of_workers_is_not_taken_for_the_pace_of_their_work(
    pace: float, share: float, start: float
) -> None:
    forecast = Forecast(EXPECTED, measured=False, starts={"features": start})
    elapsed = pace * (start + (EXPECTED["features"] - start) * share)
    left = forecast.left({}, "features", share, elapsed)
    assert left == pytest.approx(pace * ((EXPECTED["features"] - start) * (1 - share) + 490))


def test_before_anything_is_done_only_a_measurement_says_something() -> None:
    assert Forecast(EXPECTED, measured=True).left({}, "features", 0, 3) == pytest.approx(500)
    assert Forecast(EXPECTED, measured=False).left({}, "features", 0, 3) is None
    # One finished stage that took twice as long as expected.
    assert Forecast(EXPECTED, measured=False).left({"features": 20}, "finetune", 0, 3) == pytest.approx(980)


def test_a_stage_that_is_slower_than_the_others_counts_more_the_further_it_is() -> None:
    forecast, spent = (
        Forecast(EXPECTED, measured=True),
        {"features": 10.0, "finetune": 40.0, "relevance": 100.0},
    )
    # Masking takes three times as long as expected: 1050 s in all.
    lefts = [forecast.left(spent, "masking", share, 1050 * share) for share in (0.01, 0.1, 0.5, 0.9)]
    truth = [1050 * (1 - share) for share in (0.01, 0.1, 0.5, 0.9)]
    errors = [abs(left / true - 1) for left, true in zip(lefts, truth, strict=True) if left is not None]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    assert forecast.left(spent, "masking", 1, 1050) == 0


def test_a_stage_that_was_expected_to_have_no_work_is_no_obstacle() -> None:
    forecast = Forecast(EXPECTED, measured=False)
    assert forecast.left({}, "images", 0.5, 1) is None
    assert forecast.left({"images": 4}, "features", 0.5, 5) == pytest.approx(5 + 490)


def test_the_display_shows_it_beside_the_stages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    output = io.StringIO()
    with Display(Console(file=output, width=200)) as display:
        display.forecast = Forecast({"features": 10.0, "masking": 100.0}, measured=False)
        display.stage("features", 10, 0)
        now[0] = 20.0
        display.advance(5)
        now[0] = 40.0
        display.advance(5)
        display.finish()
        display.stage("masking", 100, 0)
        now[0] = 240.0
        display.advance(50)
    lines = output.getvalue().splitlines()
    assert "features: 5/10, 0.2/s, 0:20 left, study 7:00 left" in lines
    assert "masking: 50/100, 0.2/s, 3:20 left, study 3:20 left" in lines


def test_workers_start_once_on_one_machine_and_again_around_trials_on_a_cluster(
    small_study: SmallStudy,
) -> None:
    plan = make_plan(small_study.path)
    networks, missing = plan.load_networks(), all_units(plan)

    def starts(missing: Sequence[Unit], joined: bool) -> dict[str, float]:
        found = forecast(plan, networks, missing, str(small_study.path.parent), joined).starts
        return {name: seconds for name, seconds in found.items() if seconds}

    assert starts(missing, joined=True) == {"features": 10, "finetune": 10, "predictions": 10}
    assert starts(missing, joined=False) == {"features": 10, "finetune": TUNE_SECONDS}
    later = [unit for unit in missing if unit.table in ("relevance", "masked")]
    assert starts(later, joined=False) == {"relevance": 10}


def test_the_report_is_part_of_the_time_left(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.path)
    expected = forecast(plan, plan.load_networks(), [], str(small_study.path.parent), joined=True).expected
    assert {name: seconds for name, seconds in expected.items() if seconds} == {"report": REPORT_SECONDS}
    assert list(expected)[-1] == "report"
