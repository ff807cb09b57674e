"""VGG-Face and keras.applications files, written here in exactly their layouts."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.lrp import forward
from sweep.models.network import backbone_network, keras_model
from sweep.models.vgg import LAYERS
from sweep.models.weights import open_weights
from sweep.study import Pretraining
from tests.studies import narrow_layers


def write_vggface(path: Path, skip: str = "") -> None:
    """The layout of rcmalli_vggface_tf_notop_vgg16.h5: layers conv1_1 ... conv5_3, pools without weights."""
    with h5py.File(path, "w") as file:
        names = []
        for layer, (kernel, bias) in narrow_layers("face").items():
            name = layer.replace("block", "conv").replace("_conv", "_")
            if name == skip:
                continue
            names.append(name)
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = kernel, bias
        for pool in range(1, 6):
            names.append(f"pool{pool}")
            file.create_group(f"pool{pool}").attrs["weight_names"] = np.array([], dtype="S1")
        file.attrs["layer_names"] = [name.encode() for name in names]


def write_keras_applications(path: Path) -> None:
    """The layout of vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5: arrays named block1_conv1_W_1:0 and so on."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in LAYERS]
        for layer, (kernel, bias) in narrow_layers("face").items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_W_1:0".encode(), f"{layer}_b_1:0".encode()]
            group[f"{layer}_W_1:0"], group[f"{layer}_b_1:0"] = kernel, bias


@pytest.mark.parametrize("kind", ["vggface", "keras"])
def test_a_forward_pass_with_the_file_read_equals_keras(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.h5"
    (write_vggface if kind == "vggface" else write_keras_applications)(path)
    source = open_weights(Pretraining(weights=f"{kind}:weights.h5"), tmp_path, "level")
    first_mean = {"vggface": 93.5940, "keras": 103.939}[kind]
    assert source.preprocessing.channel_order == "BGR"
    assert source.preprocessing.mean[0] == first_mean
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    inputs = source.preprocessing(pixels)
    features = forward(backbone_network(source.load(), 64), inputs)
    identity = np.eye(features.shape[1], dtype=np.float32)
    twin = keras_model(narrow_layers("face"), 64, identity, np.zeros(len(identity), np.float32))
    np.testing.assert_allclose(features, twin.predict(inputs, verbose=0), rtol=1e-4, atol=1e-3)


def test_a_missing_layer_and_a_file_of_another_kind_are_named(tmp_path: Path) -> None:
    write_vggface(tmp_path / "lacking.h5", skip="conv3_2")
    with pytest.raises(
        InputError, match=r"factors\.pretraining\.level: .*lacking\.h5: lacks the layer 'conv3_2'"
    ):
        open_weights(Pretraining(weights="vggface:lacking.h5"), tmp_path, "level").load()
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        open_weights(Pretraining(weights="vggface:text.h5"), tmp_path, "level").load()
    write_keras_applications(tmp_path / "other.h5")
    with pytest.raises(InputError, match="lacks the layer 'conv1_1'"):
        open_weights(Pretraining(weights="vggface:other.h5"), tmp_path, "level").load()


def test_layers_that_would_change_what_the_others_compute_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    write_keras_applications(path)
    with h5py.File(path, "a") as file:
        layers: dict[str, list[tuple[int, ...]]] = {"fc1": [(8, 4), (4,)], "no_bias": [(4, 2)], "dropout": []}
        for name, shapes in layers.items():
            arrays = {f"{name}_{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
            group = file.create_group(name)
            group.attrs["weight_names"] = [label.encode() for label in arrays]
            for label, array in arrays.items():
                group[label] = array
    source = open_weights(Pretraining(weights="keras:weights.h5"), tmp_path, "level")
    assert set(source.load()) == set(LAYERS)  # a head of dense layers is left out
    with h5py.File(path, "a") as file:
        group = file.create_group("block1_bn1")
        group.attrs["weight_names"] = [f"{part}:0".encode() for part in ("gamma", "beta", "mean", "variance")]
        for part in ("gamma", "beta", "mean", "variance"):
            group[f"{part}:0"] = np.ones(4, np.float32)
    with pytest.raises(InputError, match="holds the layer 'block1_bn1' beside those of VGG-16"):
        source.load()


def test_quantised_kernels_and_damaged_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    write_keras_applications(path)
    with h5py.File(path, "a") as file:
        group = file["block2_conv1"]
        kernel = np.asarray(group["block2_conv1_W_1:0"])
        del group["block2_conv1_W_1:0"]
        group["block2_conv1_W_1:0"] = kernel.astype(np.int8)
    source = open_weights(Pretraining(weights="keras:weights.h5"), tmp_path, "level")
    with pytest.raises(InputError, match=r"layer 'block2_conv1': .* holds int8, not floating-point numbers"):
        source.load()
    write_keras_applications(path)
    whole = path.read_bytes()
    for kept in range(0, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"weights\.h5: (not a readable HDF5 file|lacks the layer)"):
            open_weights(Pretraining(weights="keras:weights.h5"), tmp_path, "level").load()
