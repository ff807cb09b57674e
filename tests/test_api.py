"""The package from Python: what docs/python.md shows runs as it stands, and answers as the command line does."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sweep
from sweep.analysis.queries import run_query
from sweep.plan import make_plan, plan_of
from sweep.stages import STAGES
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.studies import write_small_study

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a study file studies/demo.yaml whose results are there."""
    folder = tmp_path_factory.mktemp("api")
    study = write_small_study(folder)
    (folder / "studies").mkdir()
    content = study.path.read_text().replace("npz:", "npz:../").replace("manifest:", "manifest:../")
    (folder / "studies" / "demo.yaml").write_text(content)
    plan = make_plan(folder / "studies" / "demo.yaml")
    run_in_process(plan, Store(str(folder / "results" / "small")))
    return folder


def examples() -> list[str]:
    """The Python of the page, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


def test_the_page_runs_as_it_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for example in examples():
        exec(compile(example, "docs/python.md", "exec"), names)
    result, maps, report = names["result"], names["maps"], names["report"]
    assert isinstance(result, sweep.Result)
    assert isinstance(maps, np.ndarray)
    assert maps.shape == (2, 8, 8)
    assert isinstance(report, sweep.Report)
    assert report.page == Path(report.address).read_text(encoding="utf-8")
    assert report._repr_html_().startswith("<iframe srcdoc=")
    bins = names["bins"]
    assert isinstance(bins, pd.DataFrame)
    expected = run_query("bins", result.store.root).to_pandas()
    pd.testing.assert_frame_equal(bins, expected)


def test_maps_are_those_of_the_table(folder: Path) -> None:
    result = sweep.Result.open(folder / "studies" / "demo.yaml", folder / "results")
    model = "second-gender-s2"
    maps = result.maps(model)
    rows = result.store.read(
        [unit for unit in STAGES["relevance"].units(result.plan) if unit.label.startswith(f"{model}.")]
    ).to_pylist()
    assert [row["image_id"] for row in rows] == result.image_ids
    for row, one in zip(rows, maps, strict=True):
        np.testing.assert_array_equal(np.float32(row["map"]).reshape(32, 32), one)
    with pytest.raises(sweep.InputError, match="no model is called 'x'; there are: first-identity-s1"):
        result.maps("x")
    with pytest.raises(sweep.InputError, match="no query is called"):
        result.query("x")


def test_a_study_written_from_python_is_the_study_of_the_file(folder: Path, tmp_path: Path) -> None:
    written = make_plan(folder / "studies" / "demo.yaml")
    faces = pd.read_csv(folder / "faces" / "manifest.csv")
    faces["path"] = [os.path.relpath(folder / "faces" / path, tmp_path) for path in faces["path"]]
    content = written.study.model_dump(mode="json", exclude_unset=True)
    levels = {name: f"npz:{folder}/{name}.npz" for name in ("first", "second")}
    settings = {
        **{name: content[name] for name in ("finetune", "relevance", "masking")},
        "dataset": {"input_size": 32},
        "factors": {**content["factors"], "pretraining": levels},
    }
    study = sweep.Study.create(tmp_path / "mine.yaml", images=faces, **settings)
    assert study.name == "mine"
    plan = plan_of(study)
    assert [model.classes for model in plan.models] == [model.classes for model in written.models]
    assert plan.images.keys == written.images.keys
    assert sweep.Study.load(tmp_path / "mine.yaml") == study
    # The same again is no change; another content is refused unless it is asked for.
    sweep.Study.create(tmp_path / "mine.yaml", images=faces, **settings)
    before = study.path.read_bytes()
    with pytest.raises(
        sweep.InputError, match="exists with other content; give another path, or replace=True"
    ):
        sweep.Study.create(tmp_path / "mine.yaml", images=faces, **{**settings, "finetune": {"epochs": 7}})
    assert study.path.read_bytes() == before
    changed = sweep.Study.create(
        tmp_path / "mine.yaml", images=faces, replace=True, **{**settings, "finetune": {"epochs": 7}}
    )
    assert changed.finetune.epochs == 7


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"factors": {"task": ["identity"]}}, "factors.pretraining: missing; this key is required"),
        ({"factor": {}}, "factor: unknown key; did you mean 'factors'?"),
    ],
)
def test_settings_that_no_study_file_may_have_write_nothing(
    tmp_path: Path, settings: dict[str, Any], line: str
) -> None:
    with pytest.raises(sweep.InputError) as caught:
        sweep.Study.create(tmp_path / "x.yaml", images=pd.DataFrame({"path": [], "identity": []}), **settings)
    assert f"{tmp_path}/x.yaml: {line}" in caught.value.problems
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_written_into_a_folder_that_is_there(folder: Path, tmp_path: Path) -> None:
    content = sweep.Study.load(folder / "studies" / "demo.yaml").model_dump(mode="json", exclude_unset=True)
    with pytest.raises(sweep.InputError, match=r"there is no folder .*/none; make it first"):
        sweep.Study.create(tmp_path / "none" / "x.yaml", **content)
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_a_run(folder: Path) -> None:
    with pytest.raises(sweep.InputError, match="no stage is called 'maps'; there are: images, features"):
        sweep.run(folder / "studies" / "demo.yaml", folder / "results", refresh="maps")
    with pytest.raises(sweep.InputError, match="no such study file"):
        sweep.run(folder / "studies" / "none.yaml")
    loose = sweep.Study.model_validate(sweep.Study.load(folder / "studies" / "demo.yaml").model_dump())
    with pytest.raises(sweep.InputError, match=r"study small: has no file; make it with sweep.Study.create"):
        sweep.run(loose)


def test_everything_public_is_there_and_nothing_is_imported_before_it_is_asked_for() -> None:
    import subprocess
    import sys

    assert set(sweep.__all__) <= set(dir(sweep))
    for name in sweep.__all__:
        assert getattr(sweep, name) is not None
    code = "import sys, sweep; print(sorted({'pandas', 'pydantic', 'ray', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sweep.nothing
