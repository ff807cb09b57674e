"""The names that a study gives to columns: those of factors and of labels.

They stand beside the tables' own columns and beside those that the SQL files make. DuckDB does not tell upper from
lower case there, and renames a column whose name is taken; so names are compared without case.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from sweep.keys import key_of
from sweep.storage.schemas import SCHEMAS

RESERVED = frozenset(
    {
        *SCHEMAS["images"].names,
        *SCHEMAS["models"].names,
        # Made by queries/: views over models, pairs of models and tasks.
        "condition",
        "extra",
        "factor",
        "level",
        "relation",
        "source_id",
        "destination_id",
        # Relations: other_both says that pretraining and task differ.
        "both",
        "pretraining_task",
        # Training settings, which MLflow's runs keep beside the factors.
        "batch_size",
        "learning_rate",
        "standardize",
        "from",
        "hidden",
        "learning_rate_schedule",
        "patience",
        "mirror",
    }
)
"""Names that no factor and no label can have, in lower case."""


def file_safe(name: str) -> str:
    """A name as part of a file's; where characters had to go, with what tells it from others that look the same then."""
    safe = re.sub(r"[^A-Za-z0-9_.]+", "_", name)
    return safe if safe == name else f"{safe}_{key_of(name)[:6]}"


def folded(name: str) -> str:
    """`name` as it is compared: without case, and without blanks around it."""
    return name.strip().casefold()


def taken(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of the `names` that is reserved, or the same as one before it but for case, and what is wrong with it."""
    seen: dict[str, str] = {}
    for name in names:
        same = folded(name)
        if same in RESERVED:
            yield name, "the study makes a column of that name itself; rename it"
        elif same in seen:
            yield name, f"it differs from '{seen[same]}' only in case or blanks; rename one of them"
        seen.setdefault(same, name)


def bad_names(factors: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Each factor whose name or levels cannot be told from others, and what is wrong with them.

    `factors` are all of a study with their levels, pretraining, task, seed and attribution included.
    """
    further = [name for name in factors if name not in ("pretraining", "task", "seed", "attribution")]
    for name in further:
        if not _FACTOR.fullmatch(name):
            yield name, "a factor's name may hold only letters, digits, '_', '.', '-' and blanks inside it"
    yield from taken(further)
    for name, levels in factors.items():
        seen: dict[str, str] = {}
        for level in levels:
            other = seen.setdefault(level.casefold(), level)
            if other != level:
                yield name, f"the levels {other} and {level} differ only in case; rename one of them"
    yield from _ambiguous_relations(
        # Models differ in no seed, as that is the replicate, and in no attribution, as each has them all.
        [name for name, levels in factors.items() if len(levels) > 1 and name not in ("seed", "attribution")]
    )


_FACTOR = re.compile(r"\w(?:[\w. -]*\w)?")
"""Names of factors are columns, parts of the names of relations, which queries take in a list with commas, and names of
parameters in MLflow."""


def _ambiguous_relations(varying: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Factors that make one name stand for two relations of models (queries/views.sql).

    A relation is named after the factors in which two models differ, in alphabetical order and joined by '_': 'a_b' may be
    one factor, or two.
    """
    seen: dict[str, tuple[str, ...]] = {}
    for size in range(1, len(varying) + 1):
        for chosen in combinations(sorted(varying), size):
            other = seen.setdefault("_".join(chosen), chosen)
            if other != chosen:
                yield (
                    max(sorted({*other, *chosen}), key=len),
                    f"models that differ in {' and '.join(other)} could not be told from those that differ in "
                    f"{' and '.join(chosen)}; rename one of these factors",
                )
                return
