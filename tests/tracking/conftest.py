"""A finished study, and an MLflow database for it, which is made once because that takes seconds."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.plan import make_plan
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import write_small_study
from tests.tracking.harness import Study


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def study(tmp_path: Path, empty_database: Path) -> Study:
    plan = make_plan(write_small_study(tmp_path).path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    shutil.copy(empty_database, tmp_path / "results" / "mlflow.db")
    return Study(plan, store, str(tmp_path / "results"))
