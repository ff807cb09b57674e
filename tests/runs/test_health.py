"""A byte that flips in any file under a study's results is found, named and set aside."""

from pathlib import Path

import pytest

from sweep.keys import generator, key_of
from sweep.plan import Plan, make_plan
from sweep.runs.failures import failed, record
from sweep.runs.health import set_damaged_aside
from sweep.runs.sidecars import FOLDER, UNKNOWN, begin_stage, drift, restore_sidecars, versions
from sweep.stages import STAGES, all_units, stages_of
from sweep.storage.checksums import CHECKSUMS, write_files
from sweep.storage.schemas import SCHEMAS
from sweep.storage.store import Store, Unit
from tests.report.simulated import simulate
from tests.studies import write_small_study


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    study = write_small_study(tmp_path_factory.mktemp("health"))
    return make_plan(study.changed(factors={"task": ["identity"], "seed": [1]}).path)


@pytest.fixture(scope="module")
def store(plan: Plan) -> Store:
    """Results with a file of every kind: units, one that the study does not ask for, weights, records, a figure and a page."""
    store = Store(str(plan.path.parent / "results"))
    simulate(plan, store)
    for stage in STAGES:
        begin_stage(store, plan, stage, STAGES[stage].units(plan), versions())
    other = Unit("masked", "of another study", key_of("other"), 1)
    dropped = STAGES["masking"].units(plan)[-1]
    store.write(other, store.read([dropped]).slice(0, 1), SCHEMAS["masked"])
    record(store, [failed("masking", [other], "lost")], [other])
    files = {"study.yaml": plan.path.read_bytes(), "figures/a.png": b"\x89PNG", "report/index.html": b"<p>"}
    write_files(store, files)
    return store


def files(store: Store) -> list[Path]:
    return sorted(path for path in Path(store.root).rglob("*") if path.is_file())


def test_results_that_nothing_happened_to_are_whole(plan: Plan, store: Store) -> None:
    kinds = {str(path.relative_to(store.root)).split("/")[0] for path in files(store)}
    tables = {unit.table for unit in all_units(plan)}
    assert kinds == tables | {"weights", ".stages", "failures", "figures", "report", "study.yaml", CHECKSUMS}
    assert set_damaged_aside(plan, store) == []


def test_a_flipped_byte_in_any_file_is_found(plan: Plan, store: Store) -> None:
    whole = {path: path.read_bytes() for path in files(store)}
    for path, content in whole.items():
        name = str(path.relative_to(store.root))
        draws = generator("flipped", path.parent.name, path.name.split(".")[0])
        for place in (0, len(content) - 1, int(draws.integers(len(content)))):
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(draws.integers(8))
            path.write_bytes(bytes(damaged))
            (line,) = set_damaged_aside(plan, store)
            if name.startswith("weights/"):  # the row that names them is what makes them again
                assert line.startswith(f"{store.root}/models/{path.name.split('.')[0]}.")
                assert line.endswith(f"names {name}, which does not match its checksum")
            else:
                assert line.startswith(f"{store.root}/{name} "), (place, line)
            for aside in Path(store.root).rglob(".damaged/*"):
                aside.replace(aside.parent.parent / aside.name)
            path.write_bytes(content)
            assert {path: path.read_bytes() for path in files(store)} == whole


def test_a_file_that_is_gone_is_told(plan: Plan, store: Store) -> None:
    figure = Path(store.root, "figures/a.png")
    content = figure.read_bytes()
    figure.unlink()
    assert set_damaged_aside(plan, store) == [f"{figure} is gone"]
    figure.write_bytes(content)


def test_a_lost_sidecar_is_written_anew_and_says_what_is_not_known(plan: Plan, store: Store) -> None:
    sidecar = Path(store.root, FOLDER, "features.json")
    content = sidecar.read_bytes()
    for loss in (sidecar.unlink, lambda: sidecar.write_bytes(content.replace(b"features", b"Features"))):
        loss()
        restore_sidecars(store, plan)
        assert set_damaged_aside(plan, store) == []
        (line,) = drift(store, plan, [])
        assert line.startswith("features: 2 of 2 units were stored by versions that .stages does not tell")
        assert "unknown" in sidecar.read_text()
        assert UNKNOWN.code == "unknown"
    others = {path.name for path in sidecar.parent.glob("*.json")} - {"features.json"}
    assert others == {f"{stage}.json" for stage in stages_of(plan) if stage != "features"}


def test_a_kill_while_files_are_written_leaves_no_wrong_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    store = Store(str(tmp_path))
    write_files(store, {"report/index.html": b"old", "study.yaml": b"s"})
    write = store.files.write

    def dying(path: str, content: bytes) -> None:
        write(path, content)
        if path == "report/index.html":
            raise KeyboardInterrupt

    monkeypatch.setattr(store.files, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        write_files(store, {"report/index.html": b"new"})
    monkeypatch.undo()
    assert Path(store.root, "report/index.html").read_bytes() == b"new"
    assert set_damaged_aside(plan, store) == []
    write_files(store, {"report/index.html": b"new"})
    assert b"report/index.html" in store.read_json(CHECKSUMS)
