"""What a user may write after --results, and which place that is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.storage.addresses import expanded, place_of, results_root


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("results", "results"),
        ("results//", "results"),
        ("/", "/"),
        ("~/results", "/home/me/results"),
        ("$WHERE/a", "/data/a"),
        ("${WHERE}/a", "/data/a"),
        ("file:///data/a%20b/", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("a b [1] 50%20 #?*'\"é", "a b [1] 50%20 #?*'\"é"),
        ("s3://bucket/a/b=c/", "s3://bucket/a/b=c"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_places(monkeypatch: pytest.MonkeyPatch, given: str, root: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "/data")
    assert results_root(given) == root
    assert results_root(root) == root


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "--results: is empty"),
        (" ", "--results: is empty"),
        ("s3://", "names no bucket; write it as s3://bucket/folder"),
        ("s3:/bucket/x", "has two slashes after the colon"),
        ("s3:bucket", "has two slashes after the colon"),
        (
            "s3://id:geheim@bucket/x",
            r"--results s3://\*\*\*@bucket/x: an address with a password would be stored",
        ),
        ("s3://bucket/x?secret_key=geheim", r"secret_key=\*\*\*: an address with a password"),
        ("s3://bucket/x?region=eu", "takes no '\\?'"),
        ("s3://bucket/a#b", "here is '#'"),
        ("s3://bucket/a%20b", "here is '%'"),
        ("s3://bucket/a b", "here is ' '"),
        ("s3://bucket/a[1]*", "here is '\\['"),
        ("file://other/data", "write a folder's address as file:///FOLDER"),
        ("file:results", "write a folder's address as file:///FOLDER"),
        ("$NOT_SET/x", "the variable NOT_SET is not set"),
        ("~nobody-of-this-name/x", "no home folder is known for '~nobody-of-this-name'"),
    ],
)
def test_what_names_no_place(given: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        results_root(given)
    assert "geheim" not in str(refused.value)


def test_a_folder_of_that_very_name_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("$HOME", "~", "$NOT_SET"):
        Path(name).mkdir()
        assert expanded(name, "here") == name


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_every_text_is_a_place_or_refused_in_a_line(text: str) -> None:
    try:
        root = place_of(text)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert place_of(root) == root
