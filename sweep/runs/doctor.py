"""Whether this machine can run studies: versions, GPUs, memory, results root, MLflow and Ray, a line each with its remedy."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweep.actors.address import check_address
from sweep.analysis.provenance import environment
from sweep.errors import SweepError
from sweep.storage.files import Files
from sweep.tracking import tracking_fault, tracking_uri

LEAST_MEMORY = 3e9
"""Bytes of free memory for one run on this machine: its own process, Ray's, and one worker of a small study."""
LEAST_DISK = 5e9
"""Bytes of free disk under a results root; a study of 20 models and 100 mapped images writes 0.1e9."""
LEAST_SHARED = 1e8
"""Bytes of shared memory that Ray's object store needs at least."""
GPU_PROBE = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


@dataclass(frozen=True)
class Check:
    """What was found about one thing."""

    subject: str
    found: str
    remedy: str = ""
    """What to do; empty where nothing is wrong."""

    @property
    def fine(self) -> bool:
        """Whether there is nothing to do."""
        return not self.remedy


def examine(results: str) -> list[Check]:
    """Look at everything that a run with this results root needs. Starts no Ray; leaves no file."""
    return [
        _versions(),
        _reference(),
        _gpus(),
        _memory(),
        _store(results),
        _mlflow(results),
        _ray(),
    ]


def _versions() -> Check:
    from packaging.requirements import Requirement

    found = environment()
    told = ", ".join(
        f"{name} {found[name]}"
        for name in ("python", "tensorflow", "ray", "mlflow", "duckdb")
        if name in found
    )
    wrong = []
    for text in importlib.metadata.requires("relevance-sweep") or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"'{wanted}'")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"'{wanted}'")
    remedy = f"pip install {' '.join(wrong)}" if wrong else ""
    return Check("versions", f"{told}, {platform.system()} {platform.machine()}", remedy)


def _reference() -> Check:
    try:
        return Check(
            "reference", f"iNNvestigate {importlib.metadata.version('innvestigate')}, for `sweep verify`"
        )
    except importlib.metadata.PackageNotFoundError:
        # Only `sweep verify` needs it, so nothing is wrong.
        return Check("reference", "no iNNvestigate; `sweep verify` needs it (docs/install.md)")


def _gpus() -> Check:
    """GPUs that the driver knows, against those that TensorFlow can use; TensorFlow starts in a process of its own."""
    there = _lines(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if not there:
        return Check("GPUs", "none; studies run on CPUs")
    usable = _lines([sys.executable, "-c", GPU_PROBE])
    count = int(usable[-1]) if usable and usable[-1].isdecimal() else 0
    remedy = (
        ""
        if count == len(there)
        else f"TensorFlow sees {count} of {len(there)}; pip install 'relevance-sweep[gpu]', and look at CUDA_VISIBLE_DEVICES"
    )
    return Check("GPUs", "; ".join(there), remedy)


def _lines(command: list[str]) -> list[str]:
    """What a command prints, by line; nothing where it fails or is not there."""
    if shutil.which(command[0]) is None:
        return []
    with suppress(subprocess.SubprocessError, OSError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return []


def _memory() -> Check:
    fields = {}
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, amount = line.partition(":")
            fields[name] = float(amount.split()[0]) * 1024
    if "MemAvailable" not in fields:
        return Check("memory", "this system does not say how much is free")
    free, total = fields["MemAvailable"], fields["MemTotal"]
    found = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, {os.cpu_count()} CPUs"
    return Check("memory", found, _least("memory", free, LEAST_MEMORY, "end other programs"))


def _store(results: str) -> Check:
    try:
        files = Files(results, patience=5)
        files.check_writable()
        names = files.folders_with("study.yaml")
        studies = f"{len(names)} stud{'y' if len(names) == 1 else 'ies'}"
        if not files.local:
            probe = f".doctor-{uuid.uuid4().hex}"
            files.write(probe, b"")
            files.delete(probe)
            return Check("results", f"{results} takes files; {studies}")
    except SweepError as error:
        return Check("results", results, " ".join(str(error).splitlines()))
    folder = next(place for place in (Path(files.base), *Path(files.base).parents) if place.is_dir())
    free = float(shutil.disk_usage(folder).free)
    found = f"{files.root} takes files; {studies}, {free / 1e9:.0f} GB free"
    return Check(
        "results",
        found,
        _least("disk", free, LEAST_DISK, "free some space, or name another folder with --results"),
    )


def _mlflow(results: str) -> Check:
    uri = tracking_uri(results)
    fault = tracking_fault(results)
    return Check("MLflow", uri, "" if fault is None else fault)


def _ray() -> Check:
    named = os.environ.get("RAY_ADDRESS")
    try:
        check_address(None)
    except SweepError as error:
        return Check("Ray", f"RAY_ADDRESS={named}" if named else "", " ".join(str(error).splitlines()))
    if named:
        return Check("Ray", f"runs join the cluster at {named}")
    found = "starts on this machine with each run"
    try:
        shared = float(shutil.disk_usage("/dev/shm").free)
    except OSError:
        return Check("Ray", found)
    told = f"{found}; {shared / 1e9:.1f} GB of shared memory"
    return Check(
        "Ray",
        told,
        _least("shared memory", shared, LEAST_SHARED, "in a container, start it with --shm-size=2g"),
    )


def _least(what: str, found: float, least: float, how: str) -> str:
    """The remedy where there is less than a run needs, or nothing."""
    return "" if found >= least else f"{least / 1e9:.1f} GB of {what} are needed; {how}"
