"""iNNvestigate itself, as the reference: in a process of its own, because it needs legacy Keras in graph mode."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sweep.errors import InputError, WorkError
from sweep.lrp.composites import composite
from sweep.lrp.layers import FloatArray
from sweep.lrp.network import Network
from sweep.lrp.network_file import to_bytes

PRESETS = ("preset_a", "preset_b", "preset_a_flat", "preset_b_flat", "preset_b_flat_until")
"""The composites that iNNvestigate knows."""
GRADIENTS = ("gradient", "input_times_gradient", "guided_backprop")
"""What of it else can be asked for by name: methods of sweep.attribution of the same definition."""


def innvestigate_relevance(
    network: Network,
    images: npt.ArrayLike,
    targets: npt.ArrayLike | Literal["predicted", "all"],
    preset: str | Mapping[str, Any] = "preset_a_flat",
) -> FloatArray:
    """Relevance maps (image, height, width) by iNNvestigate 2.1.2, channels summed, not normalised.

    The arguments are those of `sweep.lrp.relevance`; `preset` is one of PRESETS, or a mapping with `preset` and
    `until`. Starting the process takes some ten seconds: keep an `Innvestigate` for more than one call.

    Raises InputError for other composites or ill-fitting arguments, WorkError where iNNvestigate fails.
    """
    with Innvestigate(network, preset) as process:
        return process.relevance(images, targets)


def check_reference(given: str | Mapping[str, Any], bias: str) -> None:
    """Raise InputError where iNNvestigate cannot compute this composite with this treatment of biases."""
    settings = {"preset": given} if isinstance(given, str) else given
    sums = settings.get("kinds", {"add": "z"})
    if settings.get("preset") not in PRESETS or not settings.keys() <= {"preset", "until", "kinds"}:
        raise InputError(f"composite: iNNvestigate has the presets {', '.join(PRESETS)}, not {given!r}")
    if sums != {"add": "z"}:
        raise InputError(f"composite.kinds: iNNvestigate has none but {{add: z}}, not {sums!r}")
    if bias != "innvestigate":
        raise InputError(f"bias: iNNvestigate knows 'innvestigate' only, not '{bias}'")


def as_reference(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The same composite with sums that share their relevance as iNNvestigate's do."""
    settings: dict[str, Any] = {"preset": given} if isinstance(given, str) else dict(given)
    return settings | {"kinds": {**settings.get("kinds", {}), "add": "z"}}


class Innvestigate:
    """A process that runs iNNvestigate on one network after the other; close it, or use it in a `with` block.

    Its analyzers leak graph operations, so it builds each once and keeps it as long as the network is the same.
    """

    def __init__(self, network: Network, preset: str | Mapping[str, Any] = "preset_a_flat") -> None:
        """Start the process, which takes some ten seconds, and turn to a network."""
        self._folder = tempfile.TemporaryDirectory(prefix="innvestigate-")
        self._path = Path(self._folder.name)
        self._n_networks = self._n_calls = 0
        try:
            self.turn_to(network, preset)
        except BaseException:
            self._folder.cleanup()
            raise
        self._log = (self._path / "log").open("wb")
        self._process = subprocess.Popen(
            # Not from the working directory, where a file may have the name of a module.
            [sys.executable, "-P", "-m", "sweep.lrp.innvestigate_process", str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ
            | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
            # Where no keras.json of the user's asks for half precision or another order of the axes.
            | {"KERAS_HOME": str(self._path), "PYTHONWARNINGS": "ignore"},
        )

    def turn_to(self, network: Network, preset: str | Mapping[str, Any] = "preset_a_flat") -> None:
        """Explain another network, or by another preset or one of GRADIENTS, from now on.

        Raises InputError for a composite that iNNvestigate does not know.
        """
        settings = {"preset": preset} if isinstance(preset, str) else dict(preset)
        until = None
        if settings["preset"] not in GRADIENTS:
            check_reference(preset, "innvestigate")
            until = composite(settings).flat_until_index(network.layers)
        before = self._network_file
        self._n_networks += 1
        self._network_file.write_bytes(to_bytes(network, {"preset": settings["preset"], "until": until}))
        before.unlink(missing_ok=True)
        self._network = network

    @property
    def _network_file(self) -> Path:
        """A name of its own for each network, by which the process knows one from the other."""
        return self._path / f"network-{self._n_networks}.npz"

    def relevance(
        self, images: npt.ArrayLike, targets: npt.ArrayLike | Literal["predicted", "all"]
    ) -> FloatArray:
        """Maps (image, height, width); see `innvestigate_relevance`."""
        maps: FloatArray = self.analyze(images, targets)["maps"]
        return maps

    def analyze(
        self, images: npt.ArrayLike, targets: npt.ArrayLike | Literal["predicted", "all"]
    ) -> dict[str, Any]:
        """The maps, with the seconds that the analysis itself took and the process's peak memory in bytes."""
        batch = np.asarray(images, np.float32)
        if batch.shape[1:] != self._network.input_shape or not len(batch):
            raise InputError(
                f"images: have the shape {batch.shape}; the network takes {self._network.input_shape}"
            )
        classes = np.asarray(targets)
        if classes.dtype.kind in "iu" and classes.ndim == 0:
            classes = np.full(len(batch), classes)
        if classes.dtype.kind in "iu" and classes.shape != batch.shape[:1]:
            raise InputError(f"targets: have the shape {classes.shape}; expected one class or one per image")
        if classes.dtype.kind not in "iu" and str(classes) not in ("predicted", "all"):
            raise InputError("targets: must be class numbers, 'predicted' or 'all'")
        question, answer = self._path / f"{self._n_calls}.npz", self._path / f"{self._n_calls}.answer.npz"
        self._n_calls += 1
        np.savez(question, images=batch, targets=classes)
        reply = self._ask(f"{self._network_file.name} {question.name} {answer.name}")
        if reply != "done":
            self.close()
            raise WorkError(f"iNNvestigate failed: {reply}")
        with np.load(answer, allow_pickle=False) as arrays:
            result = {
                "maps": arrays["maps"],
                "seconds": float(arrays["seconds"]),
                "peak": int(arrays["peak"]),
            }
        question.unlink()
        answer.unlink()
        return result

    def _ask(self, line: str) -> str:
        if self._process.stdin is None or self._process.stdout is None or self._process.poll() is not None:
            return self._last_words()
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._last_words()
        return self._process.stdout.readline().strip() or self._last_words()

    def _last_words(self) -> str:
        log = self._path / "log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return f"its process ended: {lines[-1] if lines else 'without a word'}"

    def close(self) -> None:
        """End the process and remove its files."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> "Innvestigate":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
