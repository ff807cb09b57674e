"""What people are shown: the right choices, sides that balance, and trials that are made once."""

import pandas as pd
import pytest

from sweep.analysis.queries import run_query
from sweep.errors import InputError
from sweep.human.lists import Design
from sweep.human.tables import TRIALS, experiments, read_table
from sweep.human.trials import PRACTICE, Experiment, make_trials
from sweep.stages import index_of_study
from tests.human.conftest import CONDITIONS, Simulated

DESIGN = Design(lists=4, blocks=3, catch=5)


@pytest.fixture(scope="module")
def made(study: Simulated) -> Experiment:
    return make_trials(study.plan, study.store, CONDITIONS, DESIGN)


@pytest.fixture(scope="module")
def rows(made: Experiment) -> pd.DataFrame:
    frame: pd.DataFrame = made.rows.to_pandas()
    return frame


def test_test_trials_are_the_targets_that_divide_the_conditions(study: Simulated, rows: pd.DataFrame) -> None:
    answer = run_query("rank2", study.store.root, index=index_of_study(study.plan)).to_pandas()
    images = study.plan.images.table.to_pandas()
    frontal = answer[answer["image_id"].isin(images.loc[images["view_deg"] == 0, "image_id"])]
    a, b = (
        frontal[frontal["condition"] == name].set_index("target")[["choice", "votes", "n_models", "tied"]]
        for name in CONDITIONS
    )
    both = a.join(b, suffixes=("_a", "_b"))
    differing = both[both["choice_a"] != both["choice_b"]].dropna()
    test = rows[(rows["trial_type"] == "test") & (rows["list"] == 1)].set_index("target")
    assert len(differing) > 5
    assert sorted(test.index) == sorted(differing.index)
    differing = differing.loc[test.index]
    assert (test["option_a"] == differing["choice_a"]).all()
    assert (test["option_b"] == differing["choice_b"]).all()
    assert (test["votes_a"] == differing["votes_a"]).all()
    assert (test["n_models_b"] == differing["n_models_b"]).all()
    assert (test["ambiguous"] == (differing["tied_a"] | differing["tied_b"])).all()


def test_everything_is_shown_from_the_front_but_for_the_right_answers(
    study: Simulated, rows: pd.DataFrame
) -> None:
    images = study.plan.images.table.to_pandas().set_index("image_id")
    for shown, option in [("target_image", "target"), ("image_a", "option_a"), ("image_b", "option_b")]:
        assert (images.loc[rows[shown], "identity"].to_numpy() == rows[option].to_numpy()).all()
        kept = rows[(rows["trial_type"] != "catch") | (shown != "image_a")]
        assert (images.loc[kept[shown], "view_deg"] == 0).all()
    catch = rows[rows["trial_type"] == "catch"]
    assert (catch["expected"] == "a").all()
    assert (catch["option_a"] == catch["target"]).all()
    assert (catch["image_a"] != catch["target_image"]).all()
    assert (images.loc[catch["image_a"], "view_deg"].abs() == 15).all()
    assert (rows[rows["trial_type"] != "catch"]["expected"].isna()).all()


def test_sides_balance_for_every_trial_and_within_every_list(rows: pd.DataFrame) -> None:
    left = rows.assign(left=rows["left"] == "a")
    assert (left.groupby("trial_id")["left"].mean() == 0.5).all()
    test = left[left["trial_type"] == "test"].groupby("list")["left"].agg(["sum", "count"])
    assert ((2 * test["sum"] - test["count"]).abs() <= 1).all()


def test_every_list_has_every_trial_once_in_an_order_of_its_own(rows: pd.DataFrame) -> None:
    orders = set()
    for _, own in rows.groupby("list"):
        ordered = own.sort_values("position")
        assert ordered["position"].tolist() == list(range(1, len(own) + 1))
        assert ordered["trial_id"].is_unique
        assert ordered["block"].is_monotonic_increasing
        assert ordered["trial_type"].tolist()[:PRACTICE] == ["practice"] * PRACTICE
        counts = ordered[ordered["block"] > 0].groupby(["block", "trial_type"]).size().unstack()
        assert len(counts) == DESIGN.blocks
        assert (counts.max() - counts.min() <= 1).all()
        orders.add(tuple(ordered["trial_id"]))
    assert len(orders) == DESIGN.lists
    assert rows["trial_id"].nunique() * DESIGN.lists == len(rows)


def test_trials_are_made_once_and_another_design_is_another_experiment(
    study: Simulated, made: Experiment
) -> None:
    again = make_trials(study.plan, study.store, CONDITIONS, DESIGN)
    assert again.known
    assert again.experiment_id == made.experiment_id
    assert again.rows.equals(made.rows)
    assert read_table(study.store.files, made.experiment_id, TRIALS).equals(made.rows)
    other = make_trials(study.plan, study.store, CONDITIONS, Design(lists=2, blocks=3, catch=5))
    assert {made.experiment_id, other.experiment_id} <= set(experiments(study.store.files))


@pytest.mark.parametrize(
    ("conditions", "design", "expected"),
    [
        (
            ("first-identity", "nobody"),
            DESIGN,
            "is called 'nobody'; there are: first-identity, second-identity",
        ),
        (("first-identity", "first-gender"), DESIGN, "of more than two classes is called 'first-gender'"),
        (("first-identity", "first-identity"), DESIGN, "cannot be compared with itself"),
        (CONDITIONS, Design(lists=3), "--lists 3: sides balance over pairs of lists"),
        (CONDITIONS, Design(blocks=40), "40 blocks need 40 (--blocks)"),
        (CONDITIONS, Design(catch=-1), "--catch -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    study: Simulated, conditions: tuple[str, str], design: Design, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_trials(study.plan, study.store, conditions, design)
    assert expected in str(caught.value)
