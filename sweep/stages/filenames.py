"""Whether the names in a study can be names of folders and files, found out before anything is written."""

from sweep.errors import InputError
from sweep.plan import Plan
from sweep.stages import all_units
from sweep.storage.store import Store

NAME_BYTES = 255
"""What file systems take as the name of a folder or a file."""
MARGIN = 16
"""For what is put around a unit's name elsewhere, as in the name of a record of its failure."""
TAKEN = (
    "mlflow.db",
    "mlflow.db-journal",
    "mlflow.db-shm",
    "mlflow.db-wal",
    "mlflow-artifacts",
    "calibration.json",
)
"""What lies beside the studies' folders."""


def store_of(plan: Plan, results: str) -> Store:
    """The store of a study's results under a results root. Raises InputError where a name in the study cannot be a file's."""
    _check_names(plan)
    return Store(f"{results.rstrip('/')}/{plan.study.name}")


def _check_names(plan: Plan) -> None:
    """Raise InputError where the study's name is no folder's, or its levels make names of files that are too long."""
    study = plan.study
    if study.name in TAKEN:
        raise InputError(
            f"{plan.path}: name: '{study.name}' lies beside the studies' folders already; call the study something else"
        )
    if len(study.name) > NAME_BYTES:
        raise InputError(
            f"{plan.path}: name: has {len(study.name)} characters, and a folder's name at most {NAME_BYTES}; shorten it"
        )
    cells = [model.cell for model in plan.models]
    longest = max(cells, key=lambda cell: len(cell.model_id))
    # A name holds two models at most, and less than a hundred bytes beside them: most studies need no closer look.
    if 2 * len(longest.model_id) + 100 <= NAME_BYTES:
        return
    length = max(len(unit.name.encode()) for unit in all_units(plan)) + MARGIN
    if length > NAME_BYTES:
        levels = {"pretraining": longest.pretraining, "task": longest.task, **longest.extra}
        factor = max(levels, key=lambda name: len(levels[name]))
        raise InputError(
            f"{plan.path}: factors.{factor}: the level '{levels[factor]}' makes names of files with {length} bytes, of which "
            f"{NAME_BYTES} are possible; shorten it, or other levels of {longest.model_id}"
        )
