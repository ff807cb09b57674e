"""Small real studies for tests: generated faces as PNG files with a manifest, narrow VGG-16 weights, a study file."""

import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sweep.keys import generator
from sweep.models.vgg import LAYERS

SWEEP = Path(sys.executable).parent / "sweep"
"""The command as a user types it."""
WIDTHS = (4, 4, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16)


@dataclass(frozen=True)
class SmallStudy:
    """A study file on disk, and its content."""

    path: Path
    content: dict[str, Any]

    def changed(self, **blocks: dict[str, Any]) -> "SmallStudy":
        """Write the study again with keys of some blocks changed."""
        content = {
            name: dict(block) if isinstance(block, dict) else block for name, block in self.content.items()
        }
        for name, changes in blocks.items():
            content[name] = {**content.get(name, {}), **changes}
        self.path.write_text(yaml.safe_dump(content, sort_keys=False))
        return SmallStudy(self.path, content)


def write_faces(folder: Path, identities: int = 6, views: int = 5, size: int = 32) -> Path:
    """Blobs that differ by identity and shift with view, as PNGs with a manifest; returns the manifest's path."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:size, 0:size] / size
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "identity", "gender", "view_deg", "hair"])
        for identity in range(identities):
            places = generator("test face", identity).uniform(0.2, 0.8, (5, 2))
            for view in range(views):
                shift = 0.02 * (view - views // 2)
                blobs = sum(np.exp(-((x - px - shift) ** 2 + (y - py) ** 2) / 0.01) for px, py in places)
                gender = "female" if identity % 2 else "male"
                pixels = np.clip(60 + 120 * blobs + (40 if identity % 2 else 0) * x, 0, 255).astype(np.uint8)
                name = f"p{identity:02d}-v{view}.png"
                Image.fromarray(pixels).save(folder / name)
                hair = "dark" if identity < identities // 2 else "fair"
                writer.writerow([name, f"p{identity:02d}", gender, 15 * (view - views // 2), hair])
    return folder / "manifest.csv"


def narrow_layers(name: str) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Random weights of a VGG-16 a sixteenth as wide, with non-zero biases."""
    draws, channels, layers = generator("narrow", name), 3, {}
    for layer, width in zip(LAYERS, WIDTHS, strict=True):
        kernel = draws.normal(0, np.sqrt(2 / (9 * channels)), (3, 3, channels, width)).astype(np.float32)
        layers[layer] = (kernel, draws.normal(0, 0.1, width).astype(np.float32))
        channels = width
    return layers


def narrow_arrays(name: str) -> dict[str, Any]:
    """`narrow_layers` under the names of the npz layout."""
    return {
        f"{layer}/{part}": array
        for layer, pair in narrow_layers(name).items()
        for part, array in zip(("kernel", "bias"), pair, strict=True)
    }


def write_weights(path: Path, name: str) -> Path:
    """Write `narrow_layers` in the npz layout."""
    np.savez(path, **narrow_arrays(name))
    return path


def write_small_study(folder: Path) -> SmallStudy:
    """2 backbones x 2 tasks x 2 seeds on 30 generated faces of 32 pixels; 6 of them get maps."""
    write_faces(folder / "faces")
    for name in ("first", "second"):
        write_weights(folder / f"{name}.npz", name)
    content = {
        "name": "small",
        "dataset": {"source": "manifest:faces/manifest.csv", "input_size": 32},
        "factors": {
            "pretraining": {"first": "npz:first.npz", "second": "npz:second.npz"},
            "task": ["identity", "gender"],
            "seed": [1, 2],
        },
        "finetune": {"epochs": 4, "batch_size": 8},
        "relevance": {"images": {"where": {"view_deg": 0}}},
        "masking": {"percents": [0, 1, 10, 31.6, 100], "fills": ["mean"], "controls": ["scattered"]},
    }
    return SmallStudy(folder / "study.yaml", content).changed()


def sweep(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder `cwd`."""
    return subprocess.run(
        [SWEEP, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=500, check=False
    )
