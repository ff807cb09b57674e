"""Whatever is wrong with a study file, a manifest or weights: a line and exit code 2, and nothing written."""

import io
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.cli import main
from sweep.errors import InputError
from sweep.plan import make_plan
from tests.studies import SmallStudy, narrow_arrays, write_faces, write_small_study

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("malformed")


@pytest.fixture(scope="module")
def study(folder: Path) -> SmallStudy:
    write_small_study(folder)
    write_faces(folder / "few", identities=3, views=3)
    study = SmallStudy(folder / "study.yaml", yaml.safe_load((folder / "study.yaml").read_text()))
    return study.changed(dataset={"source": "manifest:few/manifest.csv"})


def command(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the command, in this process; what it does not expect is raised."""
    errors, before = io.StringIO(), sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.argv = ["sweep", *arguments]
    try:
        with redirect_stderr(errors), redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(end.value.code, int)
    return end.value.code, errors.getvalue()


def check(study: Path) -> None:
    """The study is either fine or refused in the way that a user can use, by both commands that read it."""
    results = study.parent / "results"
    code, errors = command("status", str(study), "--results", str(results))
    assert not results.exists()
    if code == 0:
        # What `sweep run` reads before it touches the results.
        try:
            make_plan(study).load_networks()
        except InputError as error:
            code, errors = command("run", str(study), "--results", str(results))
            assert errors.splitlines() == [f"sweep: {line}" for line in str(error).splitlines()]
    if code != 0:
        assert code == 2
        assert errors.strip()
        assert all(line.startswith("sweep: ") for line in errors.splitlines())
        assert str(study) in errors or "few" in errors
    assert not results.exists()


LATE = {
    "factors:\n": [
        (
            "factors:\n  Epochs: {a: {epochs: 1}, b: {epochs: 2}}\n",
            ["factors.Epochs: the study makes a column"],
        ),
        (
            "factors:\n  hair: {a: {epochs: 1}, b: {epochs: 2}}\n",
            ["factors.hair: the images have a label of that name"],
        ),
        (
            "factors:\n  a: {x: {epochs: 1}, y: {epochs: 2}}\n  b: {u: {epochs: 3}, v: {batch_size: 9}}\n",
            ["factors.b: overrides epochs, as the factor a does"],
        ),
        ("factors:\n  seed: [3, 4]\n", ["line 13: the key 'seed' stands in line 6 already"]),
    ],
    "view_deg: 0\n": [
        ("view_deg: [0, 7.3, 1234]\n", ["view_deg: selects no image with 7.3, 1234; there are: -15, 0, 15"]),
        (
            "identity: [01, 8]\n      hair: true\n",
            ["selects no image with '01', '8'", "selects no image with 'true'"],
        ),
    ],
    "relevance:\n": [
        (
            "relevance:\n  composite: {preset: preset_a, names: {block1: flat}}\n",
            ["composite: no layer with a rule is"],
        ),
        (
            "relevance:\n  composite: {preset: preset_a, positions: {20: z, a: z}}\n",
            ["positions: 'a' is not a whole number"],
        ),
        (
            "relevance:\n  engine: innvestigate\n  composite: {preset: preset_b_flat_until, until: block1}\n",
            ["composite: no layer with weights is named 'block1'"],
        ),
    ],
    "npz:first.npz": [
        (
            "{weights: 'npz:first.npz', mean: [123.68, 116.779, 103.939]}",
            ["first: mean: give channel_order too"],
        ),
        ("npz:second.npz", ["factors.pretraining: first and second have the same weights"]),
    ],
    "input_size: 32\n": [
        (
            "input_size: 32\n  validation_fraction: 0.01\n",
            ["dataset.validation_fraction: 0.01 of 9 images holds none"],
        ),
    ],
}
"""What was once found late or never: a part of the study file, and what stands in its place, with what is said of it."""


@pytest.mark.parametrize(
    ("part", "instead", "expected"),
    [(part, instead, expected) for part, cases in LATE.items() for instead, expected in cases],
)
def test_plan_status_and_run_say_the_same_at_once(
    study: SmallStudy, part: str, instead: str, expected: list[str]
) -> None:
    text = study.path.read_text()
    assert text.count(part) == 1
    spoilt = study.path.with_name("late.yaml")
    spoilt.write_text(text.replace(part, instead))
    results = study.path.parent / "results"
    for arguments in (["plan", "--no-time"], ["status"], ["run"]):
        code, errors = command(*arguments, str(spoilt), "--results", str(results))
        assert code == 2
        lines = errors.splitlines()
        assert len(lines) == len(expected)
        for line, words in zip(lines, expected, strict=True):
            assert line.startswith(f"sweep: {spoilt}: ")
            assert words in line
    assert not results.exists()


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["npz:first.npz", "keras:imagenet2", "random:-1", "random:x", "manifest:", "..", "0", "1e400", "~"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside nested mappings and lists."""
    inside = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of `content` in which `change` was made to the container and the key at `path`."""
    copy = yaml.safe_load(yaml.safe_dump(content))
    container = copy
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return copy


@EXAMPLES
@given(st.data())
def test_study_files_with_junk_in_them(study: SmallStudy, data: st.DataObject) -> None:
    content: Any = study.content
    for _ in range(data.draw(st.integers(1, 3))):
        known = list(places(content))
        if not known:
            break
        path, value = data.draw(st.sampled_from(known)), data.draw(junk)
        kind = data.draw(st.sampled_from(["replace", "remove", "add"]))

        def change(container: Any, key: Any, kind: str = kind, value: Any = value) -> None:
            if kind == "replace":
                container[key] = value
            elif kind == "remove":
                del container[key]
            elif isinstance(container, dict):
                container[data.draw(st.text(max_size=8) | st.integers())] = value
            else:
                container.insert(key, value)

        content = changed(content, path, change)
    spoilt = study.path.with_name("junk.yaml")
    spoilt.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    check(spoilt)


@EXAMPLES
@given(st.data())
def test_study_files_with_damaged_text(study: SmallStudy, data: st.DataObject) -> None:
    spoilt = study.path.with_name("text.yaml")
    spoilt.write_bytes(damaged(study.path.read_bytes(), data))
    check(spoilt)


@EXAMPLES
@given(st.data())
def test_manifests_with_damaged_text(study: SmallStudy, data: st.DataObject) -> None:
    few = study.path.parent / "few"
    (few / "spoilt.csv").write_bytes(damaged((few / "manifest.csv").read_bytes(), data))
    spoilt = study.path.with_name("manifest.yaml")
    content = study.content | {"dataset": {"source": "manifest:few/spoilt.csv", "input_size": 32}}
    spoilt.write_text(yaml.safe_dump(content))
    check(spoilt)


@EXAMPLES
@given(st.data())
def test_weight_files_with_damaged_bytes(study: SmallStudy, data: st.DataObject) -> None:
    spoilt = weights_study(study)
    whole = io.BytesIO()
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(whole, **narrow_arrays("first"))
    (study.path.parent / "spoilt.npz").write_bytes(damaged(whole.getvalue(), data))
    check(spoilt)


ARRAYS: list[Callable[[np.ndarray[Any, Any]], Any]] = [
    lambda array: array[..., :-1],
    lambda array: array.astype(np.float64),
    lambda array: array.astype(np.complex64),
    lambda array: array.astype(str),
    lambda array: np.full_like(array, np.nan),
    lambda array: np.full_like(array, np.inf),
    lambda array: np.zeros_like(array),
    lambda array: np.full(array.shape, 1e300),
    lambda array: array.astype(object),
    lambda array: np.zeros(0, np.float32),
    lambda array: np.float32(1),
    lambda array: array[None],
    lambda array: np.array([{"a": 1}], dtype=object),
    lambda array: array > 0,
    lambda array: array.astype("datetime64[s]"),
]
PREPROCESSING = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"channel_order": "RGB"}',
    '{"channel_order": "XYZ", "mean": [0, 0, 0], "scale": 1}',
    '{"channel_order": "RGB", "mean": [0, 0], "scale": 1}',
    '{"channel_order": "RGB", "mean": ["a", 0, 0], "scale": 1}',
    '{"channel_order": "RGB", "mean": [0, 0, NaN], "scale": 1}',
    '{"channel_order": "RGB", "mean": [1, 2, 3], "scale": 0}',
    '{"channel_order": "RGB", "mean": [0.4, 0.5, 0.6], "scale": 1}',
    '{"channel_order": [], "mean": 3, "scale": {}}',
    '{"channel_order": "RGB", "mean": [0, 0, 1e999], "scale": "x"}',
    '"text"',
    "3",
    "[" * 5000,
]


@EXAMPLES
@given(st.data())
def test_weight_files_with_wrong_arrays(study: SmallStudy, data: st.DataObject) -> None:
    arrays: dict[str, Any] = narrow_arrays("first")
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), max_size=2, unique=True)):
        arrays[name] = data.draw(st.sampled_from(ARRAYS))(arrays[name])
    if data.draw(st.booleans()):
        arrays["preprocessing"] = data.draw(st.sampled_from([*PREPROCESSING, np.zeros(3), np.array([None])]))
    if data.draw(st.integers(0, 5)) == 0:
        del arrays[data.draw(st.sampled_from(sorted(arrays)))]
    np.savez(study.path.parent / "spoilt.npz", **arrays)
    check(weights_study(study))


@pytest.mark.parametrize("suffix", ["keras", "vggface"])
@settings(EXAMPLES, max_examples=25)
@given(content=st.binary(max_size=200))
def test_files_that_are_no_hdf5(study: SmallStudy, suffix: str, content: bytes) -> None:
    (study.path.parent / "spoilt.h5").write_bytes(
        b"\x89HDF\r\n\x1a\n" + content if len(content) % 2 else content
    )
    check(weights_study(study, f"{suffix}:spoilt.h5"))


def test_a_zip_that_unpacks_to_much_more_than_it_holds(study: SmallStudy) -> None:
    with zipfile.ZipFile(study.path.parent / "spoilt.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("block1_conv1/kernel.npy", b"\0" * 50_000_000)
    check(weights_study(study))


def weights_study(study: SmallStudy, weights: str = "npz:spoilt.npz") -> Path:
    """A study file whose first backbone's weights are `weights`."""
    spoilt = study.path.with_name("weights.yaml")
    factors = study.content["factors"] | {"pretraining": {"first": weights, "second": "npz:second.npz"}}
    spoilt.write_text(yaml.safe_dump(study.content | {"factors": factors}))
    return spoilt


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """`content` with parts cut out, repeated, overwritten or replaced."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, max(len(content) - 1, 0)))
        stop = start + data.draw(st.integers(0, 60))
        new = data.draw(
            st.sampled_from(
                [b"", content[start:stop] * 2, b"\0", b"\xff\xfe", b'"', b",", b"\n", b": {", b"\t- &a *a"]
            )
            | st.binary(max_size=8)
            | st.text(max_size=5).map(lambda text: text.encode("utf-8", "surrogatepass"))
        )
        content = content[:start] + new + content[stop:]
    return content
