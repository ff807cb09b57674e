"""VGGFace2's ResNet-50: files that Keras 2 itself writes, in keras-vggface's names and with random weights, are read as it.

The published file was not at hand; its names and shapes are those that keras-vggface gives its layers.
"""

from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tf_keras import Model
from tf_keras import layers as k

from sweep.errors import InputError
from sweep.lrp import forward
from sweep.models.source import WeightSource
from sweep.models.weights import file_of_weights, open_weights
from sweep.plan import make_plan
from sweep.stages import masking
from sweep.storage.store import Store
from sweep.study import Pretraining
from tests.in_process import run_in_process
from tests.studies import SmallStudy, sweep

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
WIDTHS = {2: (3, 6), 3: (4, 8), 4: (5, 10), 5: (6, 12)}
"""Inner and outer channels of each stage; the published ones are 64 and 256 to 512 and 2048."""
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}


def normed(x: Any, name: str, width: int, size: int, stride: int = 1) -> Any:
    x = k.Conv2D(width, size, strides=stride, padding="same", use_bias=False, name=name)(x)
    return k.BatchNormalization(name=f"{name}/bn")(x)


def resnet50(*, top: bool) -> Any:
    """The network in Keras 2 by itself, with random weights and statistics."""
    start = k.Input((64, 64, 3))
    x = k.Activation("relu")(normed(start, "conv1/7x7_s2", 4, 7, 2))
    x = k.MaxPooling2D((3, 3), strides=(2, 2))(x)
    for stage, (inner, outer) in WIDTHS.items():
        for block in range(1, BLOCKS[stage] + 1):
            name, stride = f"conv{stage}_{block}", 2 if stage > 2 and block == 1 else 1
            y = k.Activation("relu")(normed(x, f"{name}_1x1_reduce", inner, 1, stride))
            y = k.Activation("relu")(normed(y, f"{name}_3x3", inner, 3))
            y = normed(y, f"{name}_1x1_increase", outer, 1)
            if block == 1:
                x = normed(x, f"{name}_1x1_proj", outer, 1, stride)
            x = k.Activation("relu")(k.add([y, x]))
    x = k.Flatten()(k.AveragePooling2D((2, 2), name="avg_pool")(x))
    model = Model(start, k.Dense(5, activation="softmax", name="classifier")(x) if top else x)
    draws = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([random(draws, w.name, tuple(w.shape)) for w in layer.weights])
    return model


def random(draws: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    if "variance" in name:
        return draws.uniform(0.3, 2, shape)
    return draws.standard_normal(shape) / np.sqrt(max(1, prod(shape[:-1])) / 2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vggface2")
    resnet50(top=False).save_weights(folder / "notop.h5")
    resnet50(top=True).save_weights(folder / "whole.h5")
    return folder


def opened(weights: str, base: Path, **settings: Any) -> WeightSource:
    return open_weights(Pretraining.model_validate({"weights": weights, **settings}), base, "level")


def changed(written: Path, target: Path, change: Any) -> Path:
    path = target / "weights.h5"
    path.write_bytes((written / "notop.h5").read_bytes())
    with h5py.File(path, "a") as file:
        change(file)
    return target


@pytest.mark.parametrize("name", ["notop", "whole"])
def test_features_are_those_of_keras_2(written: Path, name: str) -> None:
    with h5py.File(written / f"{name}.h5") as file:
        labels = file["conv1/7x7_s2"].attrs["weight_names"].tolist()
    assert labels in (["conv1/7x7_s2/kernel:0"], [b"conv1/7x7_s2/kernel:0"])
    source = opened(f"vggface2:{name}.h5", written)
    # Means of VGGFace2 in BGR, by hand.
    inputs = PIXELS[..., ::-1] - np.array([91.4953, 103.8827, 131.0912])
    np.testing.assert_allclose(source.preprocessing(PIXELS), inputs, atol=1e-4)
    wanted = resnet50(top=False).predict(inputs, verbose=0)
    found = forward(source.network(64), source.preprocessing(PIXELS))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert source.trained_size == 224
    assert source.network(224).output_shape == (12,)


def test_features_of_an_earlier_layer_and_its_untrained_twin(written: Path) -> None:
    early = opened("vggface2:notop.h5", written, features="conv4_6")
    assert early.network(64).output_shape == (4, 4, 10)
    whole, twin = opened("vggface2:notop.h5", written), opened("random:1:vggface2:notop.h5", written)
    assert len({early.key, whole.key, twin.key}) == 3
    assert twin.network(64).shapes == whole.network(64).shapes
    assert file_of_weights(Pretraining(weights="vggface2:notop.h5")) == "notop.h5"
    with pytest.raises(InputError, match=r"no layer is named 'conv6'; the last ones are .*conv5_3, avg_pool"):
        opened("vggface2:notop.h5", written, features="conv6").network(64)


def without_a_layer(file: Any) -> None:
    del file["conv3_2_3x3"]


def of_another_network(file: Any) -> None:
    group = file.create_group("conv2_1_1x1_down")
    group.attrs["weight_names"] = ["conv2_1_1x1_down/kernel:0"]
    group["conv2_1_1x1_down/kernel:0"] = np.ones((1, 1, 6, 2), np.float32)


def with_a_bias(file: Any) -> None:
    file["conv5_1_3x3"].attrs["weight_names"] = ["conv5_1_3x3/kernel:0", "conv5_1_3x3/bias:0"]
    file["conv5_1_3x3/conv5_1_3x3/bias:0"] = np.ones(6, np.float32)


def replaced(name: str, make: Any) -> Any:
    def change(file: Any) -> None:
        values = make(np.asarray(file[name]))
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without_a_layer,
            "lacks the layer 'conv3_2_3x3', so it does not hold VGGFace2's ResNet-50 in the layout of keras-vggface; a whole "
            "model that Keras saved is named as keras:PATH",
        ),
        (
            of_another_network,
            "holds the layer 'conv2_1_1x1_down' beside those of VGGFace2's ResNet-50, so it is another network",
        ),
        (
            with_a_bias,
            r"layer 'conv5_1_3x3' holds kernel, bias; expected kernel\. Load the file .* save that by model\.save\(",
        ),
        (
            replaced("conv2_2_3x3/conv2_2_3x3/kernel:0", lambda kernel: kernel[:, :, :2]),
            r"layer 'conv2_2_3x3': its kernel is \(3, 3, 2, 3\); expected \(3, 3, 3, n\)",
        ),
        (
            replaced("conv2_2_3x3/bn/conv2_2_3x3/bn/gamma:0", lambda gamma: gamma[:2]),
            r"layer 'conv2_2_3x3/bn': gamma is \(2,\), and the layer before it gives out 3 channels",
        ),
        (
            replaced("conv2_3_1x1_increase/bn/conv2_3_1x1_increase/bn/beta:0", lambda beta: beta * np.nan),
            "layer 'conv2_3_1x1_increase': it or its normalisation holds values that are not finite",
        ),
        (
            replaced("conv1/7x7_s2/conv1/7x7_s2/kernel:0", np.zeros_like),
            "layer 'conv1/7x7_s2': its kernel holds zeros only",
        ),
        (
            replaced("conv1/7x7_s2/conv1/7x7_s2/kernel:0", lambda kernel: kernel.astype(np.int8)),
            "layer 'conv1/7x7_s2': 'kernel' holds int8, not floating-point numbers",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_layer(
    written: Path, tmp_path: Path, change: Any, words: str
) -> None:
    changed(written, tmp_path, change)
    with pytest.raises(InputError, match=words) as refused:
        opened("vggface2:weights.h5", tmp_path).network(64)
    (line,) = refused.value.problems
    assert line.startswith(f"factors.pretraining.level: {tmp_path / 'weights.h5'}: ")


def test_either_face_network_names_the_others_source(written: Path, tmp_path: Path) -> None:
    for kind in ("keras", "vggface"):
        with pytest.raises(InputError, match="holds VGGFace2's ResNet-50; name it as vggface2:PATH"):
            opened(f"{kind}:notop.h5", written).network(64)
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match=r"text\.h5: not a readable HDF5 file of weights: "):
        opened("vggface2:text.h5", tmp_path).network(64)
    with pytest.raises(InputError, match="no weight file"):
        opened("vggface2:none.h5", tmp_path)


def test_a_whole_study_runs_on_it(written: Path, small_study: SmallStudy, tmp_path: Path) -> None:
    path = written / "notop.h5"
    levels = {"faces": f"vggface2:{path}", "untrained": f"random:1:vggface2:{path}"}
    study = small_study.changed(
        factors={"pretraining": levels, "seed": [1]}, masking={"percents": [0, 10], "controls": []}
    )
    plan, store = make_plan(study.path), Store(str(tmp_path / "results"))
    run_in_process(plan, store)
    rows = [row for units in masking.units(plan).values() for row in store.read(units).to_pylist()]
    assert {row["destination_id"].partition("-")[0] for row in rows} == set(levels)


def test_it_can_be_looked_at(written: Path) -> None:
    shown = sweep("models", "show", "vggface2:notop.h5", "--size", "64", cwd=written)
    assert shown.returncode == 0, shown.stderr
    for line in (
        "conv2_1_1x1_proj",
        "features: 12",
        "BGR, minus (91.4953, 103.883, 131.091)",
        "trained on images of 224 px",
    ):
        assert line in shown.stdout
