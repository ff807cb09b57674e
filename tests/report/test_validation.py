"""What a report says of masks that find what models look at, and of masks that cannot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.keys import generator
from sweep.plan import make_plan
from sweep.report.answers import Answers, answers_of
from sweep.report.page import PAGE, write_report
from sweep.report.validation import (
    answer,
    readings_table,
    transfer_findings,
    transfer_table,
    validation_table,
    verdict,
)
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.report.simulated import simulate
from tests.studies import write_small_study

SIDE = 32


def constant(model: str, images: Sequence[str]) -> Any:
    return np.ones((len(images), SIDE * SIDE), np.float32)


def noise(model: str, images: Sequence[str]) -> Any:
    return np.stack([generator("noise map", model, image).uniform(-1, 1, SIDE * SIDE) for image in images])


def blob(model: str, images: Sequence[str]) -> Any:
    distance = np.hypot(*(np.indices((SIDE, SIDE)) - (SIDE - 1) / 2))
    return np.tile(np.exp(-((distance / 8) ** 2)).ravel(), (len(images), 1))


@pytest.mark.parametrize("maps", [constant, noise, blob])
def test_maps_that_know_nothing_of_the_image_are_not_validated(tmp_path: Path, maps: Any) -> None:
    study = write_small_study(tmp_path).changed(
        relevance={"images": {"where": {}}},
        masking={"percents": [1, 10, 31.6], "fills": ["linear"], "controls": ["other_image"]},
    )
    plan = make_plan(study.path)
    store = Store(str(tmp_path / "results" / "small"))
    run_in_process(plan, store, maps=maps)
    answers = answers_of(plan, store)
    assert verdict(answers).startswith("Not validated in any of 4 kinds of model")
    assert answer(answers) == ""
    if maps is blob:  # figures take their time
        page = write_report(answers)[PAGE].decode()
        assert verdict(answers).replace("'", "&#39;") in page
        assert "no index: the own loss is not clearly above 0" in page
        assert "Transfer index of every destination" not in page


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    folder = tmp_path_factory.mktemp("validated")
    study = write_small_study(folder).changed(
        masking={
            "percents": [0, 1, 10, 31.6, 100],
            "fills": ["mean", "linear"],
            "controls": ["other_image", "scattered"],
        }
    )
    plan = make_plan(study.path)
    store = Store(str(folder / "results" / "small"))
    simulate(plan, store)
    return answers_of(plan, store)


def test_the_answer_takes_the_fill_and_the_control_that_the_queries_take(simulated: Answers) -> None:
    assert (simulated.paper_fill, simulated.answer_fill, simulated.answer_control) == (
        "mean",
        "linear",
        "other_image",
    )
    own = [row for row in simulated.transfer if row["relation"] == "same_init"]
    assert len(own) == 4 * 2 * 2
    passed = sum(
        row["validated"] for row in own if (row["fill"], row["control"]) == ("linear", "other_image")
    )
    said = verdict(simulated)
    assert said.startswith(f"Validated in {passed} of 4 kinds of model")
    mean = sum(row["validated"] for row in own if (row["fill"], row["control"]) == ("mean", "other_image"))
    assert said.endswith(f"By comparison: {mean} of 4 under the paper's fill mean.")


def test_every_index_stands_in_a_sentence_and_in_the_table(simulated: Answers) -> None:
    told = [sentence for finding in transfer_findings(simulated) for sentence in finding.sentences]
    rows = [
        row
        for row in simulated.transfer
        if (row["fill"], row["control"]) == ("linear", "other_image") and row["relation"] != "same_init"
    ]
    assert len(told) == len(rows)
    for row, sentence in zip(rows, told, strict=True):
        if row["transfer"] is not None:
            assert f"T = {row['transfer']:.2f} ({row['low']:.2f} to {row['high']:.2f})" in sentence
    assert "another initialisation" in answer(simulated)
    assert len(transfer_table(simulated).rows) == 2 * 2 * len(rows)
    assert len(validation_table(simulated).rows) == 4 * 2 * 2


def test_readings_are_compared_pair_by_pair(simulated: Answers) -> None:
    rows = [[cell.text for cell in row] for row in readings_table(simulated).rows]
    # Four bins beside the own one are the paper's three and, as a test of Fig. 5, none of another initialisation.
    assert len(rows) == 4 * 3
    names = {style.name: relation for relation, style in simulated.styles.relations.items()}
    for condition, source, paper, index, same in rows:
        (test,) = (
            row
            for row in simulated.pairwise["log"]
            if row["condition"] == condition
            and row["test"] == "paired"
            and {row["source_a"], row["source_b"]} == {"same_init", names[source]}
        )
        (transfer,) = (
            row
            for row in simulated.answered
            if (row["condition"], row["relation"]) == (condition, names[source])
        )
        verdicts = []
        if test["p_holm"] is not None:
            verdicts.append("apart" if test["p_holm"] < 0.05 else "not told apart")
            assert paper.startswith(f"{verdicts[-1]}, p ")
        if transfer["transfer"] is not None:
            verdicts.append("apart" if transfer["low"] > 1 or transfer["high"] < 1 else "not told apart")
            assert index.startswith(f"{verdicts[-1]}, T = ")
        expected = "cannot be said" if len(verdicts) < 2 else "yes" if len(set(verdicts)) == 1 else "no"
        assert same == expected


def test_kinds_that_fail_are_named(simulated: Answers) -> None:
    some = Answers(simulated.plan, simulated.store)
    failing = ("first-gender", "second-identity")
    some.__dict__["transfer"] = [
        {**row, "validated": row["validated"] is not None and row["condition"] not in failing}
        for row in simulated.transfer
    ]
    assert verdict(some).startswith("Validated in 2 of 4 kinds of model")
    assert "Not in first-gender, second-identity: there a mask does not tell" in verdict(some)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controls": []}, "Not validated: the study has no control"),
        ({"controls": ["scattered"], "fills": ["zero"]}, "more than random pixels (fill zero)"),
    ],
)
def test_studies_without_the_default_say_what_they_have(
    tmp_path: Path, changes: Mapping[str, Any], said: str
) -> None:
    study = write_small_study(tmp_path).changed(masking={"percents": [1, 10, 31.6], **changes})
    plan = make_plan(study.path)
    store = Store(str(tmp_path / "results" / "small"))
    simulate(plan, store)
    answers = answers_of(plan, store)
    assert said in verdict(answers)
    if not answers.plan.study.masking.controls:
        assert answer(answers) == ""
        assert transfer_findings(answers) == []
