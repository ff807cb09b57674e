"""What the benchmarks share: VGG-16's weights, a clock, a memory gauge, and where a figure was measured."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sweep.arrays import Array
from sweep.models.source import Layers, Preprocessing
from sweep.models.weights import open_weights
from sweep.study import Pretraining

ROOT = Path(__file__).resolve().parents[1]
IMAGENET = ROOT.parent / "shared" / "data" / "weights" / "vgg16_imagenet_fp16.npz"
CAFFE = Preprocessing()


def vgg16_layers(name: str = "imagenet") -> Layers:
    """VGG-16's convolutions: ImageNet's where the file is at hand, else (and for 'untrained') random of the same size."""
    given = f"npz:{IMAGENET}" if name == "imagenet" and IMAGENET.is_file() else "random:1"
    return open_weights(Pretraining(weights=given), Path(), name).load()


def weights_name() -> str:
    """What `vgg16_layers` gives, in words."""
    return IMAGENET.name if IMAGENET.is_file() else "random"


def face_pixels(count: int, size: int) -> Array:
    """The first `count` frontal faces of the package, uint8 RGB (image, size, size, 3)."""
    from sweep.data.images import load_images
    from sweep.study import Dataset

    images = load_images(Dataset(source="bundled:heads", input_size=size), Path())
    frontal = [i for i, view in enumerate(images.table["view_deg"].to_pylist()) if view == 0]
    pixels: Array = images.pixels[np.resize(frontal, count)]
    return pixels


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each of `works` over rounds in which all take turns, after one round that does not count."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(own) for name, own in times.items()}


def peak_bytes(work: Callable[[], Any]) -> int:
    """Largest resident memory of this process while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the kernel's record of the peak
    work()
    return peak_of("self")


def peak_of(process: int | str) -> int:
    """Largest resident memory of a process so far, in bytes; what `getrusage` says of a child begins with its parent's."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def machine() -> dict[str, Any]:
    """Where and when, and by which commit, a figure was measured."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    commit = _git("describe", "--always", "--exclude", "*") or "unknown"
    # The figures themselves are written while the parts run.
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results.json", ":!docs/benchmarks.md")
    return {
        "machine": f"{os.cpu_count()} cores, {model or platform.machine()}, {_memory_gib():.0f} GiB",
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": f"{commit}-dirty" if changed else commit,
        "weights": weights_name(),
    }


def command_line(description: str | None, **numbers: int) -> argparse.ArgumentParser:
    """A parser with an option for each of `numbers`, by its default, and for where the figures go."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{default} by default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def tell(found: Mapping[str, Any], target: Path | None) -> None:
    """Print figures, and write them with where they were measured where asked."""
    print(json.dumps(found, indent=1))
    if target:
        target.write_text(json.dumps(machine() | dict(found), indent=1) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
