"""Backbones out of Keras: networks of keras.applications by name, and models that somebody has saved."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import InputError
from sweep.keys import key_of, key_of_file
from sweep.lrp import Dense, Network, from_keras
from sweep.models.source import Preprocessing, WeightSource
from sweep.study import Pretraining

CAFFE = Preprocessing()
CENTRED = Preprocessing("RGB", (127.5, 127.5, 127.5), 1 / 127.5)
STANDARD = Preprocessing("RGB", (123.675, 116.28, 103.53), 1.0, (58.395, 57.12, 57.375))
APPLICATIONS: Mapping[str, tuple[Preprocessing, int]] = {
    **dict.fromkeys(("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"), (CAFFE, 224)),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2", "MobileNet", "MobileNetV2"), (CENTRED, 224)),
    **dict.fromkeys(("InceptionV3", "Xception"), (CENTRED, 299)),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), (STANDARD, 224)),
}
"""Networks of keras.applications that the engine reads: their preprocessing, and the images that they were trained on."""
KEPT = 4
"""Networks that are kept once read: a plan reads them to check its composite, and a run to send them to its workers."""


def open_application(name: str, place: str, given: Pretraining) -> WeightSource:
    """A network of keras.applications trained on ImageNet. Raises InputError for one that is not known here."""
    if name not in APPLICATIONS:
        raise InputError(
            f"{place}: keras.applications' '{name}' is not among those that can be read; known: {', '.join(APPLICATIONS)}"
        )
    preprocessing, size = APPLICATIONS[name]

    def network(input_size: int) -> Network:
        with _placed(f"{place}: keras:{name}"):
            return _application(name, given.features, input_size)

    # Keras checks its files by hashes of its own, so the name stands for the weights.
    return WeightSource(key_of("keras", name, given.features), preprocessing, network, size, is_vgg=False)


def says_model(path: Path) -> bool:
    """Whether a file holds a whole Keras model, and not VGG-16's weights alone."""
    return path.suffix == ".keras" or _legacy_configuration(path) is not None


def open_model(path: Path, place: str, given: Pretraining) -> WeightSource:
    """A model that Keras 3 saved as .keras, or an earlier Keras as .h5.

    A first layer that rescales or normalises pixels is its preprocessing. Raises InputError where it is no such file.
    """
    where = f"{place}: {path}"
    layers = _layers_of(path, where)
    size = _input_size(layers)
    leading = (
        layers[1]
        if len(layers) > 1 and layers[1].get("class_name") in ("Rescaling", "Normalization")
        else None
    )
    preprocessing = (
        Preprocessing("RGB", (0.0, 0.0, 0.0)) if leading is None else _preprocessing(leading, where)
    )
    is_declared = leading is not None or (given.channel_order is not None and given.mean is not None)
    digest = key_of_file(path)

    def network(input_size: int) -> Network:
        if size not in (None, input_size):
            raise InputError(f"{where}: takes images of {size} px only; set dataset.input_size to {size}")
        with _placed(where):
            return _from_file(str(path), digest, given.features, leading is not None, input_size)

    def readout(input_size: int) -> Dense:
        with _placed(where):
            return _last_dense(str(path), digest)

    key = digest if given.features is None else key_of(digest, given.features)
    return WeightSource(key, preprocessing, network, size, is_declared, is_vgg=False, readout=readout)


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Open every line about a network with the file that it comes from, and close it with what to do."""
    try:
        yield
    except InputError as error:
        remedy = "; name an earlier layer in features, or save the model without it"
        raise InputError(
            *(
                f"{where}: {line.removeprefix('from_keras: ')}{remedy if ': layer' in line else ''}"
                for line in error.problems
            )
        ) from None


@lru_cache(maxsize=KEPT)
def _application(name: str, features: str | None, size: int) -> Network:
    import keras

    _plain_settings()
    # What stands before the classes; VGG's are read behind the last pool, as everywhere in this package.
    pooling = None if name.startswith("VGG") else "avg"
    try:
        model = getattr(keras.applications, name)(
            include_top=False, weights="imagenet", input_shape=(size, size, 3), pooling=pooling
        )
    except Exception as error:
        raise InputError(f"keras.applications cannot give it: {_line(error)}") from None
    return _cut(model, features, skip_first=False, size=size)


@lru_cache(maxsize=KEPT)
def _from_file(path: str, digest: str, features: str | None, skip_first: bool, size: int) -> Network:
    """The network of a file whose content has this `digest`."""
    return _cut(_loaded(path), features, skip_first=skip_first, size=size)


@lru_cache(maxsize=KEPT)
def _last_dense(path: str, digest: str) -> Dense:
    """The last dense layer of a file's model, where nothing but a softmax is made of what it gives out."""
    import keras

    layers = _loaded(path).layers
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense)), default=None)
    if last is None:
        raise InputError("readout: has no dense layer at its end; set readout to trained")
    behind = [*layers[last + 1 :], layers[last]]
    for layer in behind:
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if not isinstance(
            layer, keras.layers.Dense | keras.layers.Activation | keras.layers.Softmax | keras.layers.Dropout
        ):
            raise InputError(
                f"readout: layer '{layer.name}' comes behind its last dense layer; set readout to trained"
            )
        if name not in ("linear", "softmax"):
            raise InputError(
                f"readout: layer '{layer.name}' has the activation '{name}', so what it gives out are no logits of classes; "
                "set readout to trained"
            )
    kernel, bias = layers[last].kernel, layers[last].bias
    zeros = np.zeros(kernel.shape[-1], np.float32)
    return Dense(np.asarray(kernel), zeros if bias is None else np.asarray(bias), layers[last].name)


def _loaded(path: str) -> Any:
    import keras

    _plain_settings()
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"Keras cannot read it: {_line(error)}") from None


def _cut(model: Any, features: str | None, *, skip_first: bool, size: int) -> Network:
    """The part of a model from its input, or from behind its first layer, to its features."""
    import keras

    names = [layer.name for layer in model.layers]
    if features is not None and features not in names:
        raise InputError(
            f"features: no layer is named '{features}'; the last ones are {', '.join(names[-8:])}"
        )
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    start = model.layers[1].output if skip_first else model.inputs[0]
    if features is not None:
        end = model.get_layer(features).output
    else:
        end = dense[-1].input if dense else model.outputs[0]
    if start is end:
        raise InputError("has nothing before its last dense layer; name a later layer in features")
    if start is not model.inputs[0] or end is not model.outputs[0]:
        model = keras.Model(start, end)
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or shape[-1] != 3:
        raise InputError(f"takes {shape}, not colour images (height, width, 3)")
    return from_keras(model, (size, size, 3))


def _plain_settings() -> None:
    """Keras as it is by default, whatever ~/.keras/keras.json says: half precision would round the weights."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


def _layers_of(path: Path, where: str) -> list[Any]:
    """What a file says of its model's layers, without reading the weights."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                described = json.loads(archive.read("config.json"))
        else:
            described = json.loads(_legacy_configuration(path) or "{}")
        return list(described["config"]["layers"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{where}: not a Sequential or Functional model of Keras: {_line(error)}; save it by model.save('NAME.keras')"
        ) from None


def _legacy_configuration(path: Path) -> str | None:
    """The model that an HDF5 file describes; None where it is none, or holds weights alone."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("model_config")
            return found.decode() if isinstance(found, bytes) else found
    except OSError:
        return None


def _input_size(layers: list[Any]) -> int | None:
    """The only size of images that a model takes; None where it leaves it open."""
    settings = layers[0].get("config", {})
    shape = list(settings.get("batch_shape") or settings.get("batch_input_shape") or [])
    return int(shape[1]) if len(shape) == 4 and shape[1] and shape[1] == shape[2] else None


def _preprocessing(layer: Any, where: str) -> Preprocessing:
    """What a first layer makes of pixels, in RGB as Keras reads images."""
    settings = layer["config"]
    try:
        if layer["class_name"] == "Rescaling":
            scale, offset = (np.broadcast_to(np.float64(settings[name]), 3) for name in ("scale", "offset"))
            mean, deviation = -offset / scale, 1 / scale
        else:
            mean = np.broadcast_to(np.ravel(np.float64(settings["mean"])), 3)
            deviation = np.sqrt(np.broadcast_to(np.ravel(np.float64(settings["variance"])), 3))
        if not (np.isfinite([mean, deviation]).all() and (deviation > 0).all()):
            raise ValueError("it gives no finite numbers")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: its first layer '{settings.get('name')}' ({layer['class_name']}) cannot be read as a preprocessing: "
            f"{_line(error)}; save the model without it and give channel_order, mean and scale"
        ) from None
    means, deviations = (tuple(float(n) for n in part) for part in (mean, deviation))
    if len(set(deviations)) == 1:
        return Preprocessing("RGB", means, 1 / deviations[0])  # type: ignore[arg-type]
    return Preprocessing("RGB", means, 1.0, deviations)  # type: ignore[arg-type]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
