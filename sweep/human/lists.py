"""The lists of an experiment: its trials in blocks, in an order and with sides of each list's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sweep.errors import InputError

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Design:
    """How the trials are arranged."""

    lists: int = 4
    """Even: each list has a twin with all sides exchanged."""
    blocks: int = 5
    """Parts of a list between which an observer can rest."""
    catch: int = 10
    """Catch trials in each list."""

    def check(self) -> None:
        """Raise InputError with a line per setting that cannot be used."""
        problems = []
        if self.lists < 2 or self.lists % 2:
            problems.append(
                f"--lists {self.lists}: sides balance over pairs of lists; give an even number of lists"
            )
        if self.blocks < 1:
            problems.append(f"--blocks {self.blocks}: give at least 1")
        if self.catch < 0:
            problems.append(f"--catch {self.catch}: give at least 0")
        if problems:
            raise InputError(*problems)


def arranged(trials: Sequence[Row], design: Design, draws: np.random.Generator) -> Iterator[Row]:
    """The trials of every list in order, with their sides; a list and its twin exchange all of them."""
    kinds = {kind: [t for t in trials if t["trial_type"] == kind] for kind in ("practice", "catch", "test")}
    for pair in range(design.lists // 2):
        left: dict[str, str] = {}
        for own in kinds.values():
            sides = ["ab"[(place + pair) % 2] for place in range(len(own))]
            for trial, side in zip(own, draws.permutation(sides).tolist(), strict=True):
                left[trial["trial_id"]] = side
        for twin, side_of in enumerate(({"a": "a", "b": "b"}, {"a": "b", "b": "a"})):
            position = 0
            for block, content in enumerate(_blocks(kinds, design.blocks, draws)):
                for trial in content:
                    position += 1
                    yield {
                        **trial,
                        "list": 2 * pair + twin + 1,
                        "position": position,
                        "block": block,
                        "left": side_of[left[trial["trial_id"]]],
                    }


def _blocks(
    kinds: Mapping[str, Sequence[Row]], count: int, draws: np.random.Generator
) -> Iterator[Sequence[Row]]:
    """Practice, then the blocks: as many test trials and as many catch trials in each as possible, in random order."""
    yield kinds["practice"]
    parts = {
        kind: [
            [kinds[kind][i] for i in part]
            for part in np.array_split(draws.permutation(len(kinds[kind])), count)
        ]
        for kind in ("test", "catch")
    }
    for test, catch in zip(parts["test"], parts["catch"], strict=True):
        both = [*test, *catch]
        yield [both[i] for i in draws.permutation(len(both))]
