"""The rooms of the package: who may import whom (docs/architecture.md), no circle, and modules short enough to read."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "sweep"
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
BASE = {"arrays", "errors", "keys", "sweep"}
MAY_IMPORT: dict[str, set[str]] = {
    "arrays": set(),
    "errors": set(),
    "keys": {"arrays"},
    "study": {*BASE, "storage"},
    "agreement": {*BASE, "study", "data"},
    "lrp": {"arrays", "errors"},
    "storage": BASE,
    "numerics": {*BASE, "lrp", "study"},
    "attribution": {*BASE, "lrp", "study"},
    "models": {*BASE, "lrp", "study", "data"},
    "data": {*BASE, "study", "storage"},
    "plan": {*BASE, "agreement", "study", "data", "models", "lrp"},
    "parcel": {*BASE, "study", "data", "models"},
    "stages": {*BASE, "study", "plan", "data", "models", "lrp", "numerics", "attribution", "storage"},
    "costs": {*BASE, "study", "stages"},
    "analysis": {*BASE, "plan", "stages", "storage"},
    "statistics": {*BASE},
    "terminal": {*BASE, "plan", "stages", "storage"},
    "human": {*BASE, "plan", "stages", "storage", "analysis", "statistics"},
    "report": {
        *BASE,
        "plan",
        "study",
        "stages",
        "storage",
        "numerics",
        "analysis",
        "statistics",
        "human",
        "terminal",
    },
    "tracking": {*BASE, "plan", "stages", "storage", "numerics", "analysis", "models", "serving"},
    "actors": {*BASE, "plan", "study", "stages", "storage", "numerics", "models", "lrp", "tracking"},
    "export": {*BASE, "plan", "stages", "storage", "numerics", "analysis", "report"},
    "serving": {*BASE, "plan", "study", "models", "lrp", "numerics"},
    "runs": {
        *BASE,
        "plan",
        "stages",
        "storage",
        "numerics",
        "models",
        "lrp",
        "actors",
        "tracking",
        "analysis",
        "human",
        "report",
        "terminal",
    },
}
"""Rooms by what they may import; `cli`, `api` and what `sweep` exports may import all of them."""
FREE = {"cli", "api", "sweep"}
ONLY_IN = {
    "ray": {"actors"},
    "mlflow": {"tracking"},
    "tensorflow": {"lrp", "numerics", "attribution", "actors", "models"},
    "click": {"cli"},
    "fastapi": {"human"},
    "uvicorn": {"human"},
}
"""Libraries that belong to some rooms."""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own(names: set[str]) -> set[str]:
    """The modules of the package among imported names."""
    return {name for name in names if name in MODULES and name != "sweep"}


def at_import(path: Path) -> set[str]:
    """The package's modules that are imported when a module is: those at the top, not those inside functions."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= own(names) or own({node.module})
        elif isinstance(node, ast.Import):
            found |= own({alias.name for alias in node.names})
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) not in FREE])
def test_a_room_imports_only_what_it_may(module: str) -> None:
    imported = imports_of(MODULES[module])
    room = room_of(module)
    rooms = {room_of(name) for name in own(imported)} - {room}
    assert rooms <= MAY_IMPORT[room]
    for library, allowed in ONLY_IN.items():
        if any(name == library or name.startswith(f"{library}.") for name in imported):
            assert room in allowed


def test_no_circle() -> None:
    left = {module: at_import(path) - {module} for module, path in MODULES.items()}
    while free := [module for module, needed in left.items() if not needed]:
        for module in free:
            del left[module]
        left = {module: needed - set(free) for module, needed in left.items()}
    assert left == {}


def test_few_modules_at_the_root_and_each_readable_in_one_sitting() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 8
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300 or "More than 300 lines:" in text, module


def test_one_class_per_name() -> None:
    classes = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in classes.items() if count > 1] == []
