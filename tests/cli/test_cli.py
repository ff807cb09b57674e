"""What a user sees on bad input: one clear line each, exit code 2, nothing written."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.studies import SmallStudy, narrow_arrays, sweep


def misspelt_key(study: SmallStudy) -> None:
    study.changed(masking={"percent": [1]})


def missing_folder(study: SmallStudy) -> None:
    study.changed(dataset={"source": "manifest:nowhere/manifest.csv"})


def missing_layer(study: SmallStudy) -> None:
    arrays = {name: array for name, array in narrow_arrays("first").items() if "block4_conv2" not in name}
    np.savez(study.path.parent / "first.npz", **arrays)


def wrong_shape(study: SmallStudy) -> None:
    arrays = narrow_arrays("first")
    arrays["block1_conv1/kernel"] = arrays["block1_conv1/kernel"][:, :2]
    np.savez(study.path.parent / "first.npz", **arrays)


def no_such_task(study: SmallStudy) -> None:
    study.changed(factors={"task": ["identity", "age"]})


def no_such_composite(study: SmallStudy) -> None:
    study.changed(relevance={"composite": "preset_a_fla"})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (misspelt_key, "masking.percent: unknown key; did you mean 'percents'?"),
        (missing_folder, "no such manifest (dataset.source)"),
        (missing_layer, "first.npz: lacks the array 'block4_conv2/kernel'"),
        (wrong_shape, "first.npz: layer block1_conv1: kernel (3, 2, 3, 4)"),
        (
            no_such_task,
            "factors.task: 'age' is no label of the images; known: identity, gender, view_deg, hair",
        ),
        (no_such_composite, "relevance.composite: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    small_study: SmallStudy, spoil: Callable[[SmallStudy], None], expected: str
) -> None:
    spoil(small_study)
    done = sweep("run", small_study.path, cwd=small_study.path.parent)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("sweep: study.yaml: ") or str(small_study.path) in line
    assert expected in line
    assert not (small_study.path.parent / "results").exists()


def test_status_of_a_study_that_has_not_begun(small_study: SmallStudy) -> None:
    done = sweep("status", small_study.path, cwd=small_study.path.parent)
    assert done.returncode == 0
    assert "= 8 models, 30 images (6 with maps), 32 px" in done.stdout
