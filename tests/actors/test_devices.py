"""Which workers a node holds."""

import pytest

from sweep.actors.devices import Share, shares_of, trial_share


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 2.0, "memory": 1e9}, [Share(1, 0)] * 2),
        ({"CPU": 8.0, "GPU": 1.0}, [Share(1, 0.5)] * 2),
        ({"CPU": 4.0, "GPU": 2.0}, [Share(1, 0.5)] * 4),
        ({"CPU": 1.0, "GPU": 1.0}, [Share(1, 1)]),
        ({"GPU": 2.0}, [Share(0, 1)] * 2),
        ({"CPU": 0.0}, []),
        ({}, []),
    ],
)
def test_workers_of_a_node(resources: dict[str, float], expected: list[Share]) -> None:
    assert shares_of(resources) == expected


def test_a_worker_without_a_whole_cpu_still_has_a_thread() -> None:
    assert Share(cpus=0.5, gpus=0.5).threads == 1
    assert Share(cpus=4, gpus=0).threads == 4


def test_trials_go_to_gpus_where_there_are_any() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert trial_share(nodes) == Share(1, 0.5)
    assert trial_share(nodes[:1]) == Share(1, 0)
    assert trial_share([]) == Share(1, 0)
