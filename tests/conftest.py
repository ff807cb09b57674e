"""Fixtures shared by all tests: small faces, small backbones and a study made of them."""

import logging
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


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty bucket on an S3-compatible server of this machine, which the environment names."""
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    import pyarrow.fs as fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=f"http://{host}:{port}").create_dir(
            "bucket"
        )
        yield "s3://bucket"
    finally:
        server.stop()
