"""Reads YAML so that nothing in it is guessed and nothing is lost.

PyYAML follows YAML 1.1, where `no` is false, `010` is eight and `1:30` is ninety. Here plain text is a number only
where it is written as a decimal number; all else stays the text that stands there. Repeated keys are refused.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import InputError


class _Loader(yaml.SafeLoader):
    """A safe loader that lists repeated keys in `problems`; it refuses tags, and an alias inside what it names."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (how PyYAML replaces the inherited ones)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []
        self._open: set[str] = set()

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, tag, problem = event.anchor, getattr(event, "tag", None), ""
        if isinstance(event, yaml.AliasEvent) and anchor in self._open:
            problem = f"the alias '*{anchor}' stands inside what it names"
        elif tag not in _TAGS:
            problem = f"the tag '{tag}' is not read here; leave it out"
        if problem:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return super().compose_node(parent, index)

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        self._open.add(anchor)
        node = super().compose_sequence_node(anchor)
        self._open.discard(anchor)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        self._open.add(anchor)
        node = super().compose_mapping_node(anchor)
        self._open.discard(anchor)
        self._note_repeated_keys(node)
        return node

    def _note_repeated_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused when the mapping is built
            # A merged mapping (`<<`) gives way to the keys beside it; that is what a merge is for.
            same = key.tag if key.tag == _MERGE else self.construct_object(key)
            line = key.start_mark.line + 1
            if same in lines:
                self.problems.append(
                    f"line {line}: the key '{key.value}' stands in line {lines[same]} already; "
                    "remove or rename one of them"
                )
            lines.setdefault(same, line)


_MERGE = "tag:yaml.org,2002:merge"
_TAGS = (None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")))
"""Tags that a file may write out: those that do not read text as something else."""
for _tag, _written, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"0|-?[1-9][0-9]*", list("-0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_written})$"), _first)


def parse_yaml(path: Path, source: bytes) -> Any:
    """Content of YAML text: mappings, lists, text, whole and other numbers, and None; `path` names it in messages.

    Raises InputError with a line per problem: what cannot be read, and every key that a mapping repeats.
    """
    try:
        loader = _Loader(source.decode("utf-8-sig"))
        content = loader.get_single_data()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply to be a study file") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter from a number of thousands of digits
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if loader.problems:
        raise InputError(*(f"{path}: {problem}" for problem in loader.problems))
    return content
