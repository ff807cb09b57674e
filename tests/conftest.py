"""Fixtures shared by all tests: small faces, small backbones and a study made of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies import SmallStudy, write_small_study

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray and MLflow keep files under HOME; tests must neither read the user's nor leave any there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data that is not part of the project; for tests marked shared_data."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data folder at {SHARED}")
    return SHARED


@pytest.fixture
def small_study(tmp_path: Path) -> SmallStudy:
    """A study of eight models on generated faces, not run yet."""
    return write_small_study(tmp_path)
