"""What people prefer, in sentences and a figure, made from the rows of the queries on people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np

from sweep.analysis.queries import run_query
from sweep.arrays import Array
from sweep.errors import InputError
from sweep.human.tables import TRIALS, read_table
from sweep.report.answers import Answers
from sweep.report.people_figure import EXAMPLES, Example, people_figure
from sweep.report.picture_exhibits import Described, Impossible
from sweep.report.sentences import ALPHA, Finding, p_value
from sweep.stages import index_of_study
from sweep.statistics import crossed_logistic

Row = Mapping[str, Any]

TITLE = "What people prefer"
SCOPES = {
    "within": "within conditions",
    "all": "over all models",
}
"""Sets of models that agreement and transfer are correlated in, by their name in `human_transfer`."""


def rows_of(answers: Answers, experiment: str, query: str) -> list[Row]:
    """The rows of a query on people that are of one experiment."""
    return [row for row in answers.people[query] if row["experiment_id"] == experiment]


def preference_exhibit(answers: Answers, experiment: str) -> Described:
    """Figure 7 of the paper, of one experiment."""
    tests = rows_of(answers, experiment, "preference")
    if not tests:
        raise Impossible("No figure: no session of the experiment counts in the tests.")
    targets, models = (rows_of(answers, experiment, name) for name in ("targets", "models"))
    # Some targets speak for either condition, or one of the two has none.
    leaning = (
        [row for row in targets if row["preference"] > 0.5][:EXAMPLES],
        [row for row in reversed(targets) if row["preference"] < 0.5][:EXAMPLES],
    )
    faces = _faces(answers, experiment)
    examples = [[Example(faces[row["target_image"]], row["preference"]) for row in own] for own in leaning]
    a = tests[0]["condition_a"]
    return (
        people_figure(tests[0], targets, models, (examples[0], examples[1]), rehearsal(tests[0])),
        "Which of two faces people find most like the one shown: the second choice of one condition or of the other (paper, "
        "Fig. 7). Above: the targets on which people agree most, with the shares of both options. Below, left: every target "
        "with a 95 % interval (Wilson), coloured where the preference is clear after Holm's correction. Below, right: how "
        "often people choose what each model finds most similar, with 95 % intervals over targets. "
        + headline(tests[0]),
        f"Faces, and two charts. {' '.join(told(answers, experiment))} Preference for {a} by target, from most to least: "
        + ", ".join(f"{row['target']} {row['preference']:.2f}" for row in targets)
        + ".",
    )


def headline(crossed: Row) -> str:
    """The finding in one line, from the row of the crossed test."""
    names = crossed["condition_a"], crossed["condition_b"]
    share = f"{_who(crossed)} chose what {names[0]} finds most similar in {_percent(crossed['preference'])} of answers"
    if crossed["p"] is None:
        return f"{share} ({crossed['note']})."
    preferred = names[crossed["preference"] < 0.5]
    verdict = (
        f"they prefer the choices of {preferred}"
        if crossed["p"] < ALPHA
        else "no preference for either condition was found"
    )
    return f"{share}{_interval(crossed)}: over observers and targets, {verdict} ({_t(crossed)})."


def rehearsal(crossed: Row) -> str:
    """What says that observers are simulated; empty where all are people."""
    if not crossed["n_simulated"]:
        return ""
    return f"Rehearsal: {crossed['n_simulated']} of {crossed['n_observers']} observers are simulated"


def findings(answers: Answers) -> list[Finding]:
    """What people prefer, by experiment."""
    return [
        Finding(f"Experiment {experiment}", list(told(answers, experiment)))
        for experiment in answers.experiments
        if rows_of(answers, experiment, "preference")
    ]


def logistic_sentence(answers: Answers, experiment: str) -> str:
    """The logistic model with crossed effects in a sentence, or why there is none."""
    try:
        fit = crossed_logistic(answer_matrix(answers, experiment))
    except InputError as reason:
        return f"No logistic model: {reason}."
    name = rows_of(answers, experiment, "preference")[0]["condition_a"]
    return (
        f"Logistic model with random observers and targets (Laplace), beside the crossed test: an average observer chooses "
        f"{name} for an average target with probability {fit.preference:.3f} (log odds {fit.intercept:.3f}, standard error "
        f"{fit.std_error:.3f}; likelihood ratio {p_value(fit.p_likelihood_ratio)}, Wald {p_value(fit.p_wald)}). Standard "
        f"deviation of log odds: {fit.sd_observers:.2f} between observers, {fit.sd_targets:.2f} between targets."
    )


def answer_matrix(answers: Answers, experiment: str) -> Array:
    """The answers that the queries count: 1 for option a, 0 for b, NaN for none; (observers, targets)."""
    with duckdb.connect() as connection:
        # Any query on people leaves the view of the answers that all of them count.
        run_query(
            "human_targets", answers.store.root, connection=connection, index=index_of_study(answers.plan)
        )
        rows = connection.execute(
            "SELECT session_id, trial_id, chose_a FROM human_answers WHERE experiment_id = ?", [experiment]
        ).fetchall()
    observers, targets = (
        {name: place for place, name in enumerate(sorted(set(names)))}
        for names in list(zip(*rows, strict=True))[:2]
    )
    matrix = np.full((len(observers), len(targets)), np.nan)
    for session, trial, chose_a in rows:
        matrix[observers[session], targets[trial]] = chose_a
    return matrix


def told(answers: Answers, experiment: str) -> Iterator[str]:
    """Everything that is found in an experiment, a sentence each."""
    crossed, observers, _ = rows_of(answers, experiment, "preference")
    if crossed["n_simulated"]:
        yield f"{rehearsal(crossed)} (sweep human simulate). Nothing here is a finding about people."
    yield headline(crossed)
    yield crossed["meaning"] + " " + _size(crossed)
    if observers["p"] is not None:
        yield (
            f"The paper's test, over observers alone: {_percent(observers['preference'])}{_interval(observers)}, "
            f"{_t(observers)}. {observers['meaning']}"
        )
    targets = rows_of(answers, experiment, "targets")
    clear = [sum(row["preferred"] == crossed[f"condition_{side}"] for row in targets) for side in "ab"]
    yield (
        f"Of {len(targets)} targets, {sum(clear)} have a clear preference after Holm's correction: {clear[0]} for "
        f"{crossed['condition_a']}, {clear[1]} for {crossed['condition_b']}."
    )
    for row in rows_of(answers, experiment, "agreement"):
        kappa = "" if row["kappa"] is None else f", Fleiss' κ = {row['kappa']:.2f}"
        yield (
            f"Two observers choose alike in {_percent(row['agreement'])} of cases{_interval(row)}; {_percent(row['expected'])} "
            f"are expected if all answers were drawn by the overall preference{kappa}."
        )
    models = sorted(rows_of(answers, experiment, "models"), key=lambda row: row["agreement"])
    if models:
        least, most = models[0], models[-1]
        yield (
            f"Of single models, people agree most with {most['model_id']}, in {_percent(most['agreement'])} of answers"
            f"{_interval(most)}, and least with {least['model_id']}, in {_percent(least['agreement'])}{_interval(least)}."
        )
    yield from _of_transfer(rows_of(answers, experiment, "transfer"))
    if crossed["n_excluded"]:
        # Not which: a page that is shared must not name somebody who withdraws later.
        yield f"Left out: {crossed['n_excluded']} sessions; sweep query human_preference says which and why."
    if crossed["n_too_fast"]:
        yield f"Left out: {crossed['n_too_fast']} answers that came too fast to be answers."


def _of_transfer(rows: Sequence[Row]) -> Iterator[str]:
    known = [row for scope in SCOPES for row in rows if row["scope"] == scope and row["rho"] is not None]
    told = "; ".join(
        f"as {row['role']} of masks {SCOPES[row['scope']]}: ρ = {row['rho']:.2f}{_limits(row, 1, '')}, {row['n_models']} models"
        for row in known
    )
    if told:
        yield (
            "Agreement of people with a model against the model's transfer index (Spearman's correlation, bootstrap over "
            f"models): {told}. Over all models any preference for one condition makes a correlation."
        )
    elif rows:
        yield f"Agreement of people with a model against the model's transfer index: {rows[0]['note']}."


def _faces(answers: Answers, experiment: str) -> Mapping[str, Array]:
    """Target and both options of every test trial, RGB uint8 (3, height, width, 3), by the target's image."""
    trials = read_table(answers.store.files, experiment, TRIALS).to_pylist()
    images = answers.plan.images
    places = {name: place for place, name in enumerate(images.ids)}
    return {
        row["target_image"]: images.pixels[
            [places[row[name]] for name in ("target_image", "image_a", "image_b")]
        ]
        for row in trials
        if row["trial_type"] == "test"
    }


def _size(row: Row) -> str:
    return f"{row['n_observers']} observers, {row['n_targets']} targets, {row['n_answers']:,} answers."


def _who(crossed: Row) -> str:
    if crossed["n_simulated"] == crossed["n_observers"]:
        return "Simulated observers"
    return "People and simulated observers" if crossed["n_simulated"] else "People"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(row: Row) -> str:
    return _limits(row, 100, " %")


def _limits(row: Row, scale: float, unit: str) -> str:
    if row["low"] is None:
        return ""
    digits = 1 if scale == 100 else 2
    return f" (95 % interval {scale * row['low']:.{digits}f} to {scale * row['high']:.{digits}f}{unit})"


def _t(row: Row) -> str:
    return f"t({row['df']:.3g}) = {row['t']:.3g}, {p_value(row['p'])}"
