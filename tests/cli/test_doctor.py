"""`sweep doctor` on a machine where all is well, and on machines where one thing is not."""

import importlib.metadata
import os
import stat
from pathlib import Path

import pytest

from sweep.runs import doctor
from tests.studies import sweep
from tests.tracking.harness import free_port

SUBJECTS = ["versions", "reference", "GPUs", "memory", "results", "MLflow", "Ray"]


def wrong(results: Path | str) -> dict[str, str]:
    """Remedies by subject."""
    checks = doctor.examine(str(results))
    assert [check.subject for check in checks] == SUBJECTS
    return {check.subject: check.remedy for check in checks if not check.fine}


def test_where_all_is_well_every_line_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    done = sweep("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["ok", name] for name in SUBJECTS]
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_named_with_its_remedy_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s3cret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "results").write_text("a file")
    done = sweep("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "sweep: something is wrong with: results, MLflow\n"
    assert "is a file, not a folder" in done.stdout
    assert "it does not answer (Connection refused); start it" in done.stdout
    assert "s3cret" not in done.stdout


def test_a_gpu_that_tensorflow_cannot_use_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'Some GPU, 16000 MiB'\n")
    driver.chmod(driver.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "GPU_PROBE", "print(0)")
    assert wrong(tmp_path / "results")["GPUs"].startswith("TensorFlow sees 0 of 1; pip install")
    monkeypatch.setattr(doctor, "GPU_PROBE", "print(1)")
    assert "GPUs" not in wrong(tmp_path / "results")


def test_too_little_of_anything_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_MEMORY", "LEAST_DISK", "LEAST_SHARED"):
        monkeypatch.setattr(doctor, name, 1e18)
    found = wrong(tmp_path / "results")
    assert set(found) == {"memory", "results", "Ray"}
    assert found["memory"] == "1000000000.0 GB of memory are needed; end other programs"


def test_a_cluster_address_that_cannot_be_used_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    assert "nonsense" in wrong(tmp_path / "results")["Ray"]


def test_a_package_of_another_version_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda _: ["duckdb>=99", "nothing-of-the-kind>=1", "numpy>=2", "x; extra == 'gpu'"],
    )
    assert wrong(tmp_path / "results")["versions"] == "pip install 'duckdb>=99' 'nothing-of-the-kind>=1'"


def test_a_bucket_that_takes_files_is_fine(bucket: str) -> None:
    (store,) = (check for check in doctor.examine(f"{bucket}/r") if check.subject == "results")
    assert store.found == f"{bucket}/r takes files; 0 studies"
