"""Texts that a reader takes for the same and a computer does not."""

import unicodedata
from collections.abc import Iterable, Sequence


def unspaced(text: str) -> str:
    """A text without the differences that nobody sees: spaces at its ends, their number, and the Unicode form."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def folded(text: str) -> str:
    """A text without those differences, and without upper case."""
    return unicodedata.normalize("NFC", unspaced(text).casefold())


def look_alike(values: Sequence[str]) -> tuple[int, int] | None:
    """Positions of the first two values that differ, though nobody sees how."""
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        earlier = first.setdefault(unspaced(value), index)
        if values[earlier] != value:
            return earlier, index
    return None


def differ_by_case(values: Iterable[str]) -> tuple[str, str] | None:
    """The first two values that differ only by upper and lower case."""
    first: dict[str, str] = {}
    for value in sorted(values):
        earlier = first.setdefault(folded(value), value)
        if earlier != value:
            return earlier, value
    return None
