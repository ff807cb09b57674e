"""docs/security.md: every row that claims something names tests that exist; and the tests that belong to no other part."""

import ast
import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from sweep.actors.cluster import WITHOUT_METRICS
from sweep.errors import InputError
from sweep.lrp.network_file import to_bytes
from sweep.models.network import untrained_head
from sweep.numerics.head import trained_of
from sweep.numerics.readout import Readout
from sweep.study import load_study
from tests.studies import SmallStudy

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_the_tests_that_the_table_names_exist(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_that_claims_a_limit_names_a_test() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.splitlines()
        if line.startswith("| ") and "held by" not in line
    ]
    assert len(rows) >= 15
    unheld = [row[0] for row in rows if "`tests/" not in row[-1]]
    # What these say is what nothing prevents.
    assert unheld == [
        "who holds the token",
        "another user of the head, or of a laptop with an open tunnel",
        "the key of SSH",
    ]


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/cron.d/x", "a/b", "a\\b", "a\0b", "..", ".hidden"])
def test_no_name_in_a_study_leads_out_of_the_results(small_study: SmallStudy, name: str) -> None:
    """A study's name is that of a folder; names of levels are parts of files' names, and may have dots."""
    factors = small_study.content["factors"]
    weights = factors["pretraining"]["first"]
    changes: list[dict[str, object]] = [{"name": name}]
    if name not in ("..", ".hidden"):
        changes.append({"factors": {**factors, "pretraining": {name: weights}}})
    for changed in changes:
        small_study.path.write_text(json.dumps({**small_study.content, **changed}))
        with pytest.raises(InputError):
            load_study(small_study.path)


@pytest.mark.parametrize("name", ["node-env.sh", "Dockerfile"])
def test_nodes_serve_no_metrics(name: str) -> None:
    """Ray asks for no token there. A run without a cluster has the same: tests/actors/test_cluster.py."""
    text = (ROOT / "infra" / name).read_text()
    for variable, value in WITHOUT_METRICS.items():
        assert re.search(rf"^(export|ENV) .*\b{variable}={value}( |$)", text, re.MULTILINE)


class Evil:
    """Unpickling it says so."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


def test_a_readout_that_is_a_pickle_runs_nothing() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, kernel=np.array([Evil()], dtype=object), bias=np.zeros(1))
    for content in (buffer.getvalue(), pickle.dumps(Evil())):
        for read in (Readout.from_bytes, trained_of):
            with pytest.raises(ValueError, match="pickle"):
                read(content)


def test_a_head_that_is_a_pickle_runs_nothing() -> None:
    sound = untrained_head(None, (4,), (3,), 2, "key")
    with np.load(io.BytesIO(to_bytes(sound, {})), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for name in arrays:
        buffer = io.BytesIO()
        np.savez(buffer, **{**arrays, name: np.array([Evil()], dtype=object)})
        with pytest.raises(ValueError, match="pickle"):
            trained_of(buffer.getvalue())
