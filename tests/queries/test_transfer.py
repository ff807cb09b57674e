"""Specific losses, the transfer index and its intervals against NumPy, and on studies whose transfer is known."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sweep.analysis.queries import run_query
from tests.queries import resampled
from tests.queries.resampled import Array
from tests.queries.simulated import Study, factorial, known_transfer, relation, write

CONTROLLED = Study(
    factorial(2, 2, 3),
    n_images=25,
    n_blocks=2,
    fills=("linear", "mean"),
    controls={"other_image": 1, "reversed": 3},
    chance=known_transfer(0.5),
    seed=11,
)


def answer(name: str, root: Path, **parameters: str | int) -> pd.DataFrame:
    frame: pd.DataFrame = run_query(name, str(root), parameters).to_pandas()
    return frame


def rows_of(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples())


class Losses:
    """The specific loss of every image, from the files by pandas: `of[source, destination, fill, control]`."""

    def __init__(self, root: Path) -> None:
        masked = pd.read_parquet(root / "masked")
        masked = masked[(masked["percent"] > 0) & (masked["percent"] < 100)]
        keys = ["source_id", "control", "draw", "fill", "destination_id"]
        areas: dict[tuple[str, str, int, str, str], Array] = {}
        for key, rows in masked.groupby(keys):
            curves = rows.pivot(index="image_id", columns="percent", values="correct").astype(np.float64)
            x = np.log10(curves.columns.to_numpy(dtype=np.float64))
            areas[key] = np.trapezoid(curves.to_numpy(), x, axis=1) / np.ptp(x)  # type: ignore[index]
        self.of: dict[tuple[str, str, str, str], Array] = {}
        self.masks: dict[tuple[str, str, str, str], tuple[float, float, int]] = {}
        for (source, kind, _, fill, destination), area in areas.items():
            if kind != "none":
                continue
            for control in sorted({key[1] for key in areas} - {"none"}):
                draws = [
                    other
                    for (name, key, _, its_fill, its_destination), other in areas.items()
                    if (key, its_fill, its_destination) == (control, fill, destination)
                    and (control in ("scattered", "blocks") or name == source)
                ]
                if draws:
                    mean = np.mean(draws, axis=0)
                    self.of[source, destination, fill, control] = mean - area
                    self.masks[source, destination, fill, control] = (
                        float(area.mean()),
                        float(mean.mean()),
                        len(draws),
                    )


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Losses]:
    """A study of two fills and four controls, and its losses by pandas."""
    root = tmp_path_factory.mktemp("controlled")
    write(CONTROLLED, root)
    return root, Losses(root)


def test_losses_are_those_of_pandas(controlled: tuple[Path, Losses]) -> None:
    root, losses = controlled
    got = answer("specific_loss", root)
    assert len(got) == len(losses.masks) == 12 * 12 * 2 * 4
    models = {model.model_id: model for model in CONTROLLED.models}
    for row in rows_of(got):
        mask, control, draws = losses.masks[row.source_id, row.destination_id, row.fill, row.control]
        assert row.auc_mask == pytest.approx(mask, rel=1e-12)
        assert row.auc_control == pytest.approx(control, rel=1e-12)
        assert row.loss == pytest.approx(control - mask, abs=1e-12)
        assert row.n_draws == draws
        assert row.relation == relation(models[row.source_id], models[row.destination_id])
        assert row.note == ""


@pytest.mark.parametrize("per", ["bin", "pair"])
def test_indices_and_intervals_are_those_of_numpy(controlled: tuple[Path, Losses], per: str) -> None:
    root, losses = controlled
    got = answer("transfer", root, per=per, resamples=50, draw_seed=3)
    assert len(got) == (4 * 5 if per == "bin" else 12 * 12) * 2 * 4
    models = {model.model_id: model for model in CONTROLLED.models}
    of_images = resampled.drawn("image", 50, CONTROLLED.n_images, seed=3)
    for row in rows_of(got):
        members: dict[str, list[Array]] = {}
        for source, destination, fill, control in losses.of:
            its = models[destination]
            if (fill, control) == (row.fill, row.control) and (
                (source, destination) == (row.source_id, row.destination_id)
                if per == "pair"
                else destination.startswith(row.condition + "-")
                and relation(models[source], its) == row.relation
            ):
                members.setdefault(destination, []).append(losses.of[source, destination, fill, control])
        names = sorted(members)
        expected = resampled.transfer(
            np.array([np.mean(members[name], axis=0) for name in names]),
            np.array([losses.of[name, name, row.fill, row.control] for name in names]),
            of_images,
            resampled.drawn(f"model|{','.join(names)}", 50, len(names), seed=3),
        )
        assert (row.n_destinations, row.n_images) == (len(names), 25)
        assert row.n_pairs == sum(len(own) for own in members.values())
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(row, name), value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("per", ["bin", "pair"])
def test_own_masks_over_own_masks_are_1_wherever_the_own_loss_is_clear(
    controlled: tuple[Path, Losses], per: str
) -> None:
    got = answer("transfer", controlled[0], per=per, resamples=50)
    own = got[got["relation"] == "same_init"]
    clear = own["own_low"] > 0
    assert clear.any()
    assert (own["transfer"].notna() == clear).all()
    np.testing.assert_allclose(own.loc[clear, ["transfer", "low", "high"]].to_numpy(float), 1, rtol=1e-12)


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
def test_a_known_transfer_is_recovered(known: float, tmp_path: Path) -> None:
    study = Study(
        factorial(2, 1, 5),
        n_images=101,
        n_random=1,
        controls={"other_image": 1},
        chance=known_transfer(known),
        seed=int(10 * known),
    )
    write(study, tmp_path)
    got = answer("transfer", tmp_path)
    own, foreign = got[got["relation"] == "same_init"], got[got["relation"] != "same_init"]
    assert own["validated"].all()
    assert foreign["validated"].isna().all()
    np.testing.assert_allclose(own[["transfer", "low", "high"]], 1.0, atol=1e-6)
    assert np.abs(foreign["transfer"] - known).max() < 0.08
    assert np.mean((foreign["low"] <= known) & (known <= foreign["high"])) >= 0.75
    assert np.abs(own["loss"] - 0.4).max() < 0.05
    # What other masks cost is a test of the same thing.
    tests = answer("pairwise", tmp_path, measure="specific_loss", compare="same_init,other_pretraining")
    paired = tests[tests["test"] == "paired"]
    np.testing.assert_allclose(paired["difference"], -0.4 * (1 - known), atol=0.04)
    assert (paired["control"] == "other_image").all()
    equal = answer("equivalence", tmp_path, measure="specific_loss", compare="same_init,other_pretraining")
    assert equal.loc[equal["test"] == "paired", "equivalent"].tolist() == [known == 1.0] * 2


@pytest.mark.parametrize("level", [0.3, 0.9])
def test_a_map_that_is_no_better_than_its_control_is_not_validated(level: float, tmp_path: Path) -> None:
    """A constant map and a map of noise rank pixels by chance: mask and control come from the same distribution."""
    controls = {"other_image": 1}
    write(Study(factorial(2, 2, 4), controls=controls, n_images=60, chance=lambda _: level), tmp_path)
    got = answer("transfer", tmp_path)
    own = got[(got["relation"] == "same_init") & (got["control"] == "other_image")]
    assert len(own) == 4
    assert not own["validated"].any()
    assert got.loc[got["control"] == "other_image", ["transfer", "low", "high"]].isna().all(axis=None)
    assert own["note"].eq("no index: the own loss is not clearly above 0").all()


def test_an_own_loss_of_exactly_zero_gives_no_index(tmp_path: Path) -> None:
    write(Study(factorial(1, 1, 3), controls={"mean_map": 1}, chance=lambda _: 1.0), tmp_path)
    for per in ("bin", "pair"):
        got = answer("transfer", tmp_path, per=per)
        assert len(got)
        assert got["transfer"].isna().all()
        assert (got["loss"] == 0).all()
        assert not got["validated"].any()


def test_counts_leave_intervals_over_models(controlled: tuple[Path, Losses], tmp_path: Path) -> None:
    write(dataclasses.replace(CONTROLLED, granularity="cell"), tmp_path)
    by_image, got = answer("transfer", controlled[0]), answer("transfer", tmp_path)
    np.testing.assert_allclose(got["loss"], by_image["loss"], atol=1e-12)
    assert got["n_images"].isna().all()
    assert got["note"].str.contains("intervals over models only").all()
    models = 12 * [3]
    assert got["n_destinations"].tolist()[:12] == models
    # One row by hand: the interval is that of the t test of three models, up to the noise of the resamples.
    row = got[got["relation"] == "same_init"].iloc[0]
    means = [
        controlled[1]
        .of[f"{row['condition']}-s{seed}", f"{row['condition']}-s{seed}", row["fill"], row["control"]]
        .mean()
        for seed in (1, 2, 3)
    ]
    half = 4.302653 * np.std(means, ddof=1) / 3**0.5
    assert row["loss_high"] - row["loss"] == pytest.approx(half, rel=0.1)
    pairs = answer("transfer", tmp_path, per="pair")
    assert pairs[["loss_low", "loss_high", "transfer"]].isna().all(axis=None)
    assert pairs["note"].str.contains("masked holds counts instead of images").all()


def test_one_model_leaves_intervals_over_images(tmp_path: Path) -> None:
    study = Study(
        factorial(2, 1, 1), controls={"other_image": 1}, n_images=101, chance=known_transfer(0.5), seed=2
    )
    write(study, tmp_path)
    got = answer("transfer", tmp_path)
    assert got["transfer"].notna().all()
    assert got["note"].eq("intervals over images only: one model").all()


def test_what_is_missing_is_left_out_and_said(tmp_path: Path) -> None:
    study = dataclasses.replace(CONTROLLED, fills=("mean",))
    first, second, third = (model.model_id for model in study.models[:3])
    study.missing = {(first, first)}
    write(study, tmp_path)
    for path in (tmp_path / "masked").iterdir():
        table = pd.read_parquet(path)
        gone = (
            (table["source_id"] == second)
            & (table["destination_id"] == third)
            & (table["percent"] == 10)
            & (table["control"].isin(["none", "other_image"]))
        )
        pq.write_table(pq.read_table(path).filter(~gone.to_numpy()), path)
    losses = answer("specific_loss", tmp_path)
    lost = losses[(losses["source_id"] == second) & (losses["destination_id"] == third)]
    assert len(lost) == 4
    assert lost["note"].str.contains("missing for this pair").all()
    assert lost["loss"].isna().all()
    got = answer("transfer", tmp_path, resamples=20)
    row = got[(got["condition"] == first[:-3]) & (got["control"] == "other_image")].set_index("relation")
    assert row["n_destinations"].to_dict() == dict.fromkeys(row.index, 2)
    assert row.loc["same_task_same_pretraining", "n_pairs"] == 2 + 1
    pairs = answer("transfer", tmp_path, per="pair", resamples=20)
    assert (
        pairs.loc[pairs["destination_id"] == first, "note"].str.contains("no mask by the destination").all()
    )


def test_a_study_of_one_level_has_no_losses(tmp_path: Path) -> None:
    write(dataclasses.replace(CONTROLLED, percents=(10.0,)), tmp_path)
    assert answer("specific_loss", tmp_path)["note"].str.contains("two masking levels").all()
    assert answer("transfer", tmp_path).empty


@pytest.mark.parametrize(
    ("k", "models", "images", "foreign"),
    [(5, 0.05, 0.1, 0.03), (5, 0.1, 0.0, 0.05), (10, 0.05, 0.1, 0.03), (1, 0.0, 0.1, 0.0)],
    ids=["both", "models", "ten models", "one model"],
)
def test_the_intervals_cover(k: int, models: float, images: float, foreign: float) -> None:
    """300 simulated studies of 101 images, estimated by the twin that the query equals: SQL would take minutes."""
    rng = np.random.default_rng(7)
    own_loss, known, n, studies = 0.3, 0.5, 101, 300
    weights = np.array([0.5, 1, 1, 1, 0.5]) / 4

    def area(chance: Array) -> Array:
        hits = rng.random((len(weights), k, n)) < chance
        return np.tensordot(weights, hits.astype(np.float64), axes=1)

    def effects(deviation: float, *shape: int) -> Array:
        return np.clip(rng.normal(size=shape), -2, 2) * deviation

    covered = np.zeros(3)
    for _ in range(studies):
        its_own = own_loss + effects(images, 1, n) + effects(models, k, 1)
        others = known * its_own + effects(foreign, k, 1)
        found = resampled.transfer(
            area(np.full((k, n), 0.9)) - area(0.9 - others),
            area(np.full((k, n), 0.9)) - area(0.9 - its_own),
            resampled.multinomial(rng, 200, n),
            resampled.multinomial(rng, 200, k),
        )
        covered += [
            found["loss_low"] <= known * own_loss <= found["loss_high"],
            found["own_low"] <= own_loss <= found["own_high"],
            found["low"] <= known <= found["high"],
        ]
    assert ((covered / studies > 0.91) & (covered / studies < 0.995)).all(), covered / studies
