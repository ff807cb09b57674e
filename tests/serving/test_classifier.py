"""A finetuned model outside of its study answers as it does in the study's tables."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

import sweep
from sweep.errors import InputError
from sweep.plan import make_plan
from sweep.serving.classifier import Classifier, description_of
from sweep.stages import finetune, predictions
from sweep.storage.store import Store
from tests.in_process import run_in_process
from tests.studies import write_small_study, write_weights


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> sweep.Result:
    folder = tmp_path_factory.mktemp("served")
    study = write_small_study(folder).changed(factors={"seed": [1]}, masking={"percents": [0, 10, 100]})
    plan = make_plan(study.path)
    store = Store(str(folder / "results" / "small"))
    run_in_process(plan, store)
    return sweep.Result(plan, store)


def parts(result: sweep.Result, model_id: str) -> tuple[bytes, bytes]:
    model = result.plan.model[model_id]
    weights = result.store.read_weights(finetune.model_units(result.plan)[model_id])
    return description_of(result.plan, model), weights


@pytest.mark.parametrize("model_id", ["first-identity-s1", "second-gender-s1"])
def test_classes_and_maps_are_those_of_the_tables(result: sweep.Result, model_id: str) -> None:
    classifier = Classifier(*parts(result, model_id))
    pixels = result.plan.images.pixels
    classes, logits = classifier.predict(pixels)
    rows = [
        r for r in result.store.read([predictions.units(result.plan)[model_id]]).to_pylist() if r["rank"] == 1
    ]
    assert classes.tolist() == [row["class"] for row in rows]
    np.testing.assert_allclose(logits.max(axis=1), [row["logit"] for row in rows], rtol=1e-5, atol=1e-5)
    # The tables explain the true class; where that is the predicted one, the maps are the same.
    chosen = list(result.plan.selected)
    truth = np.asarray(result.plan.images.labels(result.plan.model[model_id].cell.task))[chosen]
    right = np.flatnonzero(classes[chosen] == truth)
    assert len(right)
    maps = classifier.relevance(pixels[chosen])
    np.testing.assert_allclose(maps[right], result.maps(model_id)[right], atol=1e-5)


def test_a_description_holds_an_address_and_no_weights(result: sweep.Result) -> None:
    description, _ = parts(result, "first-identity-s1")
    content = json.loads(description)
    assert content["pretraining"]["weights"] == f"npz:{result.plan.path.parent.resolve() / 'first.npz'}"
    assert len(description) < 2000


def test_logits_that_are_not_finite_give_no_class(result: sweep.Result) -> None:
    description, weights = parts(result, "first-identity-s1")
    with np.load(io.BytesIO(weights)) as arrays:
        spoilt = {name: np.full_like(array, 3e38) for name, array in arrays.items()}
    content = io.BytesIO()
    np.savez(content, **spoilt)
    with pytest.raises(InputError, match="model first-identity-s1: its logits of an image are not finite"):
        Classifier(description, content.getvalue()).predict(result.plan.images.pixels)


def test_images_of_another_size_and_other_weights_are_refused(result: sweep.Result, tmp_path: Path) -> None:
    description, weights = parts(result, "first-identity-s1")
    with pytest.raises(
        InputError, match=r"have the shape \(1, 8, 8, 3\), and the model takes \(image, 32, 32, 3\)"
    ):
        Classifier(description, weights).predict(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="are float32; the model takes grey levels from 0 to 255 as uint8"):
        Classifier(description, weights).predict(np.zeros((1, 32, 32, 3), np.float32))
    content = json.loads(description)
    other = write_weights(tmp_path / "other.npz", "other")
    content["pretraining"]["weights"] = f"npz:{other}"
    with pytest.raises(InputError, match="are not those that it was trained on; bring those back"):
        Classifier(json.dumps(content).encode(), weights)
    content["pretraining"]["weights"] = "npz:/nowhere/x.npz"
    with pytest.raises(InputError, match=r"no weight file /nowhere/x\.npz"):
        Classifier(json.dumps(content).encode(), weights)
