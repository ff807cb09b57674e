"""The process that runs zennit for `benchmarks.zennit_peer`, by the Python of another environment: it has PyTorch, not this package.

    python zennit_process.py network.npz FOLDER

The file is what `sweep.lrp.network_file.to_bytes` writes. Each line on stdin names the files of a question (images and a
class each) and an answer in the folder; the reply on stdout is 'done' or what went wrong.

Batch normalisations are folded already, and sums are zennit's own module for them: what its canonizers for torchvision's
ResNets come to.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import COMPOSITES
from zennit.layer import Sum


class Graph(nn.Module):  # type: ignore[misc]
    """A network as modules that read tensors by number; 0 is the input."""

    def __init__(self, modules: list[nn.Module], reads: list[list[int]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.reads = reads

    def forward(self, images: Any) -> Any:
        """Logits of images (image, channel, height, width)."""
        tensors = [images]
        for step, reads in zip(self.steps, self.reads, strict=True):
            given = [tensors[tensor] for tensor in reads]
            tensors.append(step(torch.stack(given, dim=-1) if isinstance(step, Sum) else given[0]))
        return tensors[-1]


class FlatByPlace(nn.Module):  # type: ignore[misc]
    """Flattens with the channels last, as the dense layer behind it was made for."""

    def forward(self, images: Any) -> Any:
        """(image, value) of (image, channel, height, width)."""
        return images.permute(0, 2, 3, 1).flatten(1)


def module(layer: dict[str, Any], kernel: Any, bias: Any) -> nn.Module:
    """A layer as a module. Raises ValueError for one that no network of the benchmark has."""
    kind: str = layer["kind"]
    padding: Any = layer.get("padding")
    if kind == "conv":
        rows, columns, n_in, n_out = kernel.shape
        if padding == "same" and (set(layer["stride"]) != {1} or rows % 2 == 0 or columns % 2 == 0):
            raise ValueError("padding by unequal numbers of zeros")
        pads = (rows // 2, columns // 2) if padding == "same" else (0, 0)
        made: Any = nn.Conv2d(n_in, n_out, (rows, columns), layer["stride"], pads, layer["dilation"])
        return filled(made, kernel.transpose(3, 2, 0, 1), bias)
    if kind == "dense":
        return filled(nn.Linear(*kernel.shape), kernel.T, bias)
    if kind == "zero_pad":
        (top, bottom), (left, right) = padding
        return nn.ZeroPad2d((left, right, top, bottom))
    if kind in ("max_pool", "average_pool") and padding == "valid":
        return (nn.MaxPool2d if kind == "max_pool" else nn.AvgPool2d)(layer["size"], layer["stride"])
    if kind == "relu" and layer["max_value"] is None:
        return nn.ReLU()
    if kind in ("add", "flatten"):
        return Sum() if kind == "add" else FlatByPlace()
    raise ValueError(f"a layer of the kind {kind} with the padding {padding}")


def filled(made: Any, kernel: Any, bias: Any) -> Any:
    """A module with its weights."""
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        made.bias.copy_(torch.from_numpy(bias))
    return made


def read(path: Path) -> tuple[Graph, str]:
    """The network of a file, and the composite to explain it by."""
    with np.load(path, allow_pickle=False) as arrays:
        described = json.loads(str(arrays["description"]))
        modules = [
            module(layer, arrays.get(f"{index}/kernel"), arrays.get(f"{index}/bias"))
            for index, layer in enumerate(described["layers"])
        ]
    return Graph(modules, described["reads"]).eval(), described["settings"]["composite"]


def main(path: Path, folder: Path) -> None:
    """Answer questions until stdin ends."""
    graph, name = read(path)
    with Gradient(graph, COMPOSITES[name]()) as attributor:
        for line in sys.stdin:
            question, answer = line.split()
            try:
                with np.load(folder / question, allow_pickle=False) as arrays:
                    images, classes = arrays["images"], arrays["classes"]
                start = time.perf_counter()
                inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
                places = torch.from_numpy(classes)[:, None]
                _, found = attributor(
                    inputs.requires_grad_(),
                    lambda logits, at=places: torch.zeros_like(logits).scatter(1, at, logits.gather(1, at)),
                )
                maps = found.sum(dim=1).detach().numpy()
                seconds = time.perf_counter() - start
                np.savez(folder / answer, maps=maps, seconds=seconds)
            except Exception as error:
                print(" ".join(f"{type(error).__name__}: {error}".split()), flush=True)
            else:
                print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
