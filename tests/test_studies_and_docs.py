"""What the repository ships: its study files hold together and its documents point at things that exist."""

import re
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.plan import make_plan
from sweep.stages import rows_of_tables
from sweep.study import load_study

ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_is_the_papers_design_and_needs_nothing_from_outside() -> None:
    plan = make_plan(ROOT / "studies" / "demo.yaml")
    assert len(plan.models) == 20
    assert len(plan.selected) == 101
    rows = rows_of_tables(plan)
    assert rows["images"] == 1515
    assert rows["relevance"] == 20 * 101
    assert rows["similarity"] == 101 * 20 * 19 // 2
    # Own masks, a control of each source and random pixels; two fills.
    assert rows["masked"] == (20 + 20 + 1) * 20 * 6 * 101 * 2


def test_the_study_of_schedules_needs_nothing_from_outside_either() -> None:
    plan = make_plan(ROOT / "studies" / "schedules.yaml")
    assert len(plan.models) == 12
    assert {model.cell.extra["schedule"] for model in plan.models} == {"short", "long"}


def test_the_papers_study_says_what_it_lacks() -> None:
    study = load_study(ROOT / "studies" / "vpnl.yaml")
    assert len(list(study.cells())) == 20
    assert study.finetune.epochs == 25
    with pytest.raises(InputError) as caught:
        make_plan(ROOT / "studies" / "vpnl.yaml")
    assert len(caught.value.problems) == 2


@pytest.mark.shared_data
def test_the_umist_study_comes_to_ten_models(shared: Path) -> None:
    rows = rows_of_tables(make_plan(ROOT / "studies" / "umist.yaml"))
    assert rows["models"] == 10
    assert rows["masked"] == (10 + 10 + 1) * 10 * 8 * 20 * 2


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[di]*/*.md")), ids=lambda p: p.name
)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target
    for named in re.findall(
        r"`((?:sweep|docs|studies|queries|notebooks|tools|infra|benchmarks)/[\w./-]+\.\w+)`", text
    ):
        assert (ROOT / named).exists(), named
