"""Names of factors and labels: what tables and queries take already, whatever the case."""

from collections.abc import Callable, Sequence

import duckdb
import pytest

from sweep.storage.schemas import SCHEMAS
from sweep.study.names import RESERVED, bad_names, taken

KNOWN: dict[str, Sequence[str]] = {
    "pretraining": ("a", "b"),
    "task": ("identity", "gender"),
    "seed": ("1", "2"),
}


def test_no_column_of_images_or_models_is_left_to_a_study() -> None:
    for table in ("images", "models"):
        assert set(SCHEMAS[table].names) <= RESERVED


@pytest.mark.parametrize("spelt", [str.lower, str.upper, str.title, " {}".format])
def test_reserved_names_are_refused_in_any_case(spelt: Callable[[str], str]) -> None:
    for name in sorted(RESERVED - KNOWN.keys()):
        assert [found for found, _ in taken(["fine", spelt(name)])] == [spelt(name)]
        assert spelt(name) in [found for found, _ in bad_names({**KNOWN, spelt(name): ("x", "y")})]
    assert [found for found, _ in taken(["Task", "SEED"])] == ["Task", "SEED"]


def test_duckdb_would_rename_what_is_refused() -> None:
    with duckdb.connect() as connection:
        columns = connection.sql("SELECT * FROM (SELECT 1 AS hair, 2 AS Hair)").columns
    assert columns != ["hair", "Hair"]
    assert [name for name, _ in taken(["hair", "Hair"])] == ["Hair"]


@pytest.mark.parametrize(
    ("factors", "refused", "words"),
    [
        ({"a,b": "xy"}, "a,b", "may hold only letters"),
        ({"a=b": "xy"}, "a=b", "may hold only letters"),
        ({"-a": "xy"}, "-a", "may hold only letters"),
        ({"Rate": "xy", "rate": "uv"}, "rate", "differs from 'Rate' only in case"),
        ({"rate": ["Low", "low"]}, "rate", "the levels Low and low differ only in case"),
        ({"a": "xy", "b": "xy", "a_b": "xy"}, "a_b", "could not be told from those that differ in"),
        ({"a": "xy", "b_c": "xy", "a_b": "xy", "c": "xy"}, "a_b", "could not be told"),
    ],
)
def test_factors_that_cannot_be_told_apart(
    factors: dict[str, Sequence[str]], refused: str, words: str
) -> None:
    ((name, why),) = bad_names({**KNOWN, **factors})
    assert name == refused
    assert words in why


@pytest.mark.parametrize("name", ["schedule", "learning-rate", "Größe 2", "a.b", "n", "source", "x_y"])
def test_other_names_are_free(name: str) -> None:
    assert not list(bad_names({**KNOWN, name: ("no", "1.5")}))
    # A factor of one level never differs, so it is in no relation's name.
    assert not list(bad_names({**KNOWN, "a": "xy", "b": "xy", "a_b": ("only",)}))
