"""Makes the reference pages of the docs' site from the code, when MkDocs builds it (a hook: see mkdocs.yml).

Nothing of this is stored: the pages are what the code says at the time.
"""

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the checkout, whatever is installed

UNLIMITED = 2**31 - 1
"""A limit from here on is that of the machine's numbers, and not worth telling."""


@cache
def pages() -> dict[str, str]:
    """Every generated page, by its path in the docs."""
    return {
        "reference/commands.md": commands(),
        "reference/study-file.md": study_file(),
        "reference/python.md": python(),
        "reference/tables.md": tables(),
        "reference/sql.md": sql(),
    }


def on_config(config: Any) -> Any:
    """Add pages that the navigation does not name to its group "How to", so that none is lost; MkDocs calls this."""
    named = set(_named(config.nav)) | set(pages())
    (how_to,) = (group["How to"] for group in config.nav if "How to" in group)
    found = sorted(
        path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")
    )
    how_to += [path for path in found if path not in named]
    return config


def _named(nav: Any) -> Iterator[str]:
    """Every page of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(inner)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of `docs/`; MkDocs calls this."""
    from mkdocs.structure.files import File

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def commands() -> str:
    """Every command with its help, as `sweep COMMAND --help` prints it."""
    import click

    from sweep.cli.commands import cli

    parts = [
        "# Commands",
        "Exit codes: 0 done, 1 failed work, 2 bad input, 130 stopped. `sweep COMMAND --help` prints what stands here.",
    ]

    def add(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=name.split()[-1], parent=parent, terminal_width=100)
        parts.append(f"## {name}\n\n```\n{command.get_help(context)}\n```")
        if isinstance(command, click.Group):
            for inner in sorted(command.commands):
                add(command.commands[inner], f"{name} {inner}", context)

    top = click.Context(cli, info_name="sweep")
    for name in sorted(cli.commands):
        add(cli.commands[name], f"sweep {name}", top)
    return "\n\n".join(parts) + "\n"


def study_file() -> str:
    """Every key of a study file, from the schema that `sweep schema` prints."""
    from sweep.study.settings import StudySettings

    schema = StudySettings.model_json_schema()
    parts = [
        "# The study file",
        "A study is one YAML file. Keys without a default are required. `sweep schema` prints the same as a JSON schema, by "
        "which editors complete and check study files ([Your own pictures](../pictures.md#help-in-an-editor)).",
        _keys(schema, schema["$defs"]),
    ]
    shown = [name for name in schema["$defs"] if schema["$defs"][name].get("properties")]
    for name in shown:
        block = schema["$defs"][name]
        parts.append(f"## {name}\n\n{block.get('description', '')}\n\n{_keys(block, schema['$defs'])}")
    return "\n\n".join(parts) + "\n"


def _keys(block: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in block["properties"].items():
        # A block of settings has its own defaults and its own description, in its own section.
        inner = named.get(value.get("$ref", "").rpartition("/")[2], {})
        is_block = bool(inner.get("properties"))
        default = f"`{json.dumps(value['default'])}`" if "default" in value and not is_block else ""
        # A factor's levels change settings that another block explains.
        same = (other["properties"][key] for other in named.values() if key in other.get("properties", {}))
        explained = next((one["description"] for one in same if "description" in one), "")
        told = value.get("description") or inner.get("description") or explained
        lines.append(f"| `{key}` | {_cell(_kind(value, named))} | {_cell(default)} | {_cell(told)} |")
    return "\n".join(lines)


def _kind(value: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """What a setting may be, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if named[name].get("properties") else _kind(named[name], named)
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(one, named) for one in value["anyOf"]))
    kind = str(value.get("type", "anything"))
    if kind == "array" and isinstance(value.get("items"), dict):
        return f"list of {_kind(value['items'], named)}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"names with {_kind(value['additionalProperties'], named)}"
    limits = [
        f"{sign} {value[name]}"
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in value and abs(value[name]) < UNLIMITED
    ]
    return " ".join([{"null": "nothing", "string": "text"}.get(kind, kind), *limits])


def python() -> str:
    """What the package exports, with signatures and docstrings."""
    import sweep

    parts = [
        "# Python",
        "What `import sweep` offers; [From Python](../python.md) shows it at work.",
    ]
    for name in sweep.__all__:
        if name != "lrp":
            parts += _described(name, getattr(sweep, name))
    parts.append("## lrp\n\nThe relevance engine has a page of its own: [LRP and its exactness](../lrp.md).")
    return "\n\n".join(parts) + "\n"


def _described(name: str, thing: Any) -> Iterator[str]:
    yield f"## {name}"
    if inspect.isclass(thing):
        yield _text(thing)
        for inner, member in vars(thing).items():
            function = member.__func__ if isinstance(member, classmethod) else member
            if inner.startswith("_"):
                continue
            if inspect.isfunction(function):
                yield f"### {name}.{inner}{{ #{name.lower()}-{inner.lower()} }}"
                yield f"```python\n{inner}{_signature(function)}\n```"
                yield _text(function)
            elif isinstance(member, property):
                yield f"### {name}.{inner}{{ #{name.lower()}-{inner.lower()} }}"
                yield _text(member)
    else:
        yield f"```python\n{name}{_signature(thing)}\n```"
        yield _text(thing)


def _signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("sweep.study.settings.", "").replace("sweep.api.", "")


def _text(thing: Any) -> str:
    """A docstring as Markdown: its sections are code blocks, so that their indentation stays."""
    text = inspect.getdoc(thing) or ""
    opening, *sections = text.split("\n\n")
    told = [opening]
    for section in sections:
        if section.startswith(("Args:", "Raises:", "Returns:")):
            head, _, body = section.partition("\n")
            told.append(f"{head}\n\n" + "\n".join(f"- {line}" for line in _entries(body)))
        else:
            told.append(section)
    return "\n\n".join(told)


def _entries(body: str) -> Iterator[str]:
    """The entries of a section, each in one line."""
    entry: list[str] = []
    for line in textwrap.dedent(body).splitlines():
        if entry and not line.startswith(" "):
            yield " ".join(entry)
            entry = []
        entry.append(line.strip())
    if entry:
        yield " ".join(entry)


def tables() -> str:
    """The columns of every stored table, and of those that an export adds."""
    from sweep.export.dictionary import COLUMNS
    from sweep.storage.schemas import SCHEMAS

    parts = [
        "# Tables",
        "Every table is a folder of Parquet files under `results/STUDY/`. `images` and `models` have further columns for labels "
        "and factors that a study names. With `masking.granularity: cell`, `masked` has a row per chunk of images, with counts.",
    ]
    for name, schema in SCHEMAS.items():
        lines = ["| column | type | meaning |", "|---|---|---|"]
        for field in schema:
            doc = (field.metadata or {}).get(b"doc", b"").decode()
            lines.append(f"| `{field.name}` | {_cell(str(field.type))} | {_cell(doc)} |")
        parts.append(f"## {name}\n\n" + "\n".join(lines))
    parts.append("# Tables of an export\n\n`sweep export` adds what the queries answer.")
    for name, columns in COLUMNS.items():
        rows = [f"| `{column}` | {_cell(meaning)} |" for column, meaning in columns.items()]
        parts.append(f"## {name} (export)\n\n" + "\n".join(["| column | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts).replace("\n# Tables of", "\n## Tables of") + "\n"


def sql() -> str:
    """The SQL files, from their headers."""
    from sweep.analysis.queries import list_queries

    parts = [
        "# SQL",
        "The files of `queries/`. `sweep query NAME` runs one; so does DuckDB's shell ([Take the numbers elsewhere](../numbers.md)).",
    ]
    for query in list_queries():
        needs = f"\n\nRun before it: {', '.join(query.needs)}." if query.needs else ""
        parts.append(
            f"## {query.name}\n\n{query.question}\n\n**Returns** {_plain(query.returns)}\n\n**Paper** {_plain(query.paper)}\n\n"
            f"**Reads** {', '.join(query.reads)}. **Parameters** {', '.join(query.parameters) or 'none'}.{needs}"
        )
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text in which nothing is taken for Markdown."""
    for sign in "_*[]<":
        text = text.replace(sign, f"\\{sign}")
    return text
