"""The proof that a node reaches a run's results: on the same disk, on another one, and where it may not write."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.actors.root import RootError, check_root, leave_token
from sweep.storage.files import Files


def test_a_process_that_sees_the_root_leaves_no_trace_of_its_proof(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "root"))
    token = leave_token(files)
    check_root(token)
    assert files.names(".tmp") == [Path(token.path).name]


def test_each_run_has_a_token_of_its_own(tmp_path: Path) -> None:
    """A node that has a folder of this name, even with an earlier run's results, does not pass for seeing this one's."""
    files = Files(str(tmp_path / "root"))
    earlier = leave_token(files)
    token = leave_token(files)
    files.delete(token.path)
    check_root(earlier)
    with pytest.raises(RootError) as refused:
        check_root(token, seconds=0.2)
    assert str(refused.value).endswith(
        f" does not see {files.root}: use a folder that all nodes mount, or s3://…"
    )
    assert str(refused.value).startswith("node ")


def test_a_node_without_the_folder_is_told_and_gets_none(tmp_path: Path) -> None:
    token = leave_token(Files(str(tmp_path / "root")))
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    with pytest.raises(RootError, match="does not see"):
        check_root(token, seconds=0.2)
    assert not (tmp_path / "root").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    root = tmp_path / "root"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(root)]
    if (made := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"needs leave to mount a file system: {made.stderr.strip()}")
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_node_that_may_only_read_is_refused(disk: Path) -> None:
    token = leave_token(Files(str(disk)))
    remount(disk, "ro")
    with pytest.raises(RootError, match=r"cannot use the results root: .*Read-only file system"):
        check_root(token, patience=0.2)


def test_a_disk_that_refuses_for_a_while_is_waited_for(disk: Path) -> None:
    """Longer than a token is looked for: a worker that starts in the midst of an outage waits as all others do."""
    token = leave_token(Files(str(disk)))
    remount(disk, "ro")
    later = threading.Timer(1.0, remount, (disk, "rw"))
    later.start()
    try:
        check_root(token, seconds=0.2)
    finally:
        later.join()


def test_an_object_store_is_proven_alike(bucket: str) -> None:
    files = Files(f"{bucket}/root")
    token = leave_token(files)
    check_root(token)
    files.delete(token.path)
    with pytest.raises(RootError, match="does not see s3://bucket/root"):
        check_root(token, seconds=0.2)
