"""What the repository ships: its study files hold together and its documents point at things that exist."""

import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sweep.cli.commands import cli
from sweep.data.proposal import propose
from sweep.errors import InputError
from sweep.models.weights import open_weights
from sweep.plan import make_plan
from sweep.stages import rows_of_tables
from sweep.study import load_study
from sweep.study.draft import text_of
from sweep.study.settings import Factors

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


def test_the_study_of_depths_trains_three_heads_on_two_parts_of_each_network() -> None:
    plan = make_plan(ROOT / "studies" / "depths.yaml")
    assert len(plan.models) == 18
    assert [(name, one.before) for name, one in plan.backbones.items()] == [
        ("objects", None),
        ("objects-from-block5_conv1", "block5_conv1"),
        ("faces", None),
        ("faces-from-block5_conv1", "block5_conv1"),
    ]


def test_the_study_of_controls_has_maps_of_permuted_networks() -> None:
    plan = make_plan(ROOT / "studies" / "sanity-check.yaml")
    rows = rows_of_tables(plan)
    assert rows["relevance"] == 8 * 101
    assert rows["randomized"] == 3 * 8 * 101
    # Own masks, two controls of each source, three draws of the third and random pixels.
    assert rows["masked"] == (8 * (1 + 2 + 3) + 1) * 8 * 6 * 101


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


def test_the_readmes_study_is_what_sweep_new_writes(tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        (tmp_path / "my-faces" / person).mkdir(parents=True)
        for index in range(5):
            pixels = np.random.default_rng([len(person), index]).integers(0, 256, (112, 112), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my-faces" / person / f"{index}.png")
    draft = propose("folder:my-faces", tmp_path)
    written = text_of(draft, Path("my-faces.yaml"), "my-faces")
    (block,) = (text for text in _blocks("README.md", "yaml") if text.startswith("name:"))
    assert yaml.safe_load(block) == yaml.safe_load(written)


@pytest.mark.parametrize("document", ["README.md", "docs/pictures.md", "docs/networks.md", "docs/human.md"])
def test_the_commands_that_readers_begin_with_exist(document: str) -> None:
    named = [
        line.split()
        for text in _blocks(document, "")
        for line in text.splitlines()
        if line.startswith("sweep ")
    ]
    assert len(named) > 2
    for _, command, *_ in named:
        assert command in cli.commands
    # Nobody else has what lies outside the project.
    assert "../" not in (ROOT / document).read_text(encoding="utf-8")


def test_the_networks_that_the_docs_name_are_what_a_study_takes() -> None:
    block, own = _blocks("docs/networks.md", "yaml")
    assert Factors.model_validate(yaml.safe_load(own)["factors"]).pretraining["mine"].readout == "own"
    levels = Factors.model_validate(yaml.safe_load(block)["factors"] | {"task": ["identity"]}).pretraining
    assert len(levels) == 3
    for name, level in levels.items():
        with pytest.raises(InputError, match="no weight file") if name == "faces" else nullcontext():
            assert open_weights(level, ROOT, name).key


def _blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


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
