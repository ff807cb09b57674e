"""A study file made of another one: its text and comments, under another name and, where asked for, of other pictures."""

import json
import re
from typing import Any

import yaml

PLAIN = re.compile(r"[A-Za-z_][\w./-]*(:[\w./-]+)?", re.ASCII)
"""Text that needs no quotes in YAML, wherever it stands; `null` and its like are quoted as well."""


def varied(text: str, name: str, source: str | None) -> str:
    """The text of a valid study file under another `name`; `source`, where there is one, takes the place of its own."""
    changes = {("name",): name} | ({("dataset", "source"): source} if source else {})
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    places = []
    for keys, value in changes.items():
        found = node
        for key in keys:
            found = next(own for own_key, own in found.value if own_key.value == key)
        places.append((found.start_mark.index, found.end_mark.index, _scalar(value)))
    for start, end, value in sorted(places, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _scalar(value: str) -> str:
    plain = PLAIN.fullmatch(value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)
