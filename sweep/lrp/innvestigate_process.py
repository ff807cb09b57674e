"""The process that runs iNNvestigate for `sweep.lrp.reference`: one folder, one line per question on stdin.

Each line names the files of a network, a question and an answer in the folder; the reply on stdout is 'done' or what went
wrong.
"""

import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sweep.lrp.keras_writer import name_of, to_keras
from sweep.lrp.layers import Dropout, FloatArray, ZeroPad
from sweep.lrp.network import Network
from sweep.lrp.network_file import from_bytes

ANALYZERS = {
    "preset_a": "lrp.sequential_preset_a",
    "preset_b": "lrp.sequential_preset_b",
    "preset_a_flat": "lrp.sequential_preset_a_flat",
    "preset_b_flat": "lrp.sequential_preset_b_flat",
    "preset_b_flat_until": "lrp.sequential_preset_b_flat_until_idx",
    "gradient": "gradient",
    "input_times_gradient": "input_t_gradient",
    "guided_backprop": "guided_backprop",
}


class ReferenceAnalysis:
    """The network as a flat legacy Keras model, and its analyzers."""

    def __init__(self, network: Network, preset: str, until: int | None) -> None:
        import tf_keras

        leading = 0
        while (
            leading < len(network.layers)
            and isinstance(network.layers[leading], ZeroPad | Dropout)
            and sum(read.count(leading) for read in network.reads) == 1
        ):
            leading += 1
        # iNNvestigate drops the first layer's rule behind a padding, so the images come to it padded already.
        self._pads = [layer.padding for layer in network.layers[:leading] if isinstance(layer, ZeroPad)]
        self._model = to_keras(tf_keras, network, leading)
        names = [layer.name for layer in self._model.layers]
        self._preset = preset
        self._settings = {} if until is None else {"until_layer_idx": names.index(name_of(until))}
        self._analyzers: dict[str, Any] = {}

    def maps(self, images: FloatArray, targets: Any) -> FloatArray:
        """Maps (image, height, width), channels summed."""
        for pads in self._pads:
            images = np.pad(images, ((0, 0), *pads, (0, 0)))
        if targets.dtype.kind in "iu":
            maps = self._analyzer("index").analyze(images, [int(target) for target in targets])
        else:
            maps = self._analyzer("all" if str(targets) == "all" else "max_activation").analyze(images)
        for (top, bottom), (left, right) in reversed(self._pads):
            maps = maps[:, top : maps.shape[1] - bottom, left : maps.shape[2] - right]
        summed: FloatArray = np.sum(maps, axis=-1, dtype=np.float32)
        return summed

    def _analyzer(self, mode: str) -> Any:
        if mode not in self._analyzers:
            import innvestigate

            self._analyzers[mode] = innvestigate.create_analyzer(
                ANALYZERS[self._preset],
                self._model,
                neuron_selection_mode=mode,
                # They refuse layers that are analyzed all the same, and warn of nested models, of which this is none.
                disable_model_checks=True,
                **self._settings,
            )
        return self._analyzers[mode]


def _peak() -> int:
    """Largest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    # Begins with what the process had that started this one.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(folder: Path) -> None:
    """Answer questions until stdin ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import tensorflow as tf
    import tf_keras

    tf.compat.v1.disable_eager_execution()
    current, analysis = None, None
    for line in sys.stdin:
        file, question, answer = line.split()
        try:
            if file != current or analysis is None:
                analysis = None
                tf_keras.backend.clear_session()
                network, settings = from_bytes((folder / file).read_bytes())
                current, analysis = file, ReferenceAnalysis(network, settings["preset"], settings["until"])
            with np.load(folder / question, allow_pickle=False) as arrays:
                images, targets = arrays["images"], arrays["targets"]
            start = time.perf_counter()
            maps = analysis.maps(images, targets)
            seconds = time.perf_counter() - start
            np.savez(folder / answer, maps=maps, seconds=seconds, peak=_peak())
        except Exception as error:
            replies.write(" ".join(f"{type(error).__name__}: {error}".split()) + "\n")
        else:
            replies.write("done\n")
    # Who asked may have been killed, and then nobody else removes it.
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
