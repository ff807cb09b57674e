"""The benchmarks at a tiny size: that both sides of each ratio are real, and that the page shows what was measured."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import common, depths, finetuning, masking, study, zennit_peer
from benchmarks.pages import AIMS, page
from benchmarks.run import PARTS, RESULTS, headline
from sweep.actors.ranks import Rankers
from sweep.lrp import (
    Add,
    AveragePool,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    ZeroPad,
    relevance,
)
from sweep.plan import make_plan
from sweep.stages import STAGES
from sweep.stages.masking import masks
from sweep.storage.store import Store
from tests.lrp import nets

# Of VGG-16's five blocks all, so that every shape is right, at its smallest size.
SIZE = 32


def test_masking_counts_its_passes_and_both_ways_give_the_same_classes() -> None:
    found = masking.measure(SIZE, n_images=2, n_sources=1, rounds=1, classes=(5, 2))
    assert found["backbone_passes"] == 2 * 6 * 2
    assert found["destinations"] == 4
    assert found["predictions_that_agree"] == 1.0
    assert found["speedup"] == pytest.approx(found["obvious_seconds"] / found["ours_seconds"])
    assert found["ours_seconds"] > 0


def test_deep_heads_give_the_classes_of_whole_networks() -> None:
    found = depths.measure(SIZE, n_images=2, n_heads=2, rounds=1)
    assert found["predictions_that_agree"] == 1.0
    assert found["over_floor"] == pytest.approx(found["ours_seconds"] / found["floor_seconds"])


def test_finetuning_multiplies_an_epoch_of_keras_by_their_number() -> None:
    found = finetuning.measure(SIZE, n_images=16, n_models=2, rounds=1)
    assert found["keras_seconds"] == pytest.approx(found["keras_seconds_per_epoch"] * 25 * 2)
    assert found["speedup"] == pytest.approx(found["keras_seconds"] / found["ours_seconds"])


def test_work_seconds_leave_out_what_workers_take_to_start() -> None:
    clock = study.Clock()
    # Two workers that start for 10 s and then need 2 s for each of six pieces; half a second of writing at the end.
    clock.stages["features"] = study.Stage(
        100.0, 116.5, [(112.0, 1), (112.0, 1), (114.0, 1), (114.0, 1), (116.0, 1), (116.0, 1)]
    )
    assert clock.work_seconds("features", workers=2) == pytest.approx(4 * 6 / 4 + 0.5)
    clock.stages["masking"] = study.Stage(200.0, 230.0, [(205.0, 1)])
    assert clock.work_seconds("masking", workers=2) == 30.0


def test_the_vgg_study_is_the_papers_design(tmp_path: Path) -> None:
    plan = make_plan(study.vgg_study(tmp_path))
    assert len(plan.models) == 20
    assert len(plan.selected) == 12
    assert plan.study.dataset.input_size == 112
    assert len(STAGES["masking"].units(plan)) == 21 * 20


def test_the_driver_hands_out_every_unit_of_a_plan(tmp_path: Path) -> None:
    """What its memory is measured at: all pieces of a real plan."""
    plan = make_plan(study.write_study(tmp_path, "driver", factors={"seed": [0, 1]}))
    units, hand_out = STAGES["masking"].units(plan), STAGES["masking"].pieces
    assert hand_out is not None
    shared: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:

        def rank(*_: Any) -> str:
            shared.append(1)
            return "ranks"

        for ranking in ("of_maps", "of_random"):
            patch.setattr(f"sweep.actors.ranks.Rankers.{ranking}", rank)
        pieces = list(hand_out(plan, Store(str(tmp_path / "none")), set(units), Rankers()))
    assert sorted(unit.path for piece in pieces for unit in piece.units) == sorted(u.path for u in units)
    assert len(shared) == len(masks(plan))


def test_every_ratio_has_both_of_its_sides_and_the_page_every_figure() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    figures = headline(found["parts"])
    sides = figures.pop("sides")
    assert {name: found[name] for name in figures} == figures
    assert set(figures) == set(AIMS) & set(figures) == set(sides)
    for name, value in figures.items():
        if name != "sql_100m_seconds":
            above, below = sides[name].values()
            assert value == pytest.approx(above / below)
    text = page(found)
    assert text == (common.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [name for name in AIMS if name in figures]


@pytest.mark.skipif(
    not zennit_peer.PYTHON.is_file(), reason="needs zennit in .venv-zennit (benchmarks/zennit_peer.py)"
)
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1"])
def test_zennit_has_the_same_maps_of_a_residual_network(composite: str) -> None:
    rng = np.random.default_rng(5)
    thin: dict[str, Any] = {"stride": (2, 2), "padding": "valid"}
    layers = (
        nets.conv(rng, 3, 6),
        ReLU(),
        nets.conv(rng, 6, 6),
        Add(),
        ReLU(),
        ZeroPad(((0, 1), (0, 1))),
        MaxPool((3, 3), (2, 2)),
        nets.conv(rng, 6, 8, (1, 1), **thin),
        ReLU(),
        nets.conv(rng, 8, 8),
        nets.conv(rng, 6, 8, (1, 1), **thin),
        Add(),
        ReLU(),
        AveragePool((2, 2), (1, 1)),
        Flatten(),
        nets.dense(rng, 32, 4),
    )
    first, last = ((0,), (1,), (2,), (3, 2), (4,), (5,), (6,), (7,), (8,), (9,)), ((12,), (13,), (14,), (15,))
    network = Network(layers, (12, 12, 3), (*first, (7,), (10, 11), *last))
    images, classes = rng.standard_normal((5, 12, 12, 3)).astype(np.float32), np.array([0, 1, 2, 3, 1])
    with zennit_peer.Zennit(network, composite) as process:
        wanted = process.analyze(images, classes)["maps"]
    found = relevance(network, images, classes, {"preset": composite, "kinds": {"add": "z"}}, "split")
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_page_tells_of_zennit_only_where_it_was_measured() -> None:
    row = {"size": 224, "what": "zennit", "seconds_per_map": 0.5, "forwards_per_map": 9.0, "peak_bytes": 1e9}
    row |= {"times_innvestigate": 0.9, "times_zennit": 1.0, "difference_from_zennit": 2e-5}
    about = {"machine": "", "commit": "", "date": "", "load": 0, "weights": ""}
    with_zennit = page({"parts": {"resnet50": about | {"rows": [row]}}})
    assert "| x iNNvestigate | x zennit | peak GB |" in with_zennit
    assert "at 224 px their maps differ by at most 2e-05 of the maximum" in with_zennit
    row |= {"times_zennit": None, "difference_from_zennit": None}
    assert "zennit |" not in page({"parts": {"resnet50": about | {"rows": [row | {"what": "engine"}]}}})


def test_the_parts_are_scripts_that_exist() -> None:
    for script, *_ in PARTS.values():
        assert (common.ROOT / "benchmarks" / script).is_file()


def test_figures_are_written_with_where_they_were_measured(tmp_path: Path) -> None:
    options = common.command_line("title", size=112).parse_args(
        ["--size", "64", "--json", str(tmp_path / "o")]
    )
    common.tell({"seconds": 1.5}, options.json)
    written = json.loads((tmp_path / "o").read_text())
    assert options.size == 64
    assert written["seconds"] == 1.5
    assert {"machine", "load", "date", "commit", "weights"} <= set(written)


def test_rounds_take_turns_and_the_first_does_not_count() -> None:
    order: list[str] = []
    times = common.interleaved({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)  # type: ignore[misc]
    assert order == ["a", "b"] * 3
    assert set(times) == {"a", "b"}


def test_the_peak_of_memory_is_that_of_the_call() -> None:
    assert common.peak_bytes(lambda: np.ones(300_000_000, np.uint8).sum()) > 300e6
