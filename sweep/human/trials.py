"""The trials of an experiment: which of two faces is most like a third, the two being choices of two conditions.

A test trial shows a target on which the rank-2 choices of the two conditions differ, and both choices (paper, section
3.4). A catch trial has a right answer and finds observers who do not look. A practice trial is never scored.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import pyarrow as pa

from sweep.analysis.queries import run_query
from sweep.errors import InputError
from sweep.human.lists import Design, Row, arranged
from sweep.human.tables import TRIALS, experiments, folder_of, write_table
from sweep.keys import generator, key_of
from sweep.plan import Plan
from sweep.stages import index_of_study
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store

PRACTICE = 3
"""Practice trials in front of each list."""


@dataclass(frozen=True)
class Experiment:
    """Trials, and what was counted when they were made."""

    experiment_id: str
    rows: pa.Table
    """Rows of the table `human_trials`."""
    alike: int
    """Targets for which both conditions choose the same class."""
    without_choice: int
    """Targets that no model of one of the conditions recognises."""
    without_picture: int
    """Targets of which a choice has no picture to be shown by."""
    known: bool
    """Whether the same trials were stored before."""

    @property
    def test(self) -> list[Row]:
        """The test trials of the first list."""
        rows: list[Row] = self.rows.to_pylist()
        return [row for row in rows if row["list"] == 1 and row["trial_type"] == "test"]


@dataclass(frozen=True)
class _Choices:
    """What the two conditions choose, by class of the target."""

    conditions: tuple[str, str]
    pictures: Mapping[str, int]
    """Position of the image that shows each class."""
    a: Mapping[str, Row]
    """Rows of the query `rank2` of the first condition."""
    b: Mapping[str, Row]

    def of(self, target: str) -> tuple[str | None, str | None]:
        return self.a[target]["choice"], self.b[target]["choice"]


def make_trials(plan: Plan, store: Store, conditions: tuple[str, str], design: Design) -> Experiment:
    """Make an experiment's trials and store them, unless they are stored already.

    A class is shown by its image with view_deg = 0, the first by name, or by its first image where no image has a view.
    Orders and sides are drawn from a key of the choices, so the same choices and design give the same trials.

    Raises InputError where the conditions or the design cannot be used, or a table that is read is not made yet.
    """
    design.check()
    task, choices = _choices(plan, store, conditions)
    counted = {"alike": 0, "without_choice": 0, "without_picture": 0}
    differing, others = [], []
    for target in choices.pictures:
        a, b = choices.of(target)
        if a is not None and b is not None and a != b and {a, b} <= choices.pictures.keys():
            differing.append(target)
            continue
        others.append(target)
        counted["without_choice" if a is None or b is None else "alike" if a == b else "without_picture"] += 1
    if len(differing) < design.blocks:
        raise InputError(
            f"the choices of {' and '.join(conditions)} differ for {len(differing)} of {len(choices.pictures)} targets; "
            f"{design.blocks} blocks need {design.blocks} (--blocks)"
        )
    labels = plan.images.labels(task)
    draws = generator("human trials", plan.images.keys, _votes(choices, differing), conditions)
    supply = cycle([*_shuffled(others, draws), *_shuffled(differing, draws)])
    trials = [
        *_practice(choices, islice(supply, PRACTICE), draws),
        *_catch(plan, labels, choices, islice(supply, design.catch), draws),
        *(_test(choices, target, number) for number, target in enumerate(differing, 1)),
    ]
    ids = plan.images.ids
    for trial in trials:
        trial["condition_a"], trial["condition_b"] = conditions
        for name in ("target_image", "image_a", "image_b"):
            trial[name] = ids[trial[name]]
    rows = list(arranged(trials, design, draws))
    keys = dict(zip(ids, plan.images.keys, strict=True))
    shown = sorted({trial[name] for trial in trials for name in ("target_image", "image_a", "image_b")})
    experiment_id = key_of("human trials", rows, [(image, keys[image]) for image in shown])
    table = pa.Table.from_pylist(
        [{"experiment_id": experiment_id, **row} for row in rows], schema=SCHEMAS[TRIALS]
    )
    known = experiment_id in experiments(store.files)
    if not known:
        write_table(store.files, experiment_id, TRIALS, table)
    return Experiment(experiment_id, table, known=known, **counted)


def address_of(store: Store, experiment: Experiment) -> str:
    """Folder of an experiment."""
    return f"{store.root}/{folder_of(experiment.experiment_id)}"


def _choices(plan: Plan, store: Store, conditions: tuple[str, str]) -> tuple[str, _Choices]:
    """The task of two conditions, and what they choose for each class that has a picture."""
    rows = run_query("rank2", store.root, index=index_of_study(plan)).to_pylist()
    tasks = {row["condition"]: row["task"] for row in rows}
    unknown = [name for name in conditions if name not in tasks]
    if unknown:
        raise InputError(
            *(
                f"--conditions: no condition of a task of more than two classes is called '{name}'; there are: "
                f"{', '.join(tasks) or 'none'}"
                for name in unknown
            )
        )
    if conditions[0] == conditions[1]:
        raise InputError(f"--conditions: '{conditions[0]}' cannot be compared with itself; name two")
    task = tasks[conditions[0]]
    if task != tasks[conditions[1]]:
        raise InputError(
            f"--conditions: '{conditions[0]}' is of the task {task} and '{conditions[1]}' of the task "
            f"{tasks[conditions[1]]}; name two of the same task"
        )
    pictures = _pictures(plan, task)
    shown = {plan.images.ids[position]: name for name, position in pictures.items()}
    chosen: dict[str, dict[str, Row]] = {name: {} for name in conditions}
    for row in rows:
        if row["condition"] in chosen and row["image_id"] in shown:
            chosen[row["condition"]][shown[row["image_id"]]] = row
    return task, _Choices(conditions, pictures, *(chosen[name] for name in conditions))


def _pictures(plan: Plan, task: str) -> dict[str, int]:
    """Position of the image that shows each class: frontal, or any where no image has a view; the first by name."""
    views, ids = plan.images.table["view_deg"].to_pylist(), plan.images.ids
    any_view = all(view is None for view in views)
    labels = plan.images.labels(task)
    pictures: dict[str, int] = {}
    for position in sorted(range(len(ids)), key=lambda i: ids[i]):
        if any_view or views[position] == 0:
            pictures.setdefault(labels[position], position)
    if not pictures:
        raise InputError(
            f"{plan.path}: no image has view_deg 0, so that no target can be shown from the front"
        )
    return dict(sorted(pictures.items()))


def _votes(choices: _Choices, targets: Sequence[str]) -> list[tuple[Any, ...]]:
    return [(target, *choices.of(target)) for target in targets]


def _test(choices: _Choices, target: str, number: int) -> Row:
    a, b = choices.a[target], choices.b[target]
    return {
        "trial_id": f"t{number:03d}",
        "trial_type": "test",
        "target": target,
        "target_image": choices.pictures[target],
        "option_a": a["choice"],
        "option_b": b["choice"],
        "image_a": choices.pictures[a["choice"]],
        "image_b": choices.pictures[b["choice"]],
        "votes_a": a["votes"],
        "n_models_a": a["n_models"],
        "votes_b": b["votes"],
        "n_models_b": b["n_models"],
        "ambiguous": a["tied"] or b["tied"],
    }


def _practice(choices: _Choices, targets: Iterable[str], draws: np.random.Generator) -> Iterator[Row]:
    """Trials without a right answer: a likely and an arbitrary option."""
    for number, target in enumerate(targets, 1):
        likely = next((name for name in choices.of(target) if name in choices.pictures), None)
        first = likely or _any_but(choices, target, (), draws)
        second = _any_but(choices, target, (first,), draws)
        yield _unscored(choices, f"p{number}", "practice", target, first, second)


def _catch(
    plan: Plan,
    labels: Sequence[str],
    choices: _Choices,
    targets: Iterable[str],
    draws: np.random.Generator,
) -> Iterator[Row]:
    """Trials whose option a shows the target itself: the next image of it, or the same where it has no other."""
    views, ids = plan.images.table["view_deg"].to_pylist(), plan.images.ids
    for number, target in enumerate(targets, 1):
        shown = choices.pictures[target]
        own = [i for i, label in enumerate(labels) if label == target and i != shown]
        right = min(own, key=lambda i: (abs(views[i] or 0), ids[i]), default=shown)
        wrong = _any_but(choices, target, choices.of(target), draws)
        row = _unscored(choices, f"c{number:02d}", "catch", target, target, wrong)
        yield {**row, "image_a": right, "expected": "a"}


def _unscored(choices: _Choices, trial_id: str, kind: str, target: str, a: str, b: str) -> Row:
    pictures = choices.pictures
    return {
        "trial_id": trial_id,
        "trial_type": kind,
        "target": target,
        "target_image": pictures[target],
        "option_a": a,
        "option_b": b,
        "image_a": pictures[a],
        "image_b": pictures[b],
    }


def _shuffled(names: Sequence[str], draws: np.random.Generator) -> list[str]:
    return [names[i] for i in draws.permutation(len(names))]


def _any_but(
    choices: _Choices, target: str, taken: Collection[str | None], draws: np.random.Generator
) -> str:
    """A class other than the target and, if there is one, than those that are taken."""
    others = [name for name in choices.pictures if name != target]
    return _shuffled([name for name in others if name not in taken] or others, draws)[0]
