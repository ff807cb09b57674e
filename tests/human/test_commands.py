"""From trials to a figure by the commands as they are typed, on simulated observers with a known preference."""

import csv
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from sweep.cli.human import human
from sweep.cli.invocation import invoke
from sweep.human.export import file_of
from sweep.human.tables import TRIALS, read_table
from sweep.report.answers import Answers
from sweep.report.people import answer_matrix, rows_of
from sweep.stages import index_of_study
from sweep.tracking import FINISHED, Tracker
from tests.human.conftest import CONDITIONS, Simulated, simulated_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A study with no other experiments."""
    return simulated_study(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def experiment(study: Simulated, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study with a run in MLflow, and an experiment of 30 observers, 2 of them careless."""
    tracker = Tracker(study.plan, str(study.results))
    tracker.close(FINISHED)
    assert not tracker.problems()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("rehearsal"))
        arguments = ["--conditions", *CONDITIONS, "--lists", "2", "--blocks", "2", "--catch", "5"]
        run("trials", study, *arguments)
        named = known(study)
        assert len(named) == 1
        (chosen,) = named
        run(
            "simulate",
            study,
            "--observers",
            "30",
            "--careless",
            "2",
            "--preference",
            "0.8",
            "--to",
            "journal.jsonl",
        )
        run("import", study, "journal.jsonl")
    return chosen


def run(command: str, study: Simulated, *more: str) -> None:
    path, *options = study.arguments
    assert invoke(["human", command, str(path), *more, *map(str, options)]) == 0


def known(study: Simulated) -> list[str]:
    return [folder.name for folder in (study.results / "small" / "human").iterdir()]


def test_a_known_preference_is_found_drawn_and_recorded(
    study: Simulated, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("score", study)
    said = capsys.readouterr()
    assert "MLflow was not told" not in said.err
    assert re.search(r"over observers and targets, they prefer the choices of first-identity \(t\(", said.out)
    # Nobody can take a rehearsal for a finding about people.
    assert "Rehearsal: 28 of 28 observers are simulated" in said.out
    assert "Simulated observers chose what first-identity finds most similar" in said.out
    assert "People chose" not in said.out
    assert "The paper's test, over observers alone" in said.out
    assert "Sessions left out: simulated-28 (0 of 5 catch trials right" in said.out
    assert "Logistic model with random observers and targets" in said.out
    assert "transfer index (Spearman" in said.out
    figure = study.results / "small" / "figures" / f"human_preference_{experiment}.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(f"sqlite:///{study.results}/mlflow.db")
    (found,) = client.search_runs(
        [own.experiment_id for own in client.search_experiments(filter_string="name = 'small'")]
    )
    assert found.data.metrics["human.crossed_preference"] > 0.6
    assert found.data.metrics["human.n_excluded"] == 2
    assert found.data.metrics["human.n_simulated"] == 28
    names = [file.path for file in client.list_artifacts(found.info.run_id, f"human/{experiment}")]
    assert {Path(name).name for name in names} >= {"preference.csv", "targets.csv", "models.csv"}


def test_psych_ds_describes_every_column(study: Simulated, experiment: str, tmp_path: Path) -> None:
    run("export", study, "--to", str(tmp_path / "shared"))
    (data,) = (tmp_path / "shared" / "data").iterdir()
    assert data.name == f"study-small_experiment-{experiment}_data.csv"
    described = json.loads((tmp_path / "shared" / "dataset_description.json").read_text())
    assert described["name"]
    assert described["description"].startswith("Sessions whose names begin with simulated- are no people.")
    with data.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [variable["name"] for variable in described["variableMeasured"]] == list(rows[0])
    assert all(variable["description"] for variable in described["variableMeasured"])
    assert [row["row_id"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    chosen = {row["condition_id"] for row in rows if row["trial_type"] == "test"}
    assert chosen == set(CONDITIONS)
    assert not (tmp_path / "shared" / "stimuli").exists()


def test_bids_has_a_file_per_participant_and_the_pictures_on_request(
    study: Simulated, experiment: str, tmp_path: Path
) -> None:
    target = tmp_path / "shared"
    run("export", study, "--form", "bids", "--stimuli", "--to", str(target))
    participants = (target / "participants.tsv").read_text().splitlines()[1:]
    assert participants == [f"sub-{number:04d}" for number in range(1, 31)]
    trials = read_table(study.store.files, experiment, TRIALS).to_pylist()
    for name in participants:
        stem = target / name / "beh" / f"{name}_task-similarity_beh"
        with stem.with_suffix(".tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert list(json.loads(stem.with_suffix(".json").read_text())) == list(rows[0])
        assert len(rows) == len(trials) // 2
        assert all(0.4 <= float(row["response_time"]) <= 2 for row in rows)
        assert {row["expected"] for row in rows} == {"a", "n/a"}
        for column in ("stim_file", "stim_file_a", "stim_file_b"):
            assert all((target / "stimuli" / row[column]).is_file() for row in rows)
    assert file_of("a/b c.png") == "a_b_c_png.png"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["score", "--experiment", "0123"], "--experiment 0123: there is no such; there are: "),
        (["export", "--to", "."], "--to .: holds files already; name a new folder"),
        (["simulate", "--to", __file__], "test_commands.py: is there already; name a new file"),
        (["import", "nowhere.jsonl"], "nowhere.jsonl: no such file or directory; name a file of answers"),
    ],
)
def test_bad_input_is_one_line(
    study: Simulated,
    experiment: str,
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, *options = map(str, study.arguments)
    assert invoke(["human", arguments[0], path, *arguments[1:], *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_power_says_that_targets_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["human", "power", "--studies", "100"]) == 0
    said = capsys.readouterr().out
    assert "Here more targets help more than observers" in said
    assert "46.0%" in said


def test_the_documented_commands_and_options_exist() -> None:
    text = (Path(__file__).parents[2] / "docs" / "human.md").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line.startswith("sweep human ")]
    assert {words[2] for words in lines} >= {"trials", "simulate", "import", "score", "power", "export"}
    for _, _, command, *words in lines:
        options = {option for parameter in human.commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_the_benchmark_of_transfer_correlates_as_the_query_does(study: Simulated, experiment: str) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "human_transfer_error.py"))
    choices, conditions, indices = script["read"](f"{study.results}/small", index_of_study(study.plan))
    answers = Answers(study.plan, study.store)
    shares = np.nanmean(answer_matrix(answers, experiment), axis=0)
    agreement = np.nanmean(
        np.where(np.isnan(choices), np.nan, np.where(choices == 1, shares, 1 - shares)), axis=1
    )
    compared = 0
    for row in rows_of(answers, experiment, "transfer"):
        x, y = agreement, indices[row["role"]]
        if row["scope"] == "within":
            x, y = (script["less_mean"](values, conditions) for values in (x, y))
        if row["rho"] is not None:
            assert script["spearman"](x.round(12), y.round(12)) == pytest.approx(row["rho"], abs=1e-9)
            compared += 1
    assert compared == 4
