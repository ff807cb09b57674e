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
        ({"seed": [2**63]}, "less than or equal to 9223372036854775807"),
        ({"schedule": {}}, "factors.schedule: dictionary should have at least 1 item"),
        ({"schedule": {1: {"epochs": 2}}}, "factors.schedule.1: must be text; write '1', with the quotes"),
        ({"epochs": {"a": {"epochs": 2}, "b": {"epochs": 3}}}, "factors.epochs: the study makes a column"),
        ({"Task": {"a": {"epochs": 2}, "b": {"epochs": 3}}}, "factors.Task: the study makes a column"),
        ({"pretraining": {"net": "random:1", "Net": "random:2"}}, "levels net and Net differ only in case"),
        (
            {
                "a": {"x": {"epochs": 2}, "y": {"batch_size": 9}},
                "b": {"u": {"epochs": 3}, "v": {"epochs": 9}},
            },
            "factors.b: overrides epochs, as the factor a does",
        ),
        ({"a": {"x": {"epochs": 2}, "y": {"epochs": 2}}}, "factors.a: the levels x and y come to the same"),
        # Four epochs are what the study says of all models.
        (
            {"a": {"x": {"epochs": 4}, "y": {"batch_size": 8}}},
            "factors.a: the levels x and y come to the same",
        ),
        ({"pretraining": {"net": {"weights": "random:1", "mean": [1, 2, 3]}}}, "give channel_order too"),
        (
            {
                "pretraining": {
                    "net": {"weights": "random:1", "channel_order": "RGB", "mean": [0.4, 0.5, 0.6]}
                }
            },
            "factors.pretraining.net: mean: must be on the scale of pixels",
        ),
        ({"pretraining": {"first": "npz:first.npz"}, "task": ["identity"], "seed": [1]}, "a single model"),
    ],
)
def test_impossible_factors(small_study: SmallStudy, factors: dict[str, Any], expected: str) -> None:
    found = problems(small_study.changed(factors=factors).path)
    assert len(found) == 1
    assert expected in found[0]


def test_a_level_may_have_the_settings_of_the_study(small_study: SmallStudy) -> None:
    schedule = {"as it is": {"epochs": 4}, "longer": {"epochs": 9}}
    named = {name.split()[0]: level for name, level in schedule.items()}
    cells = list(load_study(small_study.changed(factors={"schedule": named}).path).cells())
    assert {cell.finetune.epochs for cell in cells} == {4, 9}
    assert len({cell.model_id.casefold() for cell in cells}) == len(cells) == 16


@pytest.mark.parametrize(
    ("written", "read"),
    [("[1, 2]", (1, 2)), ("[01, 010]", (1, 10)), ("['3', 08]", (3, 8)), ("[1:30]", None), ("[0x10]", None)],
)
def test_seeds_are_decimal(small_study: SmallStudy, written: str, read: tuple[int, ...] | None) -> None:
    text = small_study.path.read_text().replace("  seed:\n  - 1\n  - 2\n", f"  seed: {written}\n")
    small_study.path.write_text(text)
    if read is None:
        (line,) = problems(small_study.path)
        assert line.startswith("factors.seed.0: input should be a valid integer")
    else:
        assert load_study(small_study.path).factors.seed == read


def test_words_that_yaml_takes_for_truth_are_levels(small_study: SmallStudy) -> None:
    text = small_study.path.read_text()
    levels = "  flipped:\n    no: {epochs: 2}\n    on: {standardize: off}\n"
    small_study.path.write_text(text.replace("factors:\n", f"factors:\n{levels}"))
    flipped = load_study(small_study.path).factors.extra["flipped"]
    assert list(flipped) == ["no", "on"]
    assert flipped["on"].standardize is False


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"gender": None},
            "relevance.images.where.gender: must be a label, a number or a list of these (got None)",
        ),
        ({"gender": [["male"]]}, "must be a label, a number or a list of these"),
        ({"view_deg": []}, "must be a label, a number or a list of these (got [])"),
        ({1: "x", "a": 2}, "relevance.images.where.1: must be text; write '1', with the quotes"),
    ],
)
def test_wishes_that_cannot_be_read(small_study: SmallStudy, where: Any, expected: str) -> None:
    (line,) = problems(small_study.changed(relevance={"images": {"where": where}}).path)
    assert expected in line


def test_keys_of_several_kinds_in_a_composite_become_text(small_study: SmallStudy) -> None:
    given = {"preset": "preset_a", "positions": {0: "flat", "-1": "z"}, "names": {"block1_conv2": "z"}}
    study = load_study(small_study.changed(relevance={"composite": given}).path)
    assert study.relevance.composite == given | {"positions": {"0": "flat", "-1": "z"}}
    # Keys of one kind stay as they are, and so do the keys of units made before.
    alike = given | {"positions": {10: "flat", 9: "z", -1: "z"}}
    assert load_study(small_study.changed(relevance={"composite": alike}).path).relevance.composite == alike
    (line,) = problems(small_study.changed(relevance={"composite": {"positions": {0: "z", "0": "z"}}}).path)
    assert line == "relevance.composite: names 0 more than once"
    (line,) = problems(small_study.changed(relevance={"composite": [1]}).path)
    assert line == "relevance.composite: must be a preset's name or a mapping (got [1])"


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
        ("name",),
        ("dataset",),
        ("dataset", "source"),
        ("dataset", "input_size"),
        ("factors",),
        ("factors", "pretraining"),
        ("factors", "pretraining", "first"),
        ("factors", "task"),
        ("factors", "seed"),
        ("factors", "further"),
        ("finetune", "epochs"),
        ("finetune", "learning_rate"),
        ("relevance", "images"),
        ("relevance", "images", "where"),
        ("masking", "percents"),
        ("analysis", "ranks"),
    ]
)


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
