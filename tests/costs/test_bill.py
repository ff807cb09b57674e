"""Money: cluster files are read as they stand, the bill is hours times prices, and `sweep plan` says it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.costs import bill, read_cluster_file
from sweep.costs.bill import START_SECONDS
from sweep.costs.prices import ADDRESS_DOLLARS, DISK_DOLLARS, MACHINES, SPOT_SHARE
from sweep.errors import InputError
from sweep.stages.cost import PEAK_FLOPS, Speed, StageCost
from tests.studies import SmallStudy, sweep

INFRA = Path(__file__).parents[2] / "infra"
SPEED = Speed(1e9, 1e8, 0.01, 20, 8, "made up")


def test_the_files_of_the_project_have_prices() -> None:
    aws = read_cluster_file(INFRA / "ray-cluster.yaml")
    assert (aws.head.machine, aws.head.spot, aws.head.most) == ("m6i.xlarge", False, 1)
    assert (aws.workers.name, aws.workers.spot, aws.workers.most) == ("gpu_spot", True, 4)
    assert aws.head.dollars == pytest.approx(0.192 + 100 * DISK_DOLLARS["aws"] + ADDRESS_DOLLARS)
    assert aws.workers.dollars == pytest.approx(
        1.006 * SPOT_SHARE + 150 * DISK_DOLLARS["aws"] + ADDRESS_DOLLARS
    )
    assert aws.idle_seconds == 300
    gcp = read_cluster_file(INFRA / "ray-cluster-gcp.yaml")
    assert (gcp.workers.machine, gcp.workers.spot, gcp.workers.most) == ("g2-standard-4", True, 4)
    assert gcp.workers.dollars == pytest.approx(
        0.707 * SPOT_SHARE + 150 * DISK_DOLLARS["gcp"] + ADDRESS_DOLLARS
    )


def test_every_gpu_for_rent_has_a_speed() -> None:
    assert {machine.gpu for machine in MACHINES.values() if machine.gpu} <= set(PEAK_FLOPS)
    assert all((machine.gpu is None) == (machine.gpus == 0) for machine in MACHINES.values())


def test_the_bill_is_hours_times_prices() -> None:
    cluster = read_cluster_file(INFRA / "ray-cluster.yaml")
    costs = [StageCost("features", 10, pass_flops=7.2e12), StageCost("masking", 400, pass_flops=3.6e12)]
    found = bill(costs, SPEED, cluster, 0.0)
    work = sum(SPEED.seconds(cost) for cost in costs) + 3 * SPEED.start_seconds
    hours = (START_SECONDS + work + 300) / 3600
    head, workers = found.items
    assert workers.hours == pytest.approx(hours)
    assert head.hours == pytest.approx(hours + START_SECONDS / 3600)
    assert found.dollars == pytest.approx(
        head.hours * cluster.head.dollars + 4 * workers.hours * cluster.workers.dollars
    )
    assert (found.mean.hours, found.worst.dollars) == (0, 0)

    often = bill(costs, SPEED, cluster, 1.0)
    assert often.items == found.items
    assert 0 < often.mean.hours < often.worst.hours
    assert 0 < often.mean.dollars < often.worst.dollars
    assert bill(costs, SPEED, cluster, 1.0) == often


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": {"type": "local"}}, "provider.type: rents no machines"),
        ({"provider": None}, "provider: missing"),
        ({"head_node_type": "boss"}, "head_node_type: names none"),
        ({"max_workers": 0}, "max_workers: permits no worker"),
        ({"max_workers": "many"}, "max_workers: must be a number"),
        ({"available_node_types": {"head": {"node_config": {"InstanceType": "m6i.xlarge"}}}}, "has 0 types"),
        ({"available_node_types": {"head": {}, "gpu": []}}, "available_node_types.gpu: missing"),
        (
            {"available_node_types": {"head": {}, "gpu": {"node_config": {"InstanceType": "x9.huge"}}}},
            "no price is known for x9.huge; add it to sweep/costs/prices.py",
        ),
        (
            {"available_node_types": {"head": {}, "cpu": {"node_config": {"InstanceType": "m6i.large"}}}},
            "m6i.large has no GPU",
        ),
    ],
)
def test_what_has_no_price_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text()) | change
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as caught:
        read_cluster_file(path)
    [line] = caught.value.problems
    assert line.startswith(f"{path}: ")
    assert said in line


def test_plan_says_what_a_cluster_costs(small_study: SmallStudy) -> None:
    folder = small_study.path.parent
    said = sweep("plan", small_study.path, "--cluster", INFRA / "ray-cluster.yaml", cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "4 x a10g at 40%" in said.stdout
    assert re.search(r"^gpu_spot +g5\.xlarge +spot +4 ", said.stdout, re.MULTILINE)
    assert "Look up today's." in said.stdout
    assert "taken back 0.05 times an hour (an assumption; --interruptions), that adds" in said.stdout
    refusals: tuple[tuple[list[str | Path], str], ...] = (
        (["--gpu", "a100", "--cluster", INFRA / "ray-cluster.yaml"], "leave --gpu out"),
        (["--cluster", folder / "none.yaml"], "none.yaml: cannot be read: No such file or directory"),
    )
    for wrong, line in refusals:
        refused = sweep("plan", small_study.path, *wrong, cwd=folder)
        assert refused.returncode == 2
        assert line in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
