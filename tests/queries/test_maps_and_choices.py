"""Similarity of maps and rank-2 choices, against the same in pandas and on small made-up cases."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.analysis.queries import run_query
from sweep.storage.schemas import SCHEMAS
from tests.queries.simulated import Model, Study, factorial, relation, write, write_index

Votes = dict[tuple[str, str], dict[str, Any]]

SECONDS = {
    # image 0: pre0 chooses b twice, pre1 chooses c twice: they disagree
    ("img00", "pre0"): ["id01", "id01", "id02"],
    ("img00", "pre1"): ["id02", "id02", "id01"],
    # image 1: pre0 is tied between three and takes the highest logit; pre1 takes the same
    ("img01", "pre0"): ["id03", "id04", "id02"],
    ("img01", "pre1"): ["id04", "id04", "id04"],
    # image 2: one model of pre0 is wrong about the face, and none of pre1 is right
    ("img02", "pre0"): ["id05", "wrong", "id05"],
    ("img02", "pre1"): ["wrong", "wrong", "wrong"],
}


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    study = Study(factorial(2, 1, 3), percents=(1.0,), n_images=6)
    write(study, tmp_path)
    rows = []
    for (image, pretraining), seconds in SECONDS.items():
        true = "id" + image[3:]
        for seed, second in enumerate(seconds, start=1):
            first, second = (
                ("id00" if true != "id00" else "id09", true) if second == "wrong" else (true, second)
            )
            for rank, (name, logit) in enumerate([(first, 9.0), (second, 5.0 + (second == "id04"))], start=1):
                rows.append(
                    {
                        "model_id": f"{pretraining}-identity-s{seed}",
                        "image_id": image,
                        "rank": rank,
                        "class": name,
                        "logit": logit,
                    }
                )
    for path in (tmp_path / "predictions").iterdir():
        path.unlink()
    pq.write_table(
        pa.Table.from_pylist(rows, SCHEMAS["predictions"]), tmp_path / "predictions" / "one.parquet"
    )
    write_index(tmp_path)
    answer = run_query("rank2", str(tmp_path)).to_pylist()
    return {(row["image_id"], row["pretraining"]): row for row in answer}


def test_the_majority_chooses(votes: Votes) -> None:
    row = votes["img00", "pre0"]
    assert (row["target"], row["choice"], row["votes"], row["n_models"]) == ("id00", "id01", 2, 3)
    assert row["disagree"]
    assert not row["tied"]
    assert not row["ambiguous"]


def test_a_tie_is_told_and_goes_to_the_higher_logit(votes: Votes) -> None:
    row = votes["img01", "pre0"]
    assert (row["choice"], row["votes"], row["tied_classes"]) == ("id04", 1, "id02, id03, id04")
    assert row["tied"]
    assert votes["img01", "pre1"]["ambiguous"]
    assert not votes["img01", "pre1"]["tied"]
    assert not row["disagree"]


def test_models_that_mistake_the_face_do_not_vote(votes: Votes) -> None:
    some, none = votes["img02", "pre0"], votes["img02", "pre1"]
    assert (some["choice"], some["votes"], some["n_models"], some["n_wrong"]) == ("id05", 2, 2, 1)
    assert (none["choice"], none["votes"], none["n_models"], none["n_wrong"]) == (None, 0, 0, 3)
    assert none["disagree"] is None


def test_tasks_of_two_classes_are_shown_on_request(tmp_path: Path) -> None:
    write(Study(factorial(2, 2, 2), percents=(1.0,)), tmp_path)
    assert set(run_query("rank2", str(tmp_path))["task"].to_pylist()) == {"identity"}
    gender = run_query("rank2", str(tmp_path), {"task": "gender"}).to_pandas()
    assert set(gender["task"]) == {"gender"}
    assert set(gender["target"]) == {"f", "m"}


def test_similarity_by_relation(tmp_path: Path) -> None:
    study = Study(factorial(2, 2, 3), percents=(1.0,), n_images=4, seed=2)
    write(study, tmp_path)
    models = {model.model_id: model for model in study.models}
    maps = pd.read_parquet(tmp_path / "similarity")
    assert maps["pearson"].isna().any()
    maps["relation"] = [
        relation(models[a], models[b]) for a, b in zip(maps["model_a"], maps["model_b"], strict=True)
    ]
    maps["z"] = np.arctanh(maps["pearson"])
    pairs = maps.groupby(["relation", "model_a", "model_b"], as_index=False)[["pearson", "z"]].mean()
    expected = pairs.groupby("relation").agg(
        n_pairs=("pearson", "count"),
        pearson=("pearson", "mean"),
        pearson_sd=("pearson", "std"),
        z=("z", "mean"),
        pearson_min=("pearson", "min"),
        pearson_max=("pearson", "max"),
    )
    got = run_query("map_similarity", str(tmp_path)).to_pandas()
    total = got[got["condition_a"] == "all"].set_index("relation").loc[expected.index]
    for column in ("n_pairs", "pearson", "pearson_sd", "pearson_min", "pearson_max"):
        np.testing.assert_allclose(total[column], expected[column], rtol=1e-12, err_msg=column)
    np.testing.assert_allclose(total["pearson_fisher"], np.tanh(expected["z"]), rtol=1e-12)
    constant = maps.groupby("relation")["pearson"].agg(lambda values: values.isna().sum())
    assert total["n_constant"].tolist() == constant.loc[expected.index].tolist()
    each = got[got["condition_a"] != "all"]
    assert each["n_maps"].sum() == total["n_maps"].sum() == maps["pearson"].notna().sum()
    assert (each["condition_a"] <= each["condition_b"]).all()


def test_maps_that_are_all_constant_give_no_figure(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), percents=(1.0,)), tmp_path)
    for path in (tmp_path / "similarity").iterdir():
        table = pq.read_table(path)
        empty = pa.nulls(table.num_rows, pa.float64())
        pq.write_table(table.set_column(3, SCHEMAS["similarity"].field("pearson"), empty), path)
    got = run_query("map_similarity", str(tmp_path)).to_pandas()
    assert got["note"].str.startswith("no figure").all()
    assert got["pearson_fisher"].isna().all()


def test_angles_are_classes_as_well(tmp_path: Path) -> None:
    angles = [-105.0, 0.0, 7.3, 0.1]
    # As a plan names the classes of a task.
    classes = [str(float(np.float32(angle))) for angle in angles]
    models = [Model(f"pre-view_deg-s{seed}", "pre", "view_deg", seed) for seed in (1, 2)]
    write(Study(models, percents=(1.0,), n_images=4), tmp_path)
    (images, predictions) = (tmp_path / name for name in ("images", "predictions"))
    rows = pq.read_table(images).to_pylist()
    given = [row | {"view_deg": angle} for row, angle in zip(rows, angles, strict=True)]
    choices = [
        {
            "model_id": model.model_id,
            "image_id": row["image_id"],
            "rank": rank,
            "class": name,
            "logit": 1.0 / rank,
        }
        for model in models
        for index, row in enumerate(rows)
        for rank, name in enumerate([classes[index], classes[index - 1]], start=1)
    ]
    for folder, table, content in [(images, "images", given), (predictions, "predictions", choices)]:
        for path in folder.iterdir():
            path.unlink()
        pq.write_table(pa.Table.from_pylist(content, SCHEMAS[table]), folder / "one.parquet")
    write_index(tmp_path)
    answer = run_query("rank2", str(tmp_path)).to_pylist()
    assert [(row["target"], row["choice"], row["n_models"], row["n_wrong"]) for row in answer] == [
        (classes[index], classes[index - 1], 2, 0) for index in range(4)
    ]


def test_own_and_permuted_maps_are_correlated_by_model(tmp_path: Path) -> None:
    study = Study(factorial(2, 1, 2), controls={"randomized": 3}, seed=4)
    write(study, tmp_path)
    own, permuted = (pd.read_parquet(tmp_path / table) for table in ("relevance", "randomized"))
    pairs = permuted.merge(own, on=["model_id", "image_id"], suffixes=("", "_own"))
    pairs["r"] = [
        np.nan if np.ptp(a) == 0 else np.corrcoef(np.abs(a), np.abs(b))[0, 1]
        for a, b in zip(pairs["map_own"], pairs["map"], strict=True)
    ]
    draws = pairs.groupby(["model_id", "draw"])["r"].mean().groupby("model_id")
    got = run_query("randomized", str(tmp_path)).to_pandas().set_index("model_id")
    assert len(got) == len(study.models)
    first = study.models[0].model_id
    assert (got["n_draws"] == 3).all()
    assert got["n_constant"].to_dict() == {name: 3 * (name == first) for name in got.index}
    assert (got["n_maps"] + got["n_constant"] == 9).all()
    for column, expected in (
        ("pearson", draws.mean()),
        ("pearson_sd", draws.std()),
        ("pearson_min", draws.min()),
        ("pearson_max", draws.max()),
    ):
        np.testing.assert_allclose(got[column], expected.loc[got.index], rtol=1e-9, atol=1e-12)
    write(Study(factorial(1, 1, 2)), tmp_path / "without")
    assert run_query("randomized", str(tmp_path / "without")).num_rows == 0
