"""What a user sees on bad input: one clear line each, exit code 2, nothing written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studies import SmallStudy, narrow_layers

SWEEP = Path(sys.executable).parent / "sweep"


def run(study: SmallStudy, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SWEEP, *(arguments or ("run",)), study.path],
        cwd=study.path.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def misspelt_key(study: SmallStudy) -> None:
    study.changed(masking={"percent": [1]})


def missing_folder(study: SmallStudy) -> None:
    study.changed(dataset={"source": "manifest:nowhere/manifest.csv"})


def missing_layer(study: SmallStudy) -> None:
    arrays: dict[str, Any] = {}
    for name, (kernel, bias) in narrow_layers("first").items():
        if name != "block4_conv2":
            arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = kernel, bias
    np.savez(study.path.parent / "first.npz", **arrays)


def wrong_shape(study: SmallStudy) -> None:
    arrays: dict[str, Any] = {}
    for name, (kernel, bias) in narrow_layers("first").items():
        arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = (
            kernel[:, :2] if name == "block1_conv1" else kernel,
            bias,
        )
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
    done = run(small_study)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("sweep: study.yaml: ") or str(small_study.path) in line
    assert expected in line
    assert not (small_study.path.parent / "results").exists()


def test_status_of_a_study_that_has_not_begun(small_study: SmallStudy) -> None:
    done = run(small_study, "status")
    assert done.returncode == 0
    assert "= 8 models, 30 images (6 with maps), 32 px" in done.stdout


def test_help_shows_examples() -> None:
    for command in ("plan", "run", "status", "query"):
        shown = subprocess.run([SWEEP, command, "--help"], capture_output=True, text=True, check=True).stdout
        assert f"sweep {command} " in shown.split("Options:")[0].replace("Usage: sweep", "")
