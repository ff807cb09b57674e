"""No password is ever shown: every error of the package leaves them out."""

import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import InputError, StoreError, WorkError, has_password, redacted

WORD = st.text(string.ascii_letters + string.digits + "-._~!$*+,%", min_size=1, max_size=12)


@given(user=WORD, password=st.text(string.ascii_letters + string.digits + "#/@:?&=%", min_size=8), host=WORD)
def test_the_password_of_an_address_is_hidden(user: str, password: str, host: str) -> None:
    address = f"mysql+pymysql://{user}:{password}@{host}/base"
    assert has_password(address)
    said = redacted(f"cannot connect to {address}: refused")
    assert said == f"cannot connect to mysql+pymysql://***@{host}/base: refused"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://id:geheim@bucket/x", "s3://***@bucket/x"),
        ("http://:geheim@host", "http://***@host"),
        ("'https://u:geheim@h/x' and https://h:80/y", "'https://***@h/x' and https://h:80/y"),
        (
            "https://h/w.h5?X-Amz-Signature=geheim&part=1: gone",
            "https://h/w.h5?X-Amz-Signature=***&part=1: gone",
        ),
        ("s3://b/x?region=eu&secret_key=geheim", "s3://b/x?region=eu&secret_key=***"),
        ("https://h/x?access_token=geheim.", "https://h/x?access_token=***."),
    ],
)
def test_keys_among_the_parameters_are_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert has_password(text)
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000",
        "sqlite:////a/b:c@d/x.db",
        "s3://bucket/a@b",
        "faces/a.csv?x=1",
        "a: b@c",
        "row 3: what?",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert redacted(text) == text
    assert not has_password(text)


def test_every_error_leaves_passwords_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "in-the-environment")
    for kind in (InputError, WorkError, StoreError):
        error = kind("s3://id:geheim@bucket: refused the key in-the-environment")
        # As it comes back from a worker.
        for one in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
            assert str(one) == "s3://***@bucket: refused the key ***"
