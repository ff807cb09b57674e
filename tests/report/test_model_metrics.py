"""The numbers by which MLflow sorts models, against the same by hand."""

import math
from statistics import fmean

import pytest

from sweep.analysis.queries import run_query
from sweep.plan import make_plan
from sweep.report.answers import answers_of
from sweep.report.model_metrics import model_metrics
from sweep.stages import index_of_study
from sweep.storage.store import Store
from tests.report.simulated import simulate
from tests.studies import SmallStudy


def test_metrics_are_means_of_the_queries_rows(small_study: SmallStudy) -> None:
    plan = make_plan(small_study.changed(masking={"controls": ["other_image", "scattered"]}).path)
    store = Store(str(plan.path.parent / "results" / "small"))
    simulate(plan, store)
    metrics = model_metrics(answers_of(plan, store))
    assert set(metrics) == {model.id for model in plan.models}
    index = index_of_study(plan)
    losses = [
        row
        for row in run_query("specific_loss", store.root, index=index).to_pylist()
        if row["control"] == "other_image"
    ]
    areas = run_query("auc", store.root, index=index).to_pylist()
    found = 0
    for model, named in metrics.items():
        own = fmean(r["loss"] for r in losses if (r["destination_id"], r["relation"]) == (model, "same_init"))
        for relation in {row["relation"] for row in losses}:
            of_bin = [r["loss"] for r in losses if (r["destination_id"], r["relation"]) == (model, relation)]
            assert named[f"specific_loss.{relation}"] == pytest.approx(fmean(of_bin))
            area = fmean(
                r["auc_log"] for r in areas if (r["destination_id"], r["relation"]) == (model, relation)
            )
            assert named[f"auc.{relation}"] == pytest.approx(area)
            if f"transfer.{relation}" in named:
                found += 1
                assert relation != "same_init"
                assert own > 0
                assert named[f"transfer.{relation}"] == pytest.approx(fmean(of_bin) / own)
        assert all(math.isfinite(value) for value in named.values())
    assert found
