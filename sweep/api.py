"""The package from Python: run a study, and ask its results. The command line is a thin layer over this module."""

import html
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.analysis.queries import Value, run_query
from sweep.errors import InputError, Stopped
from sweep.plan import Plan, plan_of
from sweep.report.answers import Answers, answers_of
from sweep.report.comparison import Comparison, Stored, stored
from sweep.report.comparison import compare as compare_results
from sweep.report.summary import summarise
from sweep.stages import index_of_study, relevance
from sweep.stages.filenames import store_of
from sweep.storage.addresses import DEFAULT_RESULTS, results_root
from sweep.storage.arrays import matrix
from sweep.storage.store import Store
from sweep.study import Study


@dataclass(frozen=True)
class Report:
    """The report of a study: one HTML page. A notebook shows it where it is the value of a cell."""

    address: str
    """Where the page is stored."""
    page: str
    """The page itself."""
    missing: tuple[str, ...]
    """What the study lacks, in sentences; nothing where it is complete."""

    def _repr_html_(self) -> str:
        # In a frame, so that neither the page's style nor its script reaches the notebook's own.
        return f'<iframe srcdoc="{html.escape(self.page)}" style="width:100%;height:48rem;border:0"></iframe>'


@dataclass(frozen=True)
class Result:
    """What is stored of a study, whether it is complete or not."""

    plan: Plan
    store: Store
    _answers: Answers | None = field(default=None, repr=False, compare=False)
    """What the run that ended with this result has asked of the tables already."""

    @classmethod
    def open(cls, study: Study | str | Path, results: str | Path = DEFAULT_RESULTS) -> "Result":
        """The results of a study (or study file) under a results root, without computing anything.

        Raises InputError where the study, its images, its weights or the root cannot be used.
        """
        plan = plan_of(study if isinstance(study, Study) else Study.load(study))
        return cls(plan, store_of(plan, results_root(str(results))))

    @property
    def models(self) -> list[str]:
        """The ids of the study's models, such as "faces-identity-s1"."""
        return [model.id for model in self.plan.models]

    @property
    def image_ids(self) -> list[str]:
        """The ids of the images that have maps, in the order of `maps`."""
        return [self.plan.images.ids[position] for position in self.plan.selected]

    def query(self, name: str, **parameters: Value) -> pd.DataFrame:
        """The answer of a file of `queries/`, by its name without `.sql`, as `sweep query` prints it.

        `parameters` are the query's variables, as in `query("bins", draws=1000)`; the file's header tells the columns.
        Raises InputError for an unknown query or parameter, and where a table that it reads is not made yet.
        """
        answer: pd.DataFrame = run_query(name, self.store.root, parameters, index=self._index).to_pandas()
        return answer

    def maps(self, model: str) -> npt.NDArray[np.float32]:
        """A model's relevance maps: (image, height, width) in the order of `image_ids`, channels summed.

        Each is the relevance of the input's pixels for the logit of the image's true class (Bach et al. 2015), divided by
        its largest absolute value, as the table `relevance` holds it: from -1 to 1.
        Raises InputError for an unknown model, WorkError where a map is missing or damaged.
        """
        if model not in self.plan.model:
            raise InputError(f"no model is called {model!r}; there are: {', '.join(self.models)}")
        units = relevance.units(self.plan)
        own = [units[model, chunk] for chunk in range(len(relevance.chunks(self.plan)))]
        size = self.plan.study.dataset.input_size
        return matrix(self.store.read(own, columns=["map"])["map"]).reshape(-1, size, size)

    def report(self) -> Report:
        """Draw the study's figures and its page, store both, and return the page.

        Raises WorkError where no mask was tried yet.
        """
        from sweep.report.page import PAGE, write_report

        answers = answers_of(self.plan, self.store)
        content = write_report(answers)[PAGE]
        return Report(f"{self.store.root}/{PAGE}", content.decode(), tuple(answers.missing))

    def export(self, folder: str | Path) -> tuple[str, ...]:
        """Write tables, data dictionary, R script, maps and masks into a new folder, whole or not at all.

        Returns what the study lacks, in sentences. Raises InputError where the folder is there already or cannot be made,
        WorkError where no mask was tried yet.
        """
        from sweep.export.folder import check_target, export_study

        check_target(Path(folder))
        answers = answers_of(self.plan, self.store)
        export_study(answers, Path(folder))
        return tuple(answers.missing)

    def summarise(self) -> None:
        """Print what a run ends with: accuracies, whether the masks are valid, transfer indices, areas and tests.

        Raises WorkError where no mask was tried yet.
        """
        summarise(self._answers or answers_of(self.plan, self.store))

    @cached_property
    def _index(self) -> bytes:
        return index_of_study(self.plan)


def compare(a: Result | str | Path, b: Result | str | Path) -> Comparison:
    """Two studies side by side: settings that differ, accuracy, validity, transfer and area, as pandas tables.

    Each is a result, or a folder or address with the results of a study; images and weights are not needed.
    Raises InputError where a table is missing, WorkError where there are no results.
    """

    def of(one: Result | str | Path) -> Stored:
        return (
            Stored(one.store.root, one.plan.study, one._index)
            if isinstance(one, Result)
            else stored(str(one))
        )

    return compare_results(of(a), of(b))


def run(
    study: Study | str | Path,
    results: str | Path = DEFAULT_RESULTS,
    *,
    address: str | None = None,
    refresh: str | None = None,
) -> Result:
    """Do a study, or go on with it: what is stored already is not computed again.

    Progress is shown on standard error, in a notebook below the cell. Ctrl-C, or interrupting the kernel, finishes
    what is in flight; the same call goes on from there.

    Args:
        study: a study, or the path of a study file.
        results: results root: a folder, or an s3:// or gs:// address. The study gets a folder of its name there.
        address: Ray cluster to work on; by default RAY_ADDRESS, or this machine.
        refresh: a stage to compute again, with every stage that is made from it.

    Raises:
        InputError: where the study, its images, its weights, the root or the address cannot be used; nothing was written.
        WorkError: listing what failed, after everything else was done; a HeldError where another run of the study is alive.
        Stopped: where the run was stopped before its end.
    """
    from sweep.actors.address import check_address
    from sweep.runs.pipeline import run_study
    from sweep.stages import STAGES
    from sweep.terminal.progress import Display

    result, root = Result.open(study, results), results_root(str(results))
    check_address(address)
    if refresh is not None and refresh not in STAGES:
        raise InputError(f"refresh: no stage is called {refresh!r}; there are: {', '.join(STAGES)}")
    result.store.files.check_writable()
    with Display() as display:
        for note in result.plan.notes:
            display.say(f"note: {note}")
        try:
            answers = run_study(result.plan, result.store, root, display, address, refresh)
        except Stopped as end:
            raise Stopped(f"{end}. What is done is stored") from None
    return replace(result, _answers=answers)
