"""What the queries call a bin, an area and a draw, against the same written in pandas."""

from hashlib import md5
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from sweep.analysis.queries import run_query
from tests.queries.simulated import Study, expected_auc, factorial, relation, studies, write


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study of the paper's design: 20 models and three random masks."""
    study, root = Study(factorial(), n_random=3), tmp_path_factory.mktemp("paper")
    write(study, root)
    return study, root


def answer(name: str, root: Path, **parameters: str | int) -> pd.DataFrame:
    frame: pd.DataFrame = run_query(name, str(root), parameters).to_pandas()
    return frame


@settings(deadline=None, max_examples=25)
@given(studies())
def test_bins_and_areas_of_any_study(tmp_path_factory: pytest.TempPathFactory, study: Study) -> None:
    root = tmp_path_factory.mktemp("study")
    write(study, root)
    got = answer("bins", root, draws=7)
    expected = expected_auc(root, study)
    both = got.merge(expected, on=["condition", "destination_id", "relation"], suffixes=("", "_expected"))
    assert len(both) == len(got) == len(expected)
    np.testing.assert_allclose(both["auc_log"], both["auc"], rtol=1e-12)
    np.testing.assert_allclose(both["auc_linear"], both["auc_linear_expected"], rtol=1e-12)
    assert (both["task"] == both["task_expected"]).all()
    assert (both["extra"] == both["extra_expected"]).all()
    assert (both["n_draws"] == 7).all()


def test_every_pair_has_the_bin_of_the_contract(tmp_path: Path) -> None:
    study = Study(factorial(2, 2, 2, {"head": 2, "augment": 2}), percents=(1.0, 10.0), n_images=2)
    write(study, tmp_path)
    models = {model.model_id: model for model in study.models}
    got = answer("auc", tmp_path)
    assert len(got) == len(study.sources) * len(models)
    for source, destination, bin_ in got[["source_id", "destination_id", "relation"]].itertuples(index=False):
        expected = relation(models[source], models[destination]) if source in models else "random"
        assert bin_ == expected
    assert "pre0-identity-tnemgua0-daeh1" in set(got["condition"])
    assert {"other_both", "other_augment_head", "other_head_pretraining_task"} <= set(got["relation"])


def test_a_level_that_is_not_given_counts_as_a_level(tmp_path: Path) -> None:
    study = Study(factorial(1, 1, 2, {"head": 2}), percents=(1.0, 10.0), n_images=2)
    write(study, tmp_path)
    for path in (tmp_path / "models").iterdir():
        table = pq.read_table(path).to_pandas()
        table["head"] = table["head"].where(table["head"] == "daeh1", None)
        pq.write_table(pq.read_table(path).from_pandas(table, schema=pq.read_schema(path)), path)
    got = answer("auc", tmp_path)
    assert set(got["condition"]) == {"pre0-identity-none", "pre0-identity-daeh1"}
    assert {"other_head", "same_task_same_pretraining"} <= set(got["relation"])


def test_a_pair_that_lacks_a_level_enters_no_bin(paper: tuple[Study, Path], tmp_path: Path) -> None:
    study, _ = paper
    lost = (study.models[1].model_id, study.models[0].model_id)
    write(study, tmp_path)
    for path in (tmp_path / "masked").iterdir():
        table = pd.read_parquet(path)
        gone = (
            (table["source_id"] == lost[0]) & (table["destination_id"] == lost[1]) & (table["percent"] == 10)
        )
        pq.write_table(pq.read_table(path).filter(~gone.to_numpy()), path)
    pairs = answer("auc", tmp_path)
    incomplete = pairs[~pairs["complete"]]
    assert incomplete[["source_id", "destination_id"]].to_numpy().tolist() == [list(lost)]
    assert "sweep run" in incomplete["note"].iloc[0]
    bins = answer("bins", tmp_path).set_index(["destination_id", "relation"])["n_sources"]
    assert bins[lost[1], "same_task_same_pretraining"] == 3


def test_area_of_a_model_that_is_never_hurt_is_one(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), accuracy=lambda *_: 2.0), tmp_path)
    got = answer("auc", tmp_path)
    np.testing.assert_allclose(got["auc_log"], 1.0, rtol=1e-15)
    np.testing.assert_allclose(got["auc_linear"], 1.0, rtol=1e-15)


def test_one_level_has_no_area_and_says_so(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 2), percents=(10.0,)), tmp_path)
    got = answer("auc", tmp_path)
    assert got["auc_log"].isna().all()
    assert got["note"].str.contains("two masking levels").all()
    assert answer("anova_source", tmp_path)["note"].str.startswith("no test").all()


def test_draws_are_those_of_md5_and_change_with_the_seed(paper: tuple[Study, Path]) -> None:
    study, root = paper
    pairs = answer("auc", root).set_index(["destination_id", "relation", "source_id"])["auc_log"].sort_index()
    destination, bin_ = study.models[0].model_id, "other_both"
    sources = sorted(pairs.loc[destination, bin_].index)

    def drawn(seed: int) -> float:
        total = 0.0
        for draw in range(1, 31):
            digest = md5(f"{seed}|{destination}|{bin_}|{draw}".encode(), usedforsecurity=False).digest()
            # DuckDB takes the digest as two little-endian numbers; the second is the lower one.
            total += pairs[destination, bin_, sources[int.from_bytes(digest[8:], "little") % len(sources)]]
        return total / 30

    for seed in (0, 5):
        got = answer("bins", root, draws=30, draw_seed=seed).set_index(["destination_id", "relation"])
        assert got.loc[(destination, bin_), "drawn_auc_log"] == pytest.approx(drawn(seed), rel=1e-12)
    assert drawn(0) != drawn(5)


def test_many_draws_approach_the_exact_mean(paper: tuple[Study, Path]) -> None:
    got = answer("bins", paper[1], draws=5000)
    several = got[got["n_sources"] > 1]
    z = (several["drawn_auc_log"] - several["auc_log"]) / several["drawn_se_log"]
    assert z.abs().max() < 5
    assert 0.7 < z.std() < 1.3
    alone = got[got["n_sources"] == 1]
    np.testing.assert_allclose(alone["drawn_auc_log"], alone["auc_log"], rtol=1e-12)


def test_curves_are_means_over_sources_then_destinations(paper: tuple[Study, Path]) -> None:
    study, root = paper
    models = {model.model_id: model for model in study.models}
    masked = pd.read_parquet(root / "masked")
    pairs = masked.groupby(["source_id", "destination_id", "percent"], as_index=False)["correct"].mean()
    pairs["relation"] = [
        relation(models[source], models[destination]) if source in models else "random"
        for source, destination in zip(pairs["source_id"], pairs["destination_id"], strict=True)
    ]
    single = pairs.groupby(["destination_id", "relation", "percent"], as_index=False)["correct"].mean()
    got = answer("accuracy_curves", root, per="destination")
    both = got.merge(single, on=["destination_id", "relation", "percent"])
    assert len(both) == len(got) == len(single)
    np.testing.assert_allclose(both["accuracy"], both["correct"], rtol=1e-12)

    single["condition"] = [name.rpartition("-")[0] for name in single["destination_id"]]
    means = single.groupby(["condition", "relation", "percent"])["correct"].agg(["mean", "std", "sem"])
    got = answer("accuracy_curves", root).set_index(["condition", "relation", "percent"]).loc[means.index]
    np.testing.assert_allclose(got["accuracy"], means["mean"], rtol=1e-12)
    np.testing.assert_allclose(got["sd"], means["std"], rtol=1e-9)
    np.testing.assert_allclose(got["sem"], means["sem"], rtol=1e-9)
    assert (got["destination_id"] == "all").all()
    assert set(got["chance"]) == {0.5, 1 / study.n_images}
    assert (got.xs("other_both", level="relation")["n_pairs"] == 25).all()
