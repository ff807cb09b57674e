"""The process that runs iNNvestigate for `sweep.lrp.reference`: one folder, one line per question on stdin.

Each line names a question and an answer file in the folder; the reply on stdout is 'done' or what went wrong.
"""

import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sweep.lrp.layers import (
    AveragePool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    MaxPool,
    ReLU,
    ZeroPad,
)
from sweep.lrp.network import Network
from sweep.lrp.reference import load_network

ANALYZERS = {
    "preset_a": "lrp.sequential_preset_a",
    "preset_b": "lrp.sequential_preset_b",
    "preset_a_flat": "lrp.sequential_preset_a_flat",
    "preset_b_flat": "lrp.sequential_preset_b_flat",
    "preset_b_flat_until": "lrp.sequential_preset_b_flat_until_idx",
}


class ReferenceAnalysis:
    """The network as a flat legacy Keras model, and its analyzers."""

    def __init__(self, network: Network, preset: str, until: int | None) -> None:
        leading = 0
        while leading < len(network.layers) and isinstance(network.layers[leading], ZeroPad | Dropout):
            leading += 1
        # iNNvestigate drops the first layer's rule behind a padding, so the images come to it padded already.
        self._pads = [layer.padding for layer in network.layers[:leading] if isinstance(layer, ZeroPad)]
        self._model, keras_index = _model(network, leading)
        self._preset = preset
        self._settings = {} if until is None else {"until_layer_idx": keras_index[until]}
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
                ANALYZERS[self._preset], self._model, neuron_selection_mode=mode, **self._settings
            )
        return self._analyzers[mode]


def _model(network: Network, leading: int) -> tuple[Any, dict[int, int]]:
    """The layers from `leading` on as a legacy Keras model, and each one's index in it."""
    import tf_keras

    kinds = tf_keras.layers
    inputs = kinds.Input(network.shapes[leading])
    output = inputs
    weights, index = [], {}
    for position, layer in enumerate(network.layers[leading:], start=leading):
        if isinstance(layer, Conv):
            made = kinds.Conv2D(
                layer.kernel.shape[3],
                layer.kernel.shape[:2],
                strides=layer.stride,
                padding=layer.padding,
                dilation_rate=layer.dilation,
            )
        elif isinstance(layer, Dense):
            made = kinds.Dense(layer.bias.size)
        elif isinstance(layer, MaxPool):
            made = kinds.MaxPooling2D(layer.size, layer.stride, layer.padding)
        elif isinstance(layer, AveragePool):
            made = kinds.AveragePooling2D(layer.size, layer.stride, layer.padding)
        elif isinstance(layer, ReLU):
            made = kinds.Activation("relu")
        elif isinstance(layer, Flatten):
            made = kinds.Flatten()
        elif isinstance(layer, ZeroPad):
            made = kinds.ZeroPadding2D(layer.padding)
        else:
            made = kinds.Dropout(0.5)
        output = made(output)
        # The input layer is the model's layer 0.
        index[position] = position - leading + 1
        if isinstance(layer, Conv | Dense):
            weights += [layer.kernel, layer.bias]
    model = tf_keras.Model(inputs, output)
    model.set_weights(weights)
    return model, index


def main(folder: Path) -> None:
    """Answer questions until stdin ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    network, settings = load_network(folder / "network.npz")
    analysis = ReferenceAnalysis(network, settings["preset"], settings["until"])
    for line in sys.stdin:
        question, answer = line.split()
        try:
            with np.load(folder / question, allow_pickle=False) as arrays:
                images, targets = arrays["images"], arrays["targets"]
            start = time.perf_counter()
            maps = analysis.maps(images, targets)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            np.savez(folder / answer, maps=maps, seconds=seconds, peak=peak)
        except Exception as error:
            replies.write(" ".join(f"{type(error).__name__}: {error}".split()) + "\n")
        else:
            replies.write("done\n")
    # Who asked may have been killed, and then nobody else removes it.
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
