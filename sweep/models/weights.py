"""Where a backbone's weights come from, and what input they expect.

What the weights expect of their input (channel order, means) belongs to the source; a study may override it.
A source is written in the study file as one of

    bundled:NAME      weights inside the package (docs/backbones.md)
    npz:PATH          arrays blockB_convC/kernel and blockB_convC/bias, and optionally `preprocessing` as JSON
    keras:imagenet    VGG-16 of keras.applications, fetched once and checked against Keras' own hash
    keras:NAME        a network of keras.applications trained on ImageNet, as in keras:ResNet50
    keras:PATH        a model that Keras saved, .keras or .h5; or VGG-16's weights alone, in the layout of keras.applications
    torchvision:PATH  a state dict of torchvision's ResNet, VGG or AlexNet as .safetensors
    vggface:PATH      VGG-Face in the layout of keras-vggface, from a file or an http(s) address
    vggface2:PATH     VGGFace2's ResNet-50 in the same project's layout, from a file or an http(s) address
    random:SEED       untrained, at VGG-16's published width
    random:SEED:SOURCE  the network of another source, untrained, as in random:1:keras:faces.keras
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.data.decoding import is_file
from sweep.errors import InputError, has_password
from sweep.keys import generator, key_of, key_of_file
from sweep.lrp import DepthwiseConv, Layer, Network
from sweep.lrp.layers import WEIGHTED
from sweep.models.download import fetched
from sweep.models.hdf5 import check_hdf5, has_layer, read_layers
from sweep.models.keras_models import open_application, open_model, says_model
from sweep.models.network import backbone_network
from sweep.models.source import Layers, Preprocessing, WeightSource, no_readout
from sweep.models.torchvision import open_torchvision
from sweep.models.vgg import LAYERS, VGG16_WIDTHS, check_layers
from sweep.models.vggface2 import STEM, source_of_vggface2
from sweep.study import Pretraining, on_pixel_scale

KERAS_IMAGENET_MD5 = "6d6bbae143d832006294945121d1f1fc"
"""Hash of the file that keras.applications fetches, and checks itself; here it names the weights."""


def open_weights(pretraining: Pretraining, base: Path, level: str) -> WeightSource:
    """The weights that a level of the factor pretraining names; `base` is the study file's folder.

    Raises InputError where the kind is unknown or the file does not exist.
    """
    source = _opened(pretraining, base, f"factors.pretraining.{level}")
    return replace(source, preprocessing=source.preprocessing.overridden(pretraining))


def _opened(pretraining: Pretraining, base: Path, place: str) -> WeightSource:
    kind, _, location = pretraining.weights.partition(":")
    opener = _KINDS.get(kind)
    if opener is None or not location:
        raise InputError(f"{place}: '{pretraining.weights}' names no weights; use {', '.join(_FORMS)}")
    source = opener(location, base, place, pretraining)
    if pretraining.features is not None and source.is_vgg:
        raise InputError(
            f"{place}.features: the features of VGG-16 are those behind its last pool; leave this out"
        )
    return source


def file_of_weights(pretraining: Pretraining) -> str | None:
    """Path of the file that a level of the factor pretraining names, as it stands in the study file; None without one."""
    kind, _, location = pretraining.weights.partition(":")
    if kind == "random" and ":" in location:
        kind, _, location = location.partition(":")[2].partition(":")
    named = kind in ("npz", "vggface", "vggface2", "torchvision") or (kind == "keras" and is_path(location))
    return location if named and not location.startswith(("http://", "https://")) else None


def _bundled(name: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    folder = Path(__file__).parent / "bundled"
    known = sorted(path.stem for path in folder.glob("*.npz"))
    if name not in known:
        raise InputError(f"{place}: no bundled weights are named '{name}'; known: {', '.join(known)}")
    return _npz(f"{name}.npz", folder, place, given)


def _npz(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    path = base / location
    if not is_file(path):
        raise InputError(f"{place}: no weight file {path}")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            preprocessing = (
                _declared(json.loads(str(file["preprocessing"]))) if "preprocessing" in file else None
            )
            missing = [
                name for layer in LAYERS for name in (f"{layer}/kernel", f"{layer}/bias") if name not in file
            ]
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{place}: {path}: not a readable npz file of weights: {_line(error)}") from None
    if missing:
        raise InputError(f"{place}: {path}: lacks the array '{missing[0]}' ({len(missing)} missing in all)")

    def load() -> Layers:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                layers = {
                    layer: (_numbers(file, f"{layer}/kernel"), _numbers(file, f"{layer}/bias"))
                    for layer in LAYERS
                }
        except Exception as error:
            raise InputError(f"{place}: {path}: not a readable npz file of weights: {_line(error)}") from None
        check_layers(layers, f"{place}: {path}")
        return layers

    return _vgg(key_of_file(path), preprocessing or Preprocessing(), load)


def _vgg(key: str, preprocessing: Preprocessing, load: Callable[[], Layers]) -> WeightSource:
    return WeightSource(key, preprocessing, lambda size: backbone_network(load(), size))


def _numbers(file: Mapping[str, Array], name: str) -> Array:
    array = file[name]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"the array '{name}' holds {array.dtype}, not real numbers")
    with np.errstate(over="ignore"):  # found as not finite by check_layers
        return array.astype(np.float32)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _declared(content: Mapping[str, Any]) -> Preprocessing:
    unknown = sorted(content.keys() - {"channel_order", "mean", "scale"})
    if unknown:
        raise ValueError(f"preprocessing holds '{unknown[0]}', which is not known here")
    if content["channel_order"] not in ("RGB", "BGR"):
        raise ValueError(f"preprocessing names the channel order '{content['channel_order']}'")
    first, second, third = (float(mean) for mean in content["mean"])
    scale = float(content["scale"])
    if not np.isfinite([first, second, third, scale]).all():
        raise ValueError("preprocessing holds values that are not finite")
    if scale <= 0:
        raise ValueError(f"preprocessing multiplies by a scale of {scale:g}; it must be above 0")
    if not on_pixel_scale((first, second, third)):
        raise ValueError(
            f"preprocessing holds means {content['mean']} that are not on the scale of pixels, 0 to 255"
        )
    return Preprocessing(content["channel_order"], (first, second, third), scale)


def _keras(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    """A network of keras.applications, a file of one, or VGG-16 trained on ImageNet (Simonyan & Zisserman 2015)."""
    if location == "imagenet":
        return _keras_vgg16(place)
    if not is_path(location):
        return open_application(location, place, given)
    path = base / location
    if not is_file(path):
        raise InputError(f"{place}: no weight file {path}")
    if says_model(path):
        return open_model(path, place, given)
    return _hdf5(path, LAYERS, Preprocessing(), place)


def is_path(location: str) -> bool:
    """Whether what follows `keras:` is a file, not the name of a network, such as ResNet50."""
    return location != "imagenet" and not (location.isidentifier() and location[0].isupper())


def _keras_vgg16(place: str) -> WeightSource:
    def load() -> Layers:
        import keras

        # Whatever ~/.keras/keras.json says: half precision would round the weights without a word. Keras keeps the policy
        # of the first layer that a process makes, so the policy is set, too.
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        keras.config.set_image_data_format("channels_last")
        try:
            model = keras.applications.VGG16(include_top=False, weights="imagenet")
        except Exception as error:
            raise InputError(f"{place}: keras.applications cannot fetch its VGG-16: {error}") from None
        layers = {name: tuple(model.get_layer(name).get_weights()) for name in LAYERS}
        check_layers(layers, f"{place}: keras.applications")
        return {name: (kernel, bias) for name, (kernel, bias) in layers.items()}

    return _vgg(key_of("keras:imagenet", KERAS_IMAGENET_MD5), Preprocessing(), load)


def _vggface(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    """VGG-Face (Parkhi et al. 2015), converted to Keras: layers conv1_1 ... conv5_3, version-1 means."""
    names = [layer.replace("block", "conv").replace("_conv", "_") for layer in LAYERS]
    return _hdf5(
        _local(location, base, place), names, Preprocessing("BGR", (93.5940, 104.7624, 129.1863)), place
    )


def _vggface2(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    """The ResNet-50 trained on VGGFace2 (Cao et al. 2018), converted to Keras."""
    path = _local(location, base, place)
    if not is_file(path):
        raise InputError(f"{place}: no weight file {path}")
    return source_of_vggface2(path, place, given)


def _local(location: str, base: Path, place: str) -> Path:
    """A file of the study's folder, or a copy of what an address gives."""
    if has_password(location):
        raise InputError(
            f"{place}: '{location}' holds a password, and the study file is stored with the results; fetch the file yourself "
            "and name its path"
        )
    remote = location.startswith(("http://", "https://"))
    return fetched(location, place, check_hdf5) if remote else base / location


def _hdf5(path: Path, names: Sequence[str], preprocessing: Preprocessing, place: str) -> WeightSource:
    if not is_file(path):
        raise InputError(f"{place}: no weight file {path}")

    def load() -> Layers:
        if has_layer(path, STEM):
            raise InputError(f"{place}: {path}: holds VGGFace2's ResNet-50; name it as vggface2:PATH")
        stored = read_layers(path, names, place)
        layers = {layer: stored[name] for layer, name in zip(LAYERS, names, strict=True)}
        check_layers(layers, f"{place}: {path}")
        return layers

    return _vgg(key_of_file(path), preprocessing, load)


def _random(location: str, base: Path, place: str, given: Pretraining) -> WeightSource:
    """The untrained control: VGG-16, or another network, with He-normal kernels (He et al. 2015) and zero biases."""
    number, _, other = location.partition(":")
    if not number.isdecimal():
        raise InputError(f"{place}: 'random:{location}' needs a whole number, as in random:1")
    seed = int(number)
    if other:
        return _untrained(seed, _opened(given.model_copy(update={"weights": other}), base, place))

    def load() -> Layers:
        layers, channels = {}, 3
        for layer, width in zip(LAYERS, VGG16_WIDTHS, strict=True):
            deviation = np.sqrt(2 / (9 * channels))
            kernel = generator("random weights", seed, layer).normal(0, deviation, (3, 3, channels, width))
            layers[layer] = (kernel.astype(np.float32), np.zeros(width, np.float32))
            channels = width
        return layers

    return _vgg(key_of("random weights", seed), Preprocessing(), load)


def _untrained(seed: int, trained: WeightSource) -> WeightSource:
    """The layers of a network with random weights."""

    def network(size: int) -> Network:
        found = trained.network(size)
        layers = tuple(
            _drawn(layer, seed, index) if isinstance(layer, WEIGHTED) else layer
            for index, layer in enumerate(found.layers)
        )
        return Network(layers, found.input_shape, found.reads)

    key = key_of("random weights", seed, trained.key)
    return replace(trained, key=key, network=network, readout=no_readout)


def _drawn(layer: Layer, seed: int, index: int) -> Layer:
    assert isinstance(layer, WEIGHTED)
    fan_in = prod(layer.kernel.shape[:2] if isinstance(layer, DepthwiseConv) else layer.kernel.shape[:-1])
    kernel = generator("random weights", seed, index).normal(0, np.sqrt(2 / fan_in), layer.kernel.shape)
    return replace(layer, kernel=kernel.astype(np.float32), bias=np.zeros_like(layer.bias))


_KINDS: Mapping[str, Callable[[str, Path, str, Pretraining], WeightSource]] = {
    "bundled": _bundled,
    "npz": _npz,
    "keras": _keras,
    "vggface": _vggface,
    "vggface2": _vggface2,
    "torchvision": open_torchvision,
    "random": _random,
}
_FORMS = (
    "bundled:NAME",
    "npz:PATH",
    "keras:imagenet",
    "keras:NAME",
    "keras:PATH",
    "torchvision:PATH",
    "vggface:PATH",
    "vggface2:PATH",
    "random:SEED",
    "random:SEED:SOURCE",
)
