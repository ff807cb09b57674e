"""zennit (Anders et al. 2021) as a peer of the engine, where an environment of its own has it.

    uv venv --python 3.11 .venv-zennit
    uv pip install --python .venv-zennit --torch-backend cpu --group zennit

PyTorch is no part of this package's own environment, so zennit runs by the Python of `.venv-zennit`, in a process.
"""

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.common import ROOT, peak_of
from sweep.arrays import Array
from sweep.lrp import Network
from sweep.lrp.network_file import to_bytes

PYTHON = ROOT / ".venv-zennit" / "bin" / "python"


class Zennit:
    """A process that explains one network by one of zennit's composites; use it in a `with` block."""

    def __init__(self, network: Network, composite: str) -> None:
        """Start the process. Raises FileNotFoundError where its environment is missing."""
        self._folder = tempfile.TemporaryDirectory(prefix="zennit-")
        self._path = Path(self._folder.name)
        (self._path / "network.npz").write_bytes(to_bytes(network, {"composite": composite}))
        self._process = subprocess.Popen(
            [PYTHON, ROOT / "benchmarks" / "zennit_process.py", self._path / "network.npz", self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def analyze(self, images: Array, classes: Array) -> dict[str, Any]:
        """Maps (image, height, width) of a class per image, with the seconds they took and the process's peak memory in bytes.

        Raises RuntimeError with zennit's own line where it fails.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        np.savez(self._path / "question.npz", images=images, classes=classes.astype(np.int64))
        self._process.stdin.write("question.npz answer.npz\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline().strip()
        if reply != "done":
            raise RuntimeError(f"zennit failed: {reply or 'its process ended'}")
        with np.load(self._path / "answer.npz", allow_pickle=False) as found:
            return {
                "maps": found["maps"],
                "seconds": float(found["seconds"]),
                "peak": peak_of(self._process.pid),
            }

    def __enter__(self) -> "Zennit":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._folder.cleanup()
