"""What a report is made of: the answers of the queries on a study's tables, asked once."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute

from sweep.analysis.provenance import TableIdentity, table_identities
from sweep.analysis.queries import QuerySession, Value
from sweep.errors import InputError, WorkError
from sweep.human.tables import answered
from sweep.plan import Plan
from sweep.report.style import Styles, styles_of
from sweep.stages import STAGES, all_units, attributions, finetune, index_of_study, similarity, with_gaps
from sweep.storage.store import Store, Unit

NAMED = 5
"""Models that are named where some are missing."""
LOG, LINEAR = "log", "linear"
"""The axes of percent removed over which an area can be taken."""
PAPER_FILL = "mean"
"""What removed pixels become in the paper."""
STRICTEST_FIRST = ("other_image", "mean_map", "randomized", "blocks", "scattered", "reversed")
"""Controls, from the one that has most in common with a mask; the order in which the queries choose one."""
PAIR_RESAMPLES = 200
"""Resamples per pair of models: enough to tell whether its index has an interval at all, which is not shown."""
PEOPLE = ("preference", "targets", "agreement", "models")
"""Queries on the answers of people, without `human_` in front."""
MATRIX_MODELS = 60
"""Models that a matrix of all against all can show; of more, the first seeds of each condition are drawn."""


@dataclass(frozen=True)
class Answers:
    """A study's plan and store, and what its tables answer; every query runs once, when first needed."""

    plan: Plan
    """With the gaps that the results have."""
    store: Store
    missing: Sequence[str] = ()
    """What the study lacks, in sentences; nothing where it is complete."""
    _turn: Any = field(default_factory=Lock, init=False, repr=False, compare=False)
    """Held while a query runs: whoever draws, and whoever asks ahead (`sweep.report.ahead`), share one session."""
    _known: dict[Any, pa.Table] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def paper_fill(self) -> str:
        """The fill under which the paper's tests are told: the paper's own where the study has it."""
        fills = self.plan.study.masking.fills
        return PAPER_FILL if PAPER_FILL in fills else self.answer_fill

    @property
    def answer_fill(self) -> str:
        """The fill under which the transfer index is told first: the one that the queries take by default."""
        fills = self.plan.study.masking.fills
        return "linear" if "linear" in fills else fills[0]

    @property
    def answer_control(self) -> str | None:
        """The control that the transfer index is told against first; None where the study has none."""
        return next((name for name in STRICTEST_FIRST if name in self.plan.study.masking.controls), None)

    @cached_property
    def curves(self) -> Mapping[str, pa.Table]:
        """Accuracy by condition, bin and percent, by fill."""
        return {fill: self._ask("accuracy_curves", fill=fill) for fill in self._fills}

    @cached_property
    def control_curves(self) -> pa.Table:
        """Accuracy under own masks and under controls, by condition, fill, control and percent."""
        return self._ask("control_curves")

    @cached_property
    def bins(self) -> Mapping[str, pa.Table]:
        """Areas by destination and bin, by fill."""
        return {fill: self._ask("bins", fill=fill) for fill in self._fills}

    @cached_property
    def auc(self) -> Mapping[str, pa.Table]:
        """Areas by source and destination, by fill."""
        return {fill: self._ask("auc", fill=fill) for fill in self._fills}

    @cached_property
    def losses(self) -> pa.Table:
        """Specific losses by source, destination, fill and control."""
        return self._ask("specific_loss")

    @cached_property
    def transfer(self) -> Sequence[Mapping[str, Any]]:
        """Specific losses and transfer indices by condition, bin, fill and control."""
        rows: list[dict[str, Any]] = self._ask("transfer").to_pylist()
        return rows

    @property
    def answered(self) -> Sequence[Mapping[str, Any]]:
        """Rows of `transfer` that the answer is told from."""
        return self._of_answer(self.transfer)

    @cached_property
    def pair_transfer(self) -> Sequence[Mapping[str, Any]]:
        """Transfer indices by source and destination, under the fill and control of the answer."""
        return self._of_answer(self._ask("transfer", per="pair", resamples=PAIR_RESAMPLES).to_pylist())

    @cached_property
    def initialisation(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """ANOVA of Fig. 5, by axis."""
        return self._both("anova_initialisation")

    @cached_property
    def source(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """ANOVA of Fig. 6, by axis."""
        return self._both("anova_source")

    @cached_property
    def pairwise(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Pairs of mask sources, by axis."""
        return self._both("pairwise")

    @cached_property
    def effects(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Effect sizes, by axis."""
        return self._both("effect_sizes")

    @cached_property
    def similarity(self) -> pa.Table:
        """Likeness of maps by relation and condition."""
        return self._ask("map_similarity")

    @cached_property
    def randomized(self) -> pa.Table:
        """Likeness of each model's maps to those of the model with its weights permuted."""
        return self._ask("randomized")

    @cached_property
    def attributions(self) -> Sequence[Mapping[str, Any]]:
        """Specific losses of own masks by condition, fill, control and attribution."""
        rows: list[dict[str, Any]] = self._ask("attributions").to_pylist()
        return rows

    @cached_property
    def model_attributions(self) -> Sequence[Mapping[str, Any]]:
        """The same by model, under the fill and control of the answer; nothing where there is one attribution."""
        if not attributions.levels(self.plan):
            return []
        return self._of_answer(self._ask("attributions", per="model").to_pylist())

    @cached_property
    def rank2(self) -> pa.Table:
        """Second choices by image and condition."""
        return self._ask("rank2")

    @cached_property
    def experiments(self) -> Sequence[str]:
        """Ids of the experiments in which people have answered."""
        return answered(self.store.files)

    @cached_property
    def people(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What the answers of people say, of all experiments: rows by query. No rows of transfer where no mask was tried."""
        found = {name: self._ask(f"human_{name}").to_pylist() for name in PEOPLE}
        try:
            found["transfer"] = self._ask("human_transfer").to_pylist()
        except InputError:
            found["transfer"] = []
        return found

    @cached_property
    def models(self) -> pa.Table:
        """The table `models`."""
        return self.store.read(self._stored(finetune.model_units(self.plan).values()))

    @cached_property
    def conditions(self) -> Mapping[str, Sequence[str]]:
        """Model ids by condition, in the order of the study's factors."""
        auc = self.auc[self.paper_fill]
        names = dict(zip(auc["destination_id"].to_pylist(), auc["condition"].to_pylist(), strict=True))
        factors = self.plan.study.factors
        orders = [
            list(factors.pretraining),
            list(factors.task),
            *(list(levels) for levels in factors.extra.values()),
        ]

        def place(model_id: str) -> list[int]:
            cell = self.plan.model[model_id].cell
            levels = [cell.pretraining, cell.task, *cell.extra.values()]
            return [order.index(level) for order, level in zip(orders, levels, strict=True)]

        grouped: dict[str, list[str]] = {}
        for model in sorted(self.plan.present, key=lambda model: (place(model.id), model.cell.seed)):
            if model.id in names:
                grouped.setdefault(names[model.id], []).append(model.id)
        return grouped

    @cached_property
    def shown(self) -> Mapping[str, Sequence[str]]:
        """`conditions` cut down to what a matrix can show: at least one model each, at most MATRIX_MODELS in all."""
        kept = dict(list(self.conditions.items())[:MATRIX_MODELS])
        each = max(1, MATRIX_MODELS // len(kept))
        return {name: models[:each] for name, models in kept.items()}

    @cached_property
    def pair_similarity(self) -> pa.Table:
        """Mean correlation of maps by pair of the models `shown`: model_a, model_b, pearson."""
        wanted = {model for models in self.shown.values() for model in models}
        own = [
            unit
            for place, unit in similarity.units(self.plan).items()
            if place[0] in wanted and any(other.id in wanted for other in similarity.others(self.plan, place))
        ]
        rows = self.store.read(self._stored(own), columns=["model_a", "model_b", "pearson"])
        for column in ("model_a", "model_b"):
            rows = rows.filter(pa.compute.is_in(rows[column], pa.array(sorted(wanted))))
        means = rows.group_by(["model_a", "model_b"]).aggregate([("pearson", "mean")])
        return means.rename_columns({"pearson_mean": "pearson"})

    @cached_property
    def tables(self) -> Mapping[str, TableIdentity]:
        """What identifies each table."""
        return table_identities(self.plan, self.store)

    @cached_property
    def styles(self) -> Styles:
        """How the study's bins and pretrainings are drawn."""
        factors = self.plan.study.factors
        return styles_of(
            self.auc[self.paper_fill]["relation"].to_pylist(), list(factors.pretraining), list(factors.extra)
        )

    @property
    def _fills(self) -> Sequence[str]:
        return self.plan.study.masking.fills

    def _of_answer(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        chosen = (self.answer_fill, self.answer_control)
        return [row for row in rows if (row["fill"], row["control"]) == chosen]

    def _ask(self, query: str, **settings: Value) -> pa.Table:
        asked = (query, *sorted(settings.items()))
        with self._turn:
            if asked not in self._known:
                self._known[asked] = self._session.run(query, settings)
            return self._known[asked]

    @cached_property
    def _session(self) -> QuerySession:
        session = QuerySession(self.store.root, index=index_of_study(self.plan))
        weakref.finalize(self, session.close)
        return session

    def _stored(self, units: Iterable[Unit]) -> list[Unit]:
        wanted = list(units)
        absent = set(self.store.missing(wanted))
        return [unit for unit in wanted if unit not in absent]

    def _both(self, query: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {
            axis: self._ask(query, auc_axis=axis, fill=self.paper_fill).to_pylist() for axis in (LOG, LINEAR)
        }


def answers_of(plan: Plan, store: Store) -> Answers:
    """The answers of a study, with what it lacks. Raises WorkError with one line where no mask was tried yet."""
    missing = store.missing(all_units(plan))
    there = with_gaps(plan, set(missing))
    left = set(store.missing(all_units(there)))
    if all(unit in left for unit in STAGES["masking"].units(there)):
        counts = Counter(unit.table for unit in missing)
        lacking = ", ".join(f"{count:,} of {table}" for table, count in counts.items())
        raise WorkError(
            f"{plan.study.name} has nothing to report yet: units are missing ({lacking}); "
            f"finish it with: sweep run {plan.path}"
        )
    return Answers(there, store, tuple(_lacking(there, left)))


def _lacking(plan: Plan, left: Set[Unit]) -> Iterator[str]:
    """What a study lacks: what could not be made, and what is not made yet."""
    models = sorted(plan.gaps.models)
    if models:
        more = f" and {len(models) - NAMED} more" if len(models) > NAMED else ""
        yield (
            f"{len(models)} of {len(plan.models)} models are not there ({', '.join(models[:NAMED])}{more}), "
            "nor what is made from them."
        )
    if plan.gaps.maps:
        without = sorted({model for model, _ in plan.gaps.maps})
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        yield f"Maps are missing of {', '.join(without[:NAMED])}{more}, and what is made from them."
    for name, stage in STAGES.items():
        units = stage.units(plan)
        count = sum(unit in left for unit in units)
        if count and name not in ("finetune", "relevance"):
            yield f"{count:,} of {len(units):,} units of {name} are not there."
