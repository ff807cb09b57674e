"""What goes wrong on a node is put down to it, and the others go on; on the last one it ends the run."""

from pathlib import Path

import pytest

from sweep.actors.nodes import ATTEMPTS, Nodes
from sweep.errors import WorkError
from sweep.storage.store import Store

HEAD, BAD, GOOD = "head", "bad", "good"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def nodes(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """A head without CPUs and two nodes, as Ray lists them."""
    listed = [
        {
            "NodeID": name,
            "NodeManagerHostname": name,
            "NodeManagerAddress": "10.0.0.1",
            "Alive": True,
            "Resources": {"CPU": cpus, "memory": 8e9},
        }
        for name, cpus in ((HEAD, 0.0), (BAD, 4.0), (GOOD, 4.0))
    ]
    monkeypatch.setattr("ray.nodes", lambda: listed)
    return Nodes(Store(str(tmp_path)), said.append)


def test_deaths_at_start_are_counted_by_node_and_only_in_a_row(nodes: Nodes, said: list[str]) -> None:
    for _ in range(3):
        for _ in range(ATTEMPTS - 1):
            nodes.died_at_start(BAD, "Illegal instruction", ready=0)
        nodes.started(BAD, kills=0)
    for node in (BAD, GOOD, BAD):
        nodes.died_at_start(node, "Illegal instruction", ready=0)
    assert set(nodes.usable()) == {HEAD, BAD, GOOD}
    assert said == []
    nodes.died_at_start(BAD, "Illegal instruction", ready=0)
    assert said == [
        "node bad (10.0.0.1): workers die at their start: Illegal instruction; this node is set aside, "
        "the others go on"
    ]
    assert set(nodes.usable()) == {HEAD, GOOD}
    assert nodes.selector == {"ray.io/node-id": "!in(bad)"}


def test_where_no_node_is_left_the_reason_ends_the_run(nodes: Nodes, said: list[str]) -> None:
    """A head without CPUs is no node to go on with."""
    nodes.set_aside(BAD, "first")
    nodes.set_aside(BAD, "again")
    with pytest.raises(WorkError, match=r"^second$"):
        nodes.set_aside(GOOD, "second")
    assert said == ["first; this node is set aside, the others go on"]


def test_a_node_where_some_workers_start_keeps_those(nodes: Nodes, said: list[str]) -> None:
    for _ in range(ATTEMPTS):
        nodes.died_at_start(BAD, "no room", ready=2)
    assert len(nodes.shares(BAD, nodes.usable()[BAD], 0)) == 2
    assert said == [
        "node bad (10.0.0.1): workers die at their start: no room; this node goes on with 2 workers"
    ]


def test_a_node_whose_failed_work_succeeds_elsewhere_is_set_aside(nodes: Nodes, said: list[str]) -> None:
    for _ in range(ATTEMPTS - 1):
        nodes.succeeded(GOOD, frozenset([BAD]))
    nodes.succeeded(BAD, frozenset())
    for _ in range(ATTEMPTS):
        assert said == []
        nodes.succeeded(GOOD, frozenset([BAD]))
    assert said == [
        "node bad (10.0.0.1): work that fails there succeeds elsewhere; this node is set aside, "
        "the others go on"
    ]
    for _ in range(ATTEMPTS):
        nodes.succeeded(BAD, frozenset([GOOD]))  # the last node is kept, whatever is said of it
    assert GOOD in nodes.usable()


def test_memory_halves_the_workers_and_is_forgiven(nodes: Nodes, said: list[str]) -> None:
    resources = nodes.usable()[BAD]
    for workers, left in ((4, 2), (4, 2), (2, 1), (1, 1)):
        nodes.ran_out_of_memory(BAD, workers)
        assert len(nodes.shares(BAD, resources, 0)) == left
    assert len(said) == 2
    assert said[0] == "node bad (10.0.0.1): out of memory with 4 workers; this node goes on with 2 workers"
    assert len(nodes.shares(GOOD, resources, 0)) == 4
    nodes.forgive_memory()
    assert len(nodes.shares(BAD, resources, 0)) == 4
