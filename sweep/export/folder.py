"""Writing an export: all of it, or nothing."""

import os
import shutil
import tempfile
from pathlib import Path

from sweep.errors import InputError
from sweep.export.dictionary import description
from sweep.export.pictures import COLUMNS, write_pictures
from sweep.export.tables import write_tables
from sweep.report.answers import Answers

SCRIPT = Path(__file__).with_name("tests.R")
"""The R script of every export."""


def check_target(target: Path) -> None:
    """Raise InputError where an export cannot be written to `target`, which must not be there yet."""
    if os.path.lexists(target):
        raise InputError(f"{target}: is there already; name a folder that is not, or remove it")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"{target}: {target.parent} cannot be written to; name another folder")


def export_study(answers: Answers, target: Path) -> list[str]:
    """Write a study's tables, data dictionary, R script, maps and masks into the new folder `target`.

    They are written into a temporary folder beside it, which is renamed when it is complete. Returns the models that
    have maps and masks there. Raises InputError as `check_target` does.
    """
    check_target(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        columns = write_tables(answers.plan, answers.store, temporary)
        models = write_pictures(answers.plan, answers.store, temporary)
        (temporary / "dataset_description.json").write_bytes(description(answers.plan, columns))
        (temporary / "README.md").write_text(_readme(answers, sorted(columns)), encoding="utf-8")
        (temporary / "study.yaml").write_bytes(answers.plan.source)
        (temporary / "analysis").mkdir()
        shutil.copyfile(SCRIPT, temporary / "analysis" / SCRIPT.name)
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return models


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _readme(answers: Answers, tables: list[str]) -> str:
    lacking = "".join(f"\n- {sentence}" for sentence in answers.missing)
    gaps = f"\nThe study is not complete:\n{lacking}\n" if lacking else ""
    return f"""# {answers.plan.study.name}

Exported by relevance-sweep. The layout is that of Psych-DS.
{gaps}
| file | what it is |
|---|---|
| `dataset_description.json` | what every column of every table means |
| `data/description-TABLE_data.csv` | the tables as CSV: {", ".join(tables)} |
| `parquet/TABLE.parquet` | the same tables as Parquet, with their types |
| `analysis/tests.R` | repeats the main tests with lme4: `Rscript analysis/tests.R` |
| `maps/MODEL.npy` | relevance maps, float32 (image, height, width), from -1 to 1; images in the order of the table `mapped` |
| `maps/MODEL.png` | the same as a picture, {COLUMNS} in a row: red supports the class, blue speaks against it |
| `masks/MODEL.npy` | rank of each pixel in the order of removal, int32 (image, height, width): 0 goes first |
| `masks/MODEL.png` | the same as a picture: black goes at the first level, white is never removed but with all |
| `study.yaml` | the study file |

Before you publish it, add the authors and a licence to `dataset_description.json`, and think of the persons shown: maps
let one guess at faces, and image names may tell who they are.
"""
