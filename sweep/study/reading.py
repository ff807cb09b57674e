"""Reads study files."""

from pathlib import Path

from pydantic import ValidationError

from sweep.errors import InputError
from sweep.study.problems import problems
from sweep.study.settings import Study
from sweep.study.yaml_text import parse_yaml


def load_study(path: Path) -> Study:
    """Read and check a study file.

    Raises InputError with one line per problem: file, place inside the file, what is wrong, what to do.
    """
    return parse_study(path, read_study(path))


def read_study(path: Path) -> bytes:
    """The bytes of a study file. Raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such study file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def parse_study(path: Path, source: bytes) -> Study:
    """Check the bytes of a study file; `path` names it in messages. Raises InputError as `load_study` does."""
    content = parse_yaml(path, source)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping with the keys name, dataset and factors")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError(*(f"{path}: {line}" for line in problems(error, Study))) from None
