"""What a study file, its images and its weights rule out together is known before any work."""

import subprocess
import sys
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.plan import make_plan
from sweep.stages import all_units
from sweep.stages.cost import size_of
from tests.studies import SmallStudy


def problems(study: SmallStudy) -> list[str]:
    with pytest.raises(InputError) as caught:
        make_plan(study.path)
    return [line.removeprefix(f"{study.path}: ") for line in caught.value.problems]


def relevance(**settings: Any) -> dict[str, Any]:
    return {"images": {"where": {"view_deg": 0}}, **settings}


def test_a_split_that_holds_nothing_back_is_refused_with_the_share_that_would(
    small_study: SmallStudy,
) -> None:
    (line,) = problems(small_study.changed(dataset={"validation_fraction": 0.01}))
    assert line.startswith("dataset.validation_fraction: 0.01 of 30 images holds none back")
    assert line.endswith("raise it to 0.033 or more")
    plan = make_plan(small_study.changed(dataset={"validation_fraction": 0.034}).path)
    assert plan.images.table["split"].to_pylist().count("validation") == 1


def test_one_backbone_under_two_names_is_no_factor(small_study: SmallStudy) -> None:
    weights = {"first": "npz:first.npz", "second": {"weights": "npz:first.npz", "channel_order": "BGR"}}
    (line,) = problems(small_study.changed(factors={"pretraining": weights}))
    assert line.startswith("factors.pretraining: first and second have the same weights")
    weights["second"] = {"weights": "npz:first.npz", "channel_order": "RGB"}
    assert len(make_plan(small_study.changed(factors={"pretraining": weights}).path).models) == 8


def test_a_factor_and_a_label_share_no_name_and_a_batch_is_no_larger_than_the_training_split(
    small_study: SmallStudy,
) -> None:
    factors = {
        "Hair": {"short": {"epochs": 2}, "long": {"epochs": 3}},
        "batch": {"whole": {"batch_size": 24}, "larger": {"batch_size": 25}},
    }
    named, same = problems(small_study.changed(factors=factors))
    assert named == "factors.Hair: the images have a label of that name; rename the factor"
    assert same.startswith(
        "factors.batch: the levels whole and larger come to the same settings with 24 training"
    )


def test_problems_of_images_tasks_weights_and_composite_are_told_together(small_study: SmallStudy) -> None:
    study = small_study.changed(
        dataset={"validation_fraction": 0.01},
        factors={
            "pretraining": {"first": "npz:none.npz", "second": "random:x"},
            "task": ["age", "size", "identity"],
        },
        relevance=relevance(composite="preset_c", images={"where": {"view_deg": 7, "identity": "nobody"}}),
    )
    found = problems(study)
    assert [line.split(":")[0] for line in found] == [
        "factors.pretraining.first",
        "factors.pretraining.second",
        "dataset.validation_fraction",
        "factors.task",
        "factors.task",
        "relevance.images.where.view_deg",
        "relevance.images.where.identity",
        "relevance.composite",
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"composite": {"preset": "preset_a", "names": {"block9_conv1": "flat"}}},
            "no layer with a rule is named",
        ),
        (
            {"composite": {"preset": "preset_a", "positions": {14: "flat"}}},
            "position 14 is outside the 14 layers",
        ),
        (
            {"composite": {"preset": "preset_a", "positions": {0: "flat", -14: "z"}}},
            "0 and -14 are the same layer",
        ),
        ({"composite": {"kinds": {"conv": "flat"}}}, "has no rule for layer 32 (dense"),
        (
            {"composite": {"preset": "preset_a", "names": {"block2_conv1": "z_box"}}},
            "cannot have the rule z_box",
        ),
        (
            {"composite": {"preset": "preset_b_flat_until", "until": "block9"}},
            "no layer with weights is named 'block9'",
        ),
        ({"composite": {"preset": "preset_a", "names": {1: "flat", "block1_conv1": "z"}}}, "'1'"),
        (
            {"composite": {"preset": "preset_b_flat_until", "until": 14}, "engine": "innvestigate"},
            "position 14 is outside the 14 layers",
        ),
    ],
)
def test_a_composite_is_held_to_the_network_and_its_readout(
    small_study: SmallStudy, settings: dict[str, Any], expected: str
) -> None:
    (line,) = problems(small_study.changed(relevance=relevance(**settings)))
    assert line.startswith("relevance.composite")
    assert expected in line


@pytest.mark.parametrize(
    "positions", [{13: "z", 0: "flat"}, {-1: "z", "0": "flat"}, {"13": {"rule": "epsilon", "epsilon": 1}}]
)
def test_a_composite_may_name_the_readout(small_study: SmallStudy, positions: dict[Any, Any]) -> None:
    study = small_study.changed(relevance=relevance(composite={"preset": "preset_a", "positions": positions}))
    plan = make_plan(study.path)
    assert size_of(plan, plan.load_networks()).passes_per_map > 0
    assert len(all_units(plan)) > 0


def test_planning_waits_for_no_tensorflow(small_study: SmallStudy) -> None:
    code = (
        "import sys; from pathlib import Path; from sweep.plan import make_plan; from sweep.stages.cost import size_of;"
        "plan = make_plan(Path(sys.argv[1])); size_of(plan, plan.load_networks());"
        "print(*sorted({'ray', 'mlflow', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small_study.path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
