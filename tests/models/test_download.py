"""Files fetched from a real server on this machine, which breaks off, lies, redirects, and keeps silent."""

import http.server
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.models import download
from sweep.models.download import fetched
from sweep.models.hdf5 import check_hdf5
from sweep.models.vgg import LAYERS
from sweep.models.weights import open_weights
from sweep.study import Pretraining
from tests.models.test_hdf5 import write_vggface


class Server(http.server.BaseHTTPRequestHandler):
    """Answers each path in its own wrong way; any other with `files`."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[str]] = []
    let_go: ClassVar[threading.Event] = threading.Event()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.requests.append(self.path)
        whole = self.files["/face.h5"]
        match self.path:
            case "/breaks.h5":
                self.answer(whole[: len(whole) // 2], length=len(whole))
            case "/chunks.h5":
                self.answer(b"ffff\r\n" + whole[:100], length=None, chunked=True)
            case "/short.h5":
                self.answer(whole, length=len(whole) // 2)
            case "/unsaid.h5":
                self.answer(whole[: len(whole) // 2], length=None)
            case "/unsaid_whole.h5":
                self.answer(whole, length=None)
            case "/page.h5":
                self.answer(b"<html>Sign in</html>", length=20)
            case "/empty.h5":
                self.answer(b"", length=0)
            case "/500.h5":
                self.send_error(500)
            case "/moved.h5":
                self.redirect("/face.h5")
            case "/round.h5":
                self.redirect("/round.h5")
            case "/local.h5":
                self.redirect("file:///etc/hostname")
            case "/ftp.h5":
                self.redirect("ftp://127.0.0.1:1/face.h5")
            case "/silent.h5":
                self.let_go.wait(10)
            case "/stalls.h5":
                self.answer(whole[:1000], length=len(whole), end=False)
                self.let_go.wait(10)
            case path if path in self.files:
                self.answer(self.files[path], length=len(self.files[path]))
            case _:
                self.send_error(404)

    def answer(self, body: bytes, *, length: int | None, chunked: bool = False, end: bool = True) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if end:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "face.h5"
    write_vggface(path)
    return path.read_bytes()


@pytest.fixture
def served(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.5)
    Server.files, Server.requests, Server.let_go = {"/face.h5": whole}, [], threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Server.let_go.set()
        server.shutdown()
        thread.join()


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("breaks.h5", r"the connection broke after [\d,]+ of [\d,]+ bytes"),
        ("chunks.h5", "the connection broke before the end"),
        ("short.h5", "not a readable HDF5 file: .*truncated"),
        ("unsaid.h5", "not a readable HDF5 file: .*truncated"),
        ("page.h5", "not a readable HDF5 file: .*signature"),
        ("empty.h5", "not a readable HDF5 file"),
        ("none.h5", "404"),
        ("500.h5", "500"),
        ("round.h5", "redirect"),
        ("local.h5", "is not allowed"),
        ("ftp.h5", "cannot fetch"),
        ("silent.h5", "timed out"),
        ("stalls.h5", "timed out"),
        ("", "404"),
        ("a b.h5", "control characters"),
    ],
)
def test_what_does_not_come_whole_leaves_nothing_behind(
    path: str, expected: str, tmp_path: Path, served: str
) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        open_weights(Pretraining(weights=f"vggface:{served}/{path}"), tmp_path, "level")
    (line,) = caught.value.problems
    assert line.startswith(f"factors.pretraining.level: cannot fetch {served}/{path}: ")
    assert line.endswith("; fetch it yourself and name its path")
    assert left(tmp_path) == []


@pytest.mark.parametrize("path", ["face.h5", "moved.h5", "unsaid_whole.h5"])
def test_a_whole_file_is_fetched_once_and_its_hash_checked_afterwards(
    path: str, tmp_path: Path, served: str, whole: bytes
) -> None:
    level = Pretraining(weights=f"vggface:{served}/{path}")
    first = open_weights(level, tmp_path, "level")
    assert set(first.load()) == set(LAYERS)
    assert left(tmp_path) == [path, f"{path}.sha256"]
    asked = len(Server.requests)
    assert open_weights(level, tmp_path, "level").key == first.key
    assert len(Server.requests) == asked
    (copy,) = (tmp_path / "cache").rglob(path)
    assert copy.read_bytes() == whole
    copy.write_bytes(whole + b"x")
    with pytest.raises(InputError, match=rf"has SHA-256 .* but {path}\.sha256 says .* delete"):
        open_weights(level, tmp_path, "level")


def test_another_version_at_the_address_is_not_taken_for_the_first(tmp_path: Path, served: str) -> None:
    copy = fetched(f"{served}/face.h5", "place", check_hdf5)
    copy.unlink()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["array"] = np.arange(9)
    Server.files["/face.h5"] = (tmp_path / "other.h5").read_bytes()
    with pytest.raises(
        InputError, match=r"fetched first had \w{64} \(delete .*face\.h5\.sha256 to accept it\)"
    ):
        fetched(f"{served}/face.h5", "place", check_hdf5)
    assert left(tmp_path) == ["face.h5.sha256"]
    (tmp_path / "cache" / copy.parent.name / "face.h5.sha256").unlink()
    assert fetched(f"{served}/face.h5", "place", check_hdf5).read_bytes() == Server.files["/face.h5"]


def test_many_that_fetch_at_once_all_get_the_same_whole_file(
    tmp_path: Path, served: str, whole: bytes
) -> None:
    with ThreadPoolExecutor(8) as threads:
        copies = list(threads.map(lambda _: fetched(f"{served}/face.h5", "place", check_hdf5), range(8)))
    assert {copy.read_bytes() for copy in copies} == {whole}
    assert left(tmp_path) == ["face.h5", "face.h5.sha256"]


def test_what_a_killed_fetch_left_is_gone_after_a_day(tmp_path: Path, served: str) -> None:
    copy = fetched(f"{served}/face.h5", "place", check_hdf5)
    other = copy.parent.with_name("another-address")
    other.mkdir()
    hours = {
        copy.with_name(".part-old"): 25,
        copy.with_name(".part-young"): 23,
        other / ".part-old": 25,
        other / "face.h5": 1000,
    }
    for path, age in hours.items():
        path.write_bytes(b"half")
        os.utime(path, times=(time.time() - age * 3600,) * 2)
    assert fetched(f"{served}/face.h5", "place", check_hdf5) == copy
    assert [path.exists() for path in hours] == [False, True, False, True]


def test_a_copy_without_its_record_must_be_whole(tmp_path: Path, served: str, whole: bytes) -> None:
    copy = fetched(f"{served}/face.h5", "place", check_hdf5)
    record = copy.with_name("face.h5.sha256")
    record.unlink()
    copy.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"not a readable HDF5 file: .*truncated"):
        fetched(f"{served}/face.h5", "place", check_hdf5)
    assert not record.exists()


def test_a_cache_that_cannot_be_written_and_an_address_that_is_none(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^place: fetched files cannot be kept: .*file.*SWEEP_CACHE"):
        fetched(f"{served}/face.h5", "place", check_hdf5)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"^place: cannot fetch http://\[none/face\.h5: Invalid IPv6 URL"):
        fetched("http://[none/face.h5", "place", check_hdf5)
