"""The cost model against what a plan counts itself, and against what the engine does."""

from pathlib import Path
from typing import Any

import pytest

from sweep.lrp import Conv, composite
from sweep.models.network import backbone_network
from sweep.plan import make_plan
from sweep.runs.speed import CALIBRATION
from sweep.stages import STAGES, stage_costs
from sweep.stages.cost import Speed, gpu_speed, scaled, size_of
from sweep.stages.flops import relevance_passes
from tests.studies import SmallStudy, narrow_layers, sweep

DEMO = Path(__file__).resolve().parents[2] / "studies" / "demo.yaml"
SPEED = Speed(1e9, 1e8, 0.01, 10, 2, "two workers, made up")


@pytest.mark.parametrize("masking", [{}, {"granularity": "cell"}, {"controls": ["randomized"]}])
def test_units_are_those_of_the_plan(small_study: SmallStudy, masking: dict[str, Any]) -> None:
    for path in (DEMO, small_study.changed(masking=masking).path):
        plan = make_plan(path)
        costs = stage_costs(size_of(plan, plan.load_networks()))
        assert [cost.stage for cost in costs] == list(STAGES)
        assert {cost.stage: cost.units for cost in costs} == {s: len(STAGES[s].units(plan)) for s in STAGES}


def test_passes_count_what_the_stages_do() -> None:
    plan = make_plan(DEMO)
    costs = {cost.stage: cost for cost in stage_costs(size_of(plan, plan.load_networks()))}
    assert costs["features"].passes == 2 * 1515
    # 20 models, a control of each and random pixels; four levels that remove some pixels, two backbones, two fills.
    assert costs["masking"].passes == 41 * 4 * 101 * 2 * 2
    assert costs["finetune"].passes == costs["predictions"].passes == costs["similarity"].passes == 0
    # Two passes per image and backbone, and one per map, but for a first layer that needs a single channel.
    assert 2 * 2 * 101 * 0.95 < costs["relevance"].passes - 20 * 101 * 0.97 < 2 * 2 * 101 + 20 * 101 * 0.03


def test_maps_of_permuted_networks_cost_what_maps_cost_times_their_draws(small_study: SmallStudy) -> None:
    masking = {"controls": ["randomized"], "control_draws": 4}
    plan = make_plan(small_study.changed(masking=masking).path)
    costs = {cost.stage: cost for cost in stage_costs(size_of(plan, plan.load_networks()))}
    maps, permuted = costs["relevance"], costs["randomized"]
    assert permuted.passes == pytest.approx(4 * maps.passes)
    assert permuted.pass_flops == pytest.approx(4 * maps.pass_flops)
    assert permuted.bytes == pytest.approx(4 * maps.bytes)
    # Three levels that remove some pixels, six images, two backbones; each of 8 models by its own map and by four others.
    assert costs["masking"].passes == 8 * (1 + 4) * 3 * 6 * 2


def test_attributions_cost_a_pass_per_image_and_gradient(small_study: SmallStudy) -> None:
    """By hand: passes per image on 2 backbones, and on 8 models where a gradient is each model's own."""
    levels = {
        "lrp": "preset_a_flat",
        "gradient": "gradient",
        "path": {"method": "integrated_gradients", "steps": 5},
        "smooth": {"method": "smoothgrad", "samples": 3},
        "patches": {"method": "occlusion", "patch": 16, "stride": 12},
        "cam": "grad_cam",
        "chance": "random",
    }
    controls = ["other_image", "randomized", "scattered"]
    study = small_study.changed(factors={"attribution": levels}, masking={"controls": controls})
    plan = make_plan(study.path)
    size = size_of(plan, plan.load_networks())
    costs = {cost.stage: cost for cost in stage_costs(size)}
    for name, stage in STAGES.items():
        assert costs[name].units == len(stage.units(plan)), name
    of_patches = 2 * (1 + 3 * 3)
    assert costs["attributions"].passes == 6 * (10 + 5 * 10 + 3 * 10 + of_patches + 2 + 2)
    # Own masks, another image's and three of permuted weights; of a further level the first two.
    assert size.masks == 8 * (5 + 6 * 2) + 1


@pytest.mark.parametrize(
    ("name", "per_image", "per_map"),
    [("preset_a", 2, 1), ("preset_b", 3, 2), ("epsilon_plus", 2, 1)],
)
def test_relevance_is_counted_by_its_convolutions(name: str, per_image: float, per_map: float) -> None:
    network = backbone_network(narrow_layers("first"), 64)
    first = 0.2  # the first layer sees signed inputs, so it may need up to twice as much
    image, one_map = relevance_passes(network, composite(name).rules(network.layers))
    assert per_image <= image < per_image + 2 * first
    assert per_map <= one_map < per_map + 2 * first
    flat_image, flat_map = relevance_passes(network, composite(f"{name}_flat").rules(network.layers))
    assert per_image - 2 * first < flat_image < image
    assert per_map - 2 * first < flat_map < one_map


def test_a_flop_is_a_multiplication_or_an_addition() -> None:
    plan = make_plan(DEMO)
    networks = plan.load_networks()
    size = size_of(plan, networks)
    by_hand = 0.0
    side = 96
    for layer in networks["objects"].layers:
        if isinstance(layer, Conv):
            if layer.name.endswith("conv1") and layer.name != "block1_conv1":
                side //= 2
            by_hand += side * side * layer.kernel.size * 2
    assert size.pass_flops[0] == by_hand


def test_masking_grows_with_models_squared_in_bytes_and_linearly_in_passes() -> None:
    plan = make_plan(DEMO)
    size = size_of(plan, plan.load_networks())
    one, ten = stage_costs(size)[-1], stage_costs(scaled(size, 200, None))[-1]
    assert ten.passes / one.passes == pytest.approx(401 / 41)
    assert ten.bytes / one.bytes == pytest.approx(401 * 200 / (41 * 20))
    images = stage_costs(scaled(size, None, 15150))[-1]
    assert images.passes == 10 * one.passes


def test_time_is_arithmetic_over_speed_plus_handling() -> None:
    plan = make_plan(DEMO)
    cost = stage_costs(size_of(plan, plan.load_networks()))[-1]
    expected = cost.pass_flops / 1e9 + cost.other_flops / 1e8 + cost.units * 0.01 / 2
    assert SPEED.seconds(cost) == pytest.approx(expected)
    faster = gpu_speed("a100", 4, SPEED)
    assert faster.pass_flops == pytest.approx(4 * 19.5e12 * 0.4)
    assert "an assumption" in faster.basis


def test_plan_measures_once_and_answers_what_if(small_study: SmallStudy) -> None:
    folder = small_study.path.parent
    first = sweep("plan", small_study.path, cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "Measuring this cluster" in first.stderr
    assert "Time: " in first.stdout
    assert (folder / "results" / CALIBRATION).is_file()
    assert [path.name for path in (folder / "results").glob("[!.]*")] == [CALIBRATION]
    what_if = sweep("plan", small_study.path, "--models", "4000", "--gpu", "a100", cwd=folder)
    assert what_if.returncode == 0, what_if.stderr
    assert "Measuring" not in what_if.stderr
    assert "4,000 models" in what_if.stdout
    assert "an assumption" in what_if.stdout
    assert "with masking.granularity: cell it writes" in what_if.stdout
    quick = sweep("plan", small_study.path, "--no-time", cwd=folder)
    assert "Time: " not in quick.stdout
    (folder / "results" / CALIBRATION).write_text("{")
    broken = sweep("plan", small_study.path, cwd=folder)
    assert broken.returncode == 2
    assert f"{CALIBRATION}: not what sweep wrote; delete it" in broken.stderr
