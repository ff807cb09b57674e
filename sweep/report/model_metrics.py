"""What the tables say of each model, as named numbers by which MLflow's table of runs can be sorted."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from sweep.report.answers import Answers
from sweep.report.curves import OWN

Metrics = Mapping[str, Mapping[str, float]]


def model_metrics(answers: Answers) -> Metrics:
    """Metrics of each destination model, by model id.

    `auc.BIN` is the area under accuracy over log10(percent removed), mean over the bin's sources; `specific_loss.BIN` how
    much more those masks hurt than the control; `transfer.BIN` that loss as a share of the loss under own masks, where the
    95 % interval of the latter lies above 0; `attribution_loss.LEVEL` the loss under own masks by each level of the factor
    attribution. Fill and control are those of the study's answer. A number that cannot be
    had is left out.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in answers.bins[answers.answer_fill].to_pylist():
        if row["auc_log"] is not None:
            found[row["destination_id"]][f"auc.{row['relation']}"] = row["auc_log"]
    losses: dict[tuple[str, str], list[float]] = defaultdict(list)
    own: dict[str, float] = {}
    for row in answers.pair_transfer:
        if row["loss"] is None:
            continue
        losses[row["destination_id"], row["relation"]].append(row["loss"])
        if row["relation"] == OWN and row["loss_low"] is not None and row["loss_low"] > 0:
            own[row["destination_id"]] = row["loss"]
    for (model, relation), values in losses.items():
        found[model][f"specific_loss.{relation}"] = fmean(values)
        if relation != OWN and model in own:
            found[model][f"transfer.{relation}"] = fmean(values) / own[model]
    for row in answers.model_attributions:
        if row["loss"] is not None:
            found[row["model_id"]][f"attribution_loss.{row['attribution']}"] = row["loss"]
    return found
