"""State dicts in torchvision's layouts against a plain NumPy rendering of the networks, channels first as PyTorch has them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.arrays import Array
from sweep.errors import InputError
from sweep.lrp import forward
from sweep.models.source import WeightSource
from sweep.models.weights import open_weights
from sweep.plan import make_plan
from sweep.study import Pretraining
from tests.studies import SmallStudy

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


def write(path: Path, arrays: dict[str, Array]) -> None:
    """The format of safetensors: the header's length, the header, the arrays."""
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    content = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


class Draws:
    """Arrays of a state dict as they are asked for."""

    def __init__(self) -> None:
        self.rng, self.arrays = np.random.default_rng(1), dict[str, Array]()

    def conv(self, name: str, n_in: int, n_out: int, size: int, *, bias: bool) -> None:
        self.weight(f"{name}.weight", (n_out, n_in, size, size))
        if bias:
            self.weight(f"{name}.bias", (n_out,))

    def weight(self, name: str, shape: tuple[int, ...]) -> None:
        values = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        self.arrays[name] = values.astype(np.float32)

    def norm(self, name: str, n: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            self.weight(f"{name}.{part}", (n,))
        self.arrays[f"{name}.running_var"] = self.rng.uniform(0.5, 2, n).astype(np.float32)


def conv(x: Array, w: Array, stride: int, pad: int) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    views = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    found: Array = np.einsum("nchwij,ocij->nohw", views, w, optimize=True)
    return found


def norm(x: Array, arrays: dict[str, Array], name: str) -> Array:
    weight, bias, mean, variance = (
        arrays[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    result: Array = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    return result


def pool(x: Array, size: int, pad: int = 0) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::2, ::2]
    return np.asarray(views.max(axis=(4, 5)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def resnet(*, bottleneck: bool) -> tuple[dict[str, Array], Any]:
    made, sizes = Draws(), ((1, 3, 1) if bottleneck else (3, 3))
    made.conv("conv1", 3, 4, 7, bias=False)
    made.norm("bn1", 4)
    n = 4
    for stage in range(1, 5):
        for block in range(2 if stage < 3 else 1):
            name, out = f"layer{stage}.{block}", 4 + stage
            widths = [n, *([out // 2] * (len(sizes) - 1)), out]
            for index, size in enumerate(sizes):
                made.conv(f"{name}.conv{index + 1}", widths[index], widths[index + 1], size, bias=False)
                made.norm(f"{name}.bn{index + 1}", widths[index + 1])
            if n != out:
                made.conv(f"{name}.downsample.0", n, out, 1, bias=False)
                made.norm(f"{name}.downsample.1", out)
            n = out
    made.weight("fc.weight", (3, n))
    made.weight("fc.bias", (3,))
    arrays = made.arrays

    def run(x: Array) -> Array:
        x = pool(relu(norm(conv(x, arrays["conv1.weight"], 2, 3), arrays, "bn1")), 3, 1)
        for stage in range(1, 5):
            for block in range(2 if stage < 3 else 1):
                name, y = f"layer{stage}.{block}", x
                stride = 2 if stage > 1 and block == 0 else 1
                for index, size in enumerate(sizes):
                    own = stride if index == (1 if bottleneck else 0) else 1
                    y = conv(y, arrays[f"{name}.conv{index + 1}.weight"], own, size // 2)
                    y = norm(y, arrays, f"{name}.bn{index + 1}")
                    y = relu(y) if index + 1 < len(sizes) else y
                if f"{name}.downsample.0.weight" in arrays:
                    x = norm(
                        conv(x, arrays[f"{name}.downsample.0.weight"], stride, 0),
                        arrays,
                        f"{name}.downsample.1",
                    )
                x = relu(y + x)
        return np.asarray(x.mean(axis=(2, 3)))

    return arrays, run


def stack(*, alexnet: bool, norms: bool = False) -> tuple[dict[str, Array], Any]:
    made = Draws()
    if alexnet:
        plan = [
            (0, 11, 4, 2, True),
            (3, 5, 1, 2, True),
            (6, 3, 1, 1, False),
            (8, 3, 1, 1, False),
            (10, 3, 1, 1, True),
        ]
    else:
        step = 3 if norms else 2
        places, index = [], 0
        for pooled in (False, True, True, False, True):
            places.append((index, 3, 1, 1, pooled))
            index += step + pooled
        plan = places
    n = 3
    for index, size, _, _, _ in plan:
        made.conv(f"features.{index}", n, 4 + index % 3, size, bias=True)
        n = 4 + index % 3
        if norms:
            made.norm(f"features.{index + 1}", n)
    side = 1 if alexnet else 8
    for index, shape in ((1, (6, n * side * side)), (4, (5, 6)), (6, (3, 5))):
        made.weight(f"classifier.{index}.weight", shape)
        made.weight(f"classifier.{index}.bias", shape[:1])
    arrays = made.arrays

    def run(x: Array) -> Array:
        for index, _, stride, pad, pooled in plan:
            x = conv(x, arrays[f"features.{index}.weight"], stride, pad)
            x = x + arrays[f"features.{index}.bias"][:, None, None]
            x = relu(norm(x, arrays, f"features.{index + 1}") if norms else x)
            x = pool(x, 3 if alexnet else 2) if pooled else x
        x = x.reshape(len(x), -1)
        for index in (1, 4):
            x = relu(x @ arrays[f"classifier.{index}.weight"].T + arrays[f"classifier.{index}.bias"])
        return x

    return arrays, run


LAYOUTS = {
    "ResNet-18": lambda: resnet(bottleneck=False),
    "ResNet-50": lambda: resnet(bottleneck=True),
    "VGG": lambda: stack(alexnet=False),
    "VGG with normalisations": lambda: stack(alexnet=False, norms=True),
    "AlexNet": lambda: stack(alexnet=True),
}


def opened(folder: Path, **settings: Any) -> WeightSource:
    given = {"weights": "torchvision:net.safetensors", **settings}
    return open_weights(Pretraining.model_validate(given), folder, "level")


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_are_those_of_the_layout(tmp_path: Path, name: str) -> None:
    arrays, run = LAYOUTS[name]()
    write(tmp_path / "net.safetensors", arrays)
    source = opened(tmp_path)
    inputs = source.preprocessing(PIXELS)
    # ToTensor, then Normalize with ImageNet's means and deviations.
    wanted = (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(inputs, wanted, atol=1e-5)
    expected = run(wanted.transpose(0, 3, 1, 2))
    found = forward(source.network(64), inputs)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_what_is_lacking_or_of_another_kind_is_named(tmp_path: Path) -> None:
    arrays, _ = LAYOUTS["ResNet-50"]()
    path = tmp_path / "net.safetensors"
    write(path, {name: array for name, array in arrays.items() if name != "layer2.0.bn1.running_mean"})
    with pytest.raises(InputError, match=r"level: .*lacks the array 'layer2\.0\.bn1\.running_mean'"):
        opened(tmp_path).network(64)
    write(path, {**arrays, "layer1.0.conv2.weight": arrays["layer1.0.conv2.weight"][:, :1]})
    with pytest.raises(InputError, match=r"layer 'layer1\.0\.conv2' has groups"):
        opened(tmp_path).network(64)
    write(path, {**arrays, "conv1.weight": arrays["conv1.weight"] * np.float32(np.nan)})
    with pytest.raises(InputError, match=r"'conv1.weight' holds values that are not finite"):
        opened(tmp_path).network(64)
    write(path, {"blocks.0.attn.qkv.weight": np.ones((3, 3), np.float32)})
    with pytest.raises(
        InputError, match=r"holds no ResNet, VGG or AlexNet of torchvision; its arrays begin with blocks.0"
    ):
        opened(tmp_path).network(64)
    for content in (b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"level: .*net\.safetensors: not a readable safetensors file"):
            opened(tmp_path).network(64)
    (tmp_path / "net.pth").touch()
    with pytest.raises(InputError, match=r"are read as .safetensors, which hold no code; save it with"):
        opened(tmp_path, weights="torchvision:net.pth")


def test_dense_layers_fix_the_size_and_features_may_lie_before_them(tmp_path: Path) -> None:
    arrays, _ = LAYOUTS["VGG"]()
    write(tmp_path / "net.safetensors", arrays)
    with pytest.raises(
        InputError, match=r"layer 'classifier\.1' takes 320 values, and 4 x 4 x 5 arrive; set"
    ):
        opened(tmp_path).network(32)
    assert opened(tmp_path, features="pool10").network(64).output_shape == (8, 8, 5)
    with pytest.raises(InputError, match="no layer is named 'pool3'; the last ones are"):
        opened(tmp_path, features="pool3").network(64)


def test_a_study_says_that_a_network_was_trained_on_other_sizes(
    small_study: SmallStudy, tmp_path: Path
) -> None:
    write(tmp_path / "net.safetensors", LAYOUTS["ResNet-18"]()[0])
    levels = {"resnet": "torchvision:net.safetensors", "first": "npz:first.npz"}
    plan = make_plan(small_study.changed(factors={"pretraining": levels}).path)
    (note,) = [note for note in plan.notes if note.startswith("factors.")]
    assert note.startswith("factors.pretraining.resnet: was trained on images of 224 px and sees 32 px here")
    assert plan.load_networks()["resnet"].output_shape == (8,)
