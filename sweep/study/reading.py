"""A study: the settings of a study file together with the file, so that the paths in it have a place to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import PrivateAttr, ValidationError

from sweep.errors import InputError
from sweep.study.problems import problems
from sweep.study.settings import StudySettings
from sweep.study.yaml_text import parse_yaml

if TYPE_CHECKING:
    import pandas as pd


class Study(StudySettings):
    """A study file: what it says, where it stands, and its bytes as they were read.

    Load one from a file with `load`, or write one from Python with `create`.
    """

    _file: tuple[Path, bytes] | None = PrivateAttr(None)

    @property
    def path(self) -> Path:
        """The study file. Raises InputError where the study was built without one."""
        return self._stored[0]

    @property
    def source(self) -> bytes:
        """The file's bytes, as they were read. Raises InputError where the study was built without a file."""
        return self._stored[1]

    @property
    def _stored(self) -> tuple[Path, bytes]:
        if self._file is None:
            raise InputError(f"study {self.name}: has no file; make it with sweep.Study.create(path, ...)")
        return self._file

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read and check a study file.

        Raises InputError with one line per problem: file, place inside the file, what is wrong, what to do.
        """
        return load_study(Path(path))

    @classmethod
    def create(
        cls, path: str | Path, images: "pd.DataFrame | None" = None, *, replace: bool = False, **settings: Any
    ) -> "Study":
        """Write a study file, and with `images` its manifest, from plain Python values; returns the study.

        Args:
            path: the study file to write, as in "mine.yaml". The study's name is the file's, unless `settings` name it.
            images: a table with the columns path and identity and, where known, gender, view_deg, split and further
                labels, a row per image. It is written beside the study file (mine-images.csv), and its paths start
                there. Without it, `settings` name the images (`dataset={"source": ...}`).
            replace: whether files of these names with other content may be overwritten.
            settings: the blocks of a study file (dataset, factors, finetune, relevance, masking, analysis).

        Raises InputError for settings that a study file may not have, and where a file is in the way; nothing is
        written then.
        """
        path = Path(path)
        files: dict[Path, bytes] = {}
        content: dict[str, Any] = {"name": path.stem, **settings}
        if images is not None:
            manifest = path.with_name(f"{path.stem}-images.csv")
            files[manifest] = images.to_csv(index=False, lineterminator="\n").encode()
            content["dataset"] = {**content.get("dataset", {}), "source": f"manifest:{manifest.name}"}
        checked = _checked(path, content).model_dump(mode="json", exclude_unset=True)
        text: str = yaml.safe_dump(checked, sort_keys=False, allow_unicode=True)
        files[path] = text.encode()
        study = parse_study(path, files[path])
        in_the_way = [one for one in files if one.exists() and one.read_bytes() != files[one]]
        if in_the_way and not replace:
            raise InputError(
                *(
                    f"{one}: exists with other content; give another path, or replace=True"
                    for one in in_the_way
                )
            )
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        for one, written in files.items():
            one.write_bytes(written)
        return study


def load_study(path: Path) -> Study:
    """`Study.load`."""
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
    study = _checked(path, content)
    study._file = path, source
    return study


def _checked(path: Path, content: dict[Any, Any]) -> Study:
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError(*(f"{path}: {line}" for line in problems(error, Study))) from None
