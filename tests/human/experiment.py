"""A small experiment for tests: pictures, the table of trials, a page, and a collector as a process of its own."""

import functools
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import requests

from sweep.arrays import Array
from sweep.cli.invocation import invoke
from sweep.human.pages import page_files, page_texts, write_folder
from sweep.keys import generator
from sweep.storage.schemas import SCHEMAS
from tests.studies import SWEEP

EXPERIMENT = "0123456789abcdef0123"
CONTACT = "Vision lab, vision@example.org"
NOW = "2026-01-31T12:00:00.000Z"


@functools.cache
def pictures(count: int, size: int = 64) -> dict[str, Array]:
    """Blobs that differ, by image_id."""
    y, x = np.mgrid[0:size, 0:size] / size
    made: dict[str, Array] = {}
    for index in range(count):
        places = generator("picture", index).uniform(0.2, 0.8, (4, 2))
        blobs = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 0.01) for px, py in places)
        made[f"p{index:02d}"] = np.repeat(
            np.clip(50 + 150 * blobs, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2
        )
    return made


def trials(
    lists: int = 2, practice: int = 2, blocks: int = 2, in_block: int = 4, images: int = 12
) -> pa.Table:
    """Rows of human_trials: practice, then blocks whose last trial is a catch trial; sides balanced between lists."""
    ids = sorted(pictures(images))
    rows: list[dict[str, Any]] = []
    for number in range(1, lists + 1):
        for index in range(practice + blocks * in_block):
            place = index - practice
            kind = "practice" if place < 0 else "catch" if place % in_block == in_block - 1 else "test"
            target, a, b = (ids[(index * 3 + shift) % images] for shift in range(3))
            votes = {"votes_a": 3, "n_models_a": 5, "votes_b": 4, "n_models_b": 5, "ambiguous": False}
            rows.append(
                {
                    "experiment_id": EXPERIMENT,
                    "list": number,
                    "position": index + 1,
                    "block": 0 if place < 0 else 1 + place // in_block,
                    "trial_id": f"{kind}-{index:02d}",
                    "trial_type": kind,
                    "target": target,
                    "target_image": target,
                    "condition_a": "objects",
                    "condition_b": "faces",
                    "option_a": a,
                    "option_b": b,
                    "image_a": a,
                    "image_b": b,
                    "left": "ab"[(index + number) % 2],
                    "expected": "a" if kind == "catch" else None,
                }
                | (votes if kind == "test" else dict.fromkeys(votes))
            )
    return pa.Table.from_pylist(rows, schema=SCHEMAS["human_trials"])


@functools.cache
def files(**sizes: int) -> dict[str, bytes]:
    """Files of the experiment's page."""
    return page_files(trials(**sizes), pictures(12), CONTACT, page_texts())


def write_page(folder: Path, **sizes: int) -> Path:
    """Write the experiment's page into the folder `page`."""
    write_folder(folder / "page", files(**sizes))
    return folder / "page"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class CollectorProcess:
    """`sweep human collect` on a port that stays the same when it is started again."""

    def __init__(self, page: Path, journal: Path) -> None:
        self.page, self.journal = page, journal
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [SWEEP, "human", "collect", self.page, "--journal", self.journal, "--port", str(self.port)]
        secret = ["--secret", self.journal.with_suffix(".secret")]
        self.process = subprocess.Popen(
            [*map(str, command), *map(str, secret)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while True:
            try:
                requests.get(self.address, timeout=5).raise_for_status()
                return
            except requests.ConnectionError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(self.process.communicate()) from None
                time.sleep(0.1)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.communicate()

    def lines(self) -> list[dict[str, Any]]:
        """The journal, without its header."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()][1:]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["kind"] == kind]


@contextmanager
def running_collector(folder: Path, **sizes: int) -> Iterator[CollectorProcess]:
    """A collector that serves the experiment's page, until the end of the block."""
    collector = CollectorProcess(write_page(folder, **sizes), folder / "journal.jsonl")
    collector.start()
    try:
        yield collector
    finally:
        collector.kill()


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    output: str
    errors: str


def command(capture: pytest.CaptureFixture[str], *arguments: object) -> Said:
    """Run `sweep human` with these arguments in this process."""
    capture.readouterr()
    code = invoke(["human", *map(str, arguments)])
    output, errors = capture.readouterr()
    return Said(code, output, errors)


def session_request(session_id: str, observer: str | None = None, moment: str = NOW) -> dict[str, Any]:
    """What a page posts to begin a session at a moment."""
    return {
        "experiment_id": EXPERIMENT,
        "session_id": session_id,
        "observer": observer,
        "consented": moment,
        "started": moment,
    }


def response(session_id: str, trial: dict[str, Any], side: str = "left") -> dict[str, Any]:
    """A page's answer to one of its trials."""
    other = "b" if trial["left_is"] == "a" else "a"
    return {
        "kind": "response",
        "session_id": session_id,
        "trial_id": trial["trial_id"],
        "position": trial["position"],
        "onset": 1.5 * trial["position"],
        "response_time_ms": 612.5,
        "side": side,
        "choice": trial["left_is"] if side == "left" else other,
        "source": "key",
        "hidden": False,
        "resumed": False,
        "image_px": 224,
    }
