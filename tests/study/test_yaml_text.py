"""Reading YAML: text stays what it is, numbers are decimal, and no key is lost."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.study.yaml_text import parse_yaml


def read(folder: Path, text: str) -> Any:
    return parse_yaml(folder / "study.yaml", text.encode())


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    return [line.removeprefix(f"{folder}/study.yaml: ") for line in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "on",
        "yes",
        "off",
        "true",
        "False",
        "01",
        "010",
        "08",
        "1:30",
        "12:30:45",
        "1_000",
        "0x1F",
        "0b1",
        "0o7",
        "2020-01-31",
        ".inf",
        ".nan",
        "+5",
        "-0",
        "=",
        "y",
    ],
)
def test_what_yaml_1_1_reads_as_something_else_stays_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"{text}: [{text}]\n") == {text: [text]}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-7", -7),
        ("1.50", 1.5),
        ("-.5", -0.5),
        ("1e-3", 0.001),
        ("3.", 3.0),
        ("+1.5E2", 150.0),
    ],
)
def test_decimal_numbers_are_numbers(tmp_path: Path, text: str, number: float) -> None:
    (value,) = read(tmp_path, f"[{text}]")
    assert value == number
    assert type(value) is type(number)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(string.printable, max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(string.printable, max_size=6), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_json_is_read_as_it_is(tmp_path: Path, content: Any) -> None:
    assert read(tmp_path, json.dumps(content)) == content


def test_every_repeated_key_is_named_with_both_lines(tmp_path: Path) -> None:
    text = "a: 1\nb:\n  x: {u: 1, u: 2}\n  y: 1\n  'x': 2\na: 3\na: 4\n1: c\n1.0: d\n"
    assert problems(tmp_path, text) == [
        f"line {line}: the key '{key}' stands in line {first} already; remove or rename one of them"
        for line, key, first in [(3, "u", 3), (5, "x", 3), (6, "a", 1), (7, "a", 1), (9, "1.0", 8)]
    ]


def test_a_merged_mapping_gives_way_to_the_keys_beside_it(tmp_path: Path) -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, x: 3}\ntwo: {<<: [*b, {z: 4, x: 9}]}\nthree: *b\n"
    assert read(tmp_path, text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 3, "y": 2},
        "two": {"x": 1, "y": 2, "z": 4},
        "three": {"x": 1, "y": 2},
    }
    assert problems(tmp_path, "a: {<<: {x: 1}, <<: {y: 2}}") == [
        "line 1: the key '<<' stands in line 1 already; remove or rename one of them"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a [*a]", "the alias '*a' stands inside what it names"),
        ("a: &a {b: [*a]}", "the alias '*a' stands inside what it names"),
        ("a: !!int 010", "the tag 'tag:yaml.org,2002:int' is not read here"),
        ("a: !!python/object/apply:os.system ['true']", "is not read here"),
        ("? [a]\n: b", "unhashable key"),
        (f"a: {'9' * 5000}", "limit (4300 digits)"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = problems(tmp_path, text)
    assert line.startswith("not valid YAML: ")
    assert expected in line
    assert "\n" not in line
