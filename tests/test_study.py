"""Study files: what is accepted, and that every problem is a line with its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.study import load_study
from tests.studies import SmallStudy


def problems(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_study(path)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def test_every_combination_of_levels_is_a_cell_and_a_further_seed_only_appends(
    small_study: SmallStudy,
) -> None:
    two = [cell.model_id for cell in load_study(small_study.path).cells()]
    assert two[:4] == ["first-identity-s1", "first-gender-s1", "second-identity-s1", "second-gender-s1"]
    assert len(set(two)) == 8
    three = [
        cell.model_id for cell in load_study(small_study.changed(factors={"seed": [1, 2, 7]}).path).cells()
    ]
    assert three[:8] == two
    assert three[8] == "first-identity-s7"


def test_a_further_factor_changes_the_finetune_settings_of_its_levels(small_study: SmallStudy) -> None:
    study = load_study(
        small_study.changed(factors={"schedule": {"short": {"epochs": 2}, "long": {"epochs": 9}}}).path
    )
    cells = {cell.model_id: cell for cell in study.cells()}
    assert len(cells) == 16
    assert cells["first-identity-short-s1"].finetune.epochs == 2
    assert cells["first-identity-long-s1"].finetune.epochs == 9
    assert cells["first-identity-long-s1"].finetune.batch_size == 8
    assert cells["first-identity-long-s1"].extra == {"schedule": "long"}


def test_all_problems_are_reported_together_each_with_its_place(small_study: SmallStudy) -> None:
    study = small_study.changed(
        dataset={"inputsize": 64, "input_size": 20},
        masking={"percents": [0, 120]},
        factors={"task": ["identity", "identity"], "sed": [1]},
        finetun={"epochs": 3},
    )
    found = problems(study.path)
    assert "dataset.inputsize: unknown key; did you mean 'input_size'?" in found
    assert "dataset.input_size: input should be greater than or equal to 32 (got 20)" in found
    assert "masking.percents.1: input should be less than or equal to 100 (got 120)" in found
    assert "factors.task: names identity more than once" in found
    assert "finetun: unknown key; did you mean 'finetune'?" in found
    assert any(line.startswith("factors.sed: ") and line.endswith("did you mean 'seed'?") for line in found)
    assert len(found) == 6


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({"pretraining": {"random": "random:1"}}, "'random' names the control masks"),
        ({"pretraining": {"with-dash": "random:1"}}, "letters, digits"),
        ({"pretraining": ["a", "b"]}, "must map each level's name to its weights"),
        ({"schedule": {"same": {}}}, "this level changes nothing"),
        ({"seed": []}, "at least 1 item"),
        ({"pretraining": {"first": "npz:first.npz"}, "task": ["identity"], "seed": [1]}, "a single model"),
    ],
)
def test_impossible_factors(small_study: SmallStudy, factors: dict[str, Any], expected: str) -> None:
    found = problems(small_study.changed(factors=factors).path)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping"),
        ("a: [1", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("- 1\n- 2", "must be a mapping"),
        ("\0", "not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    found = problems(path)
    assert len(found) == 1
    assert expected in found[0]


def test_a_missing_file(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["no such study file"]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_places = st.sampled_from(
    [
        ("name",), ("dataset",), ("dataset", "source"), ("dataset", "input_size"), ("factors",),
        ("factors", "pretraining"), ("factors", "pretraining", "first"), ("factors", "task"), ("factors", "seed"),
        ("factors", "further"), ("finetune", "epochs"), ("finetune", "learning_rate"), ("relevance", "images"),
        ("relevance", "images", "where"), ("masking", "percents"), ("analysis", "ranks"),
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=_places, value=_values)
@example(place=("dataset",), value={"\n": None})
def test_any_value_anywhere_is_accepted_or_refused_in_lines(
    small_study: SmallStudy, place: Any, value: Any
) -> None:
    content = yaml.safe_load(yaml.safe_dump(small_study.content))
    block = content
    for key in place[:-1]:
        block = block.setdefault(key, {})
    block[place[-1]] = value
    small_study.path.write_text(yaml.safe_dump(content))
    try:
        load_study(small_study.path)
    except InputError as error:
        assert error.problems
        assert all(line.startswith(f"{small_study.path}: ") and "\n" not in line for line in error.problems)
