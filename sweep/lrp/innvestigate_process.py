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

from sweep.lrp.layers import (
    JOINS,
    WEIGHTED,
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    FloatArray,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    ReLU,
    Shape,
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
    "gradient": "gradient",
    "input_times_gradient": "input_t_gradient",
    "guided_backprop": "guided_backprop",
}


class ReferenceAnalysis:
    """The network as a flat legacy Keras model, and its analyzers."""

    def __init__(self, network: Network, preset: str, until: int | None) -> None:
        leading = 0
        while (
            leading < len(network.layers)
            and isinstance(network.layers[leading], ZeroPad | Dropout)
            and sum(read.count(leading) for read in network.reads) == 1
        ):
            leading += 1
        # iNNvestigate drops the first layer's rule behind a padding, so the images come to it padded already.
        self._pads = [layer.padding for layer in network.layers[:leading] if isinstance(layer, ZeroPad)]
        self._model = _model(network, leading)
        names = [layer.name for layer in self._model.layers]
        self._preset = preset
        self._settings = {} if until is None else {"until_layer_idx": names.index(_name(until))}
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


def _model(network: Network, leading: int) -> Any:
    """The layers from `leading` on as a legacy Keras model."""
    import tf_keras

    tensors = {leading: tf_keras.layers.Input(network.shapes[leading])}
    weights: dict[str, list[Any]] = {}
    for position in range(leading, len(network.layers)):
        layer, name = network.layers[position], _name(position)
        read = [tensors[tensor] for tensor in network.reads[position]]
        tensors[position + 1] = _made(layer, network.shapes[network.reads[position][0]], name)(
            read if isinstance(layer, JOINS) else read[0]
        )
        if isinstance(layer, WEIGHTED):
            weights[name] = [layer.kernel, layer.bias]
        elif isinstance(layer, LeakyReLU) and layer.slope.size > 1:
            weights[name] = [layer.slope]
    model = tf_keras.Model(tensors[leading], tensors[len(network.layers)])
    for name, arrays in weights.items():
        made = model.get_layer(name)
        made.set_weights([array.reshape(w.shape) for array, w in zip(arrays, made.weights, strict=True)])
    return model


def _name(position: int) -> str:
    """A name that is none of iNNvestigate's own."""
    return f"layer_{position}"


def _made(layer: Layer, before: Shape, name: str) -> Any:
    import tf_keras

    kinds = tf_keras.layers
    if isinstance(layer, Conv | DepthwiseConv):
        settings = {
            "kernel_size": layer.kernel.shape[:2],
            "strides": layer.stride,
            "padding": layer.padding,
            "dilation_rate": layer.dilation,
            "name": name,
        }
        if isinstance(layer, DepthwiseConv):
            return kinds.DepthwiseConv2D(depth_multiplier=layer.kernel.shape[3], **settings)
        return kinds.Conv2D(layer.kernel.shape[3], **settings)
    if isinstance(layer, Dense):
        return kinds.Dense(layer.bias.size, name=name)
    if isinstance(layer, MaxPool):
        return kinds.MaxPooling2D(layer.size, layer.stride, layer.padding, name=name)
    if isinstance(layer, AveragePool):
        return kinds.AveragePooling2D(layer.size, layer.stride, layer.padding, name=name)
    if isinstance(layer, ReLU):
        if layer.max_value is None:
            return kinds.Activation("relu", name=name)
        return kinds.ReLU(layer.max_value, name=name)
    if isinstance(layer, LeakyReLU):
        if layer.slope.size == 1:
            return kinds.LeakyReLU(float(layer.slope.ravel()[0]), name=name)
        # One slope per channel, or one per value.
        return kinds.PReLU(shared_axes=[1, 2] if layer.slope.size == before[-1] else None, name=name)
    if isinstance(layer, ZeroPad):
        return kinds.ZeroPadding2D(layer.padding, name=name)
    if isinstance(layer, Add):
        return kinds.Add(name=name)
    if isinstance(layer, Concatenate):
        return kinds.Concatenate(name=name)
    if isinstance(layer, Multiply):
        return kinds.Multiply(name=name)
    return kinds.Flatten(name=name) if isinstance(layer, Flatten) else kinds.Dropout(0.5, name=name)


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
                network, settings = load_network(folder / file)
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
