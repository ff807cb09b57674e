"""Models in MLflow's registry, loaded and asked by MLflow's own commands (the latter by `make test-served`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from sweep.errors import WorkError
from sweep.plan import make_plan
from sweep.stages import predictions
from sweep.storage.store import Store
from sweep.tracking import Tracker, alias_of, register_models
from tests.in_process import run_in_process
from tests.studies import sweep, write_small_study
from tests.tracking.harness import Study, runs_of, sqlite


def test_every_model_is_registered_once_under_the_studys_name(study: Study, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"no run in MLflow at .* has a model; run the study with: sweep run"):
        register_models(study.plan, study.results)
    study.finish(Tracker(study.plan, study.results))
    versions = register_models(study.plan, study.results)
    assert list(versions) == [model.id for model in study.plan.models]
    assert register_models(study.plan, study.results) == versions
    client = MlflowClient(sqlite(study))
    _, children = runs_of(sqlite(study))
    assert len(client.search_model_versions("name = 'small'")) == len(study.plan.models)
    for model_id, number in versions.items():
        found = client.get_model_version_by_alias("small", alias_of(model_id))
        assert (str(found.version), found.run_id) == (number, children[model_id].info.run_id)
        assert found.tags == {"sweep.model": model_id}
    done = sweep("register", study.plan.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted, first, *_, address = done.stdout.splitlines()
    assert counted.startswith(f"{len(versions)} of {len(versions)} models are registered as small")
    assert first.strip() == f"models:/small@{study.plan.models[0].id}"
    assert address == f"To use them: export MLFLOW_TRACKING_URI={sqlite(study)}"


def test_a_model_costs_its_run_no_weights_of_the_backbone(study: Study) -> None:
    study.finish(Tracker(study.plan, study.results))
    files = [
        path for path in (Path(study.results) / "mlflow-artifacts").rglob("model/**/*") if path.is_file()
    ]
    names = {path.name for path in files}
    assert {"MLmodel", "served.py", "description.json", "readout.npz", "input_example.json"} <= names
    assert len([path for path in files if path.name == "MLmodel"]) == len(study.plan.models)
    largest = max(path.stat().st_size for path in files if path.suffix == ".npz")
    assert largest < (study.plan.path.parent / "first.npz").stat().st_size / 10
    text = next(path for path in files if path.name == "MLmodel").read_text()
    assert "mlflow.pyfunc.loaders.code_model" in text
    assert '"name": "relevance", "default": false' in text


def test_an_alias_takes_what_mlflow_takes() -> None:
    assert alias_of("faces-identity-s1") == "faces-identity-s1"
    assert alias_of("face s.x-é") == "face_s_x-_"


@pytest.mark.served
def test_mlflows_commands_answer_as_the_study_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = write_small_study(tmp_path).changed(factors={"seed": [1]}, masking={"percents": [0, 10, 100]})
    plan = make_plan(small.path)
    store = Store(str(tmp_path / "results" / "small"))
    run_in_process(plan, store)
    study = Study(plan, store, str(tmp_path / "results"))
    study.finish(Tracker(plan, study.results))
    register_models(plan, study.results)
    model_id = "second-identity-s1"
    rows = [r for r in store.read([predictions.units(plan)[model_id]]).to_pylist() if r["rank"] == 1]
    images = plan.images.pixels[:3]
    asked = {"inputs": images.tolist(), "params": {"relevance": True}}
    (tmp_path / "images.json").write_text(json.dumps(asked))
    address = f"models:/small@{alias_of(model_id)}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": sqlite(study)}
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "predict", "-m", address]
    command += ["-i", "images.json", "-o", "answers.json", "--env-manager", "local"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())["predictions"]
    assert [answer["class"] for answer in answers] == [row["class"] for row in rows[:3]]
    np.testing.assert_allclose([a["logit"] for a in answers], [r["logit"] for r in rows[:3]], rtol=1e-4)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite(study))
    loaded = mlflow.pyfunc.load_model(address)
    maps = np.asarray(loaded.predict(images, params={"relevance": True})["relevance"].tolist())
    assert maps.shape == (3, 32, 32)
    np.testing.assert_allclose(np.asarray([a["relevance"] for a in answers]), maps, atol=1e-5)
    assert "relevance" not in loaded.predict(images)
