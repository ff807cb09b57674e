"""What a worker takes, from the plan's numbers: it grows with what it holds, and is what was measured."""

import pytest

from sweep.plan import make_plan
from sweep.stages.memory import PROCESS_BYTES, trial_bytes, worker_bytes
from tests.studies import SmallStudy


def of(study: SmallStudy) -> int:
    plan = make_plan(study.path)
    return worker_bytes(plan, plan.load_networks())


def test_a_small_study_takes_little_more_than_the_process(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.path)
    assert PROCESS_BYTES < worker_bytes(plan, plan.load_networks()) < 1.6 * PROCESS_BYTES
    assert PROCESS_BYTES < trial_bytes(plan, plan.load_networks()) < 1.1 * PROCESS_BYTES


def test_larger_inputs_networks_and_a_second_process_take_more(small_study: SmallStudy) -> None:
    small = of(small_study)
    large = of(small_study.changed(dataset={"input_size": 224}))
    wide = of(small_study.changed(factors={"pretraining": {"first": "random:1"}}))
    assert small < large
    assert small < wide
    reference = of(small_study.changed(relevance={"engine": "innvestigate"}))
    assert reference > small + PROCESS_BYTES / 2


def test_two_backbones_are_kept_and_no_more(small_study: SmallStudy) -> None:
    def with_backbones(count: int) -> int:
        levels = {f"level{seed}": f"random:{seed}" for seed in range(1, count + 1)}
        return of(small_study.changed(factors={"pretraining": levels, "seed": [1]}))

    one, two, three = map(with_backbones, (1, 2, 3))
    kernels = 4 * 14_710_464
    assert two - one > 2 * kernels
    assert three - two < kernels / 2


def test_one_permuted_network_more_is_held_where_a_control_needs_it(small_study: SmallStudy) -> None:
    wide = {"pretraining": {"first": "random:1"}}
    plain = of(small_study.changed(factors=wide))
    permuted = of(small_study.changed(factors=wide, masking={"controls": ["randomized", "scattered"]}))
    kernels = 4 * 14_710_464
    assert permuted - plain > 2 * kernels


def test_further_attributions_hold_kernels_of_their_own(small_study: SmallStudy) -> None:
    """By hand: what is no LRP shares one plain copy; a further composite has its plain and its modified kernels."""
    wide = {"pretraining": {"first": "random:1"}}

    def with_levels(**levels: str) -> int:
        return of(small_study.changed(factors={**wide, "attribution": {"lrp": "preset_a_flat", **levels}}))

    plain, one = with_levels(), with_levels(gradient="gradient")
    kernels = 4 * 14_710_464
    assert one - plain == pytest.approx(kernels, rel=0.01)
    assert with_levels(gradient="gradient", cam="grad_cam") == one
    assert with_levels(b="preset_b") - plain > 2 * kernels
