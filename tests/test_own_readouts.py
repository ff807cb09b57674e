"""Networks that were finetuned elsewhere: the files' own last layers, a file per task and seed."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sweep.errors import InputError
from sweep.parcel import pack
from sweep.plan import Plan, make_plan
from sweep.report.page import learned
from sweep.stages import finetune
from sweep.storage.store import Store
from sweep.study import load_study
from tests.in_process import run_in_process
from tests.models.test_keras_models import residual, save
from tests.studies import SmallStudy

NAMES = {"identity": [f"p{index:02d}" for index in (3, 0, 5, 1, 4, 2)], "gender": ["male", "female"]}
"""Classes in another order than that of the alphabet."""
INPUT = {"channel_order": "RGB", "mean": [100, 100, 100], "scale": 0.02}
OWN = {"weights": "keras:runs/{task}-s{seed}.keras", "readout": "own", "classes": NAMES, **INPUT}


def write_runs(folder: Path) -> dict[str, Any]:
    """A model per task and seed, as somebody's own training may have left them."""
    (folder / "runs").mkdir()
    models = {}
    for task, names in NAMES.items():
        for seed in (1, 2):
            model = residual(classes=len(names), seed=seed)
            save(model, folder / "runs" / f"{task}-s{seed}.keras")
            models[f"own-{task}-s{seed}"] = model
    return models


def changed(study: SmallStudy, own: dict[str, Any], **factors: Any) -> SmallStudy:
    return study.changed(
        factors={"pretraining": {"own": own}, **factors}, masking={"percents": [0, 10], "controls": []}
    )


def test_a_factorial_that_was_trained_elsewhere_is_a_study(small_study: SmallStudy, tmp_path: Path) -> None:
    models = write_runs(tmp_path)
    plan = make_plan(changed(small_study, OWN).path)
    assert set(plan.backbones) == set(models)
    store = Store(str(tmp_path / "results"))
    run_in_process(plan, store)
    inputs = (plan.images.pixels - np.float32(100)) * np.float32(0.02)
    for model in plan.models:
        assert list(model.classes) == NAMES[model.cell.task]
        probabilities = np.asarray(models[model.id](inputs))
        wanted = {
            image: model.classes[k]
            for image, k in zip(plan.images.ids, probabilities.argmax(axis=1), strict=True)
        }
        unit = next(u for u in plan_units(plan, "predictions") if u.label == model.id)
        first = [row for row in store.read([unit]).to_pylist() if row["rank"] == 1]
        assert {row["image_id"]: row["class"] for row in first} == wanted
        (row,) = store.read([finetune.model_units(plan)[model.id]]).to_pylist()
        held = finetune.validation_mask(plan)
        right = np.array(
            [wanted[i] == model.classes[k] for i, k in zip(plan.images.ids, model.labels, strict=True)]
        )
        assert row["val_accuracy"] == pytest.approx(right[held].mean())
        assert row["train_accuracy"] == pytest.approx(right[~held].mean())


def plan_units(plan: Plan, stage: str) -> Any:
    from sweep.stages import STAGES

    return STAGES[stage].units(plan)


def test_every_file_travels_with_the_study(small_study: SmallStudy, tmp_path: Path) -> None:
    write_runs(tmp_path)
    files = pack(load_study(changed(small_study, OWN).path)).files
    assert sum("/runs/" in name for name in files) == 4


def test_what_is_learned_is_told_as_nothing(small_study: SmallStudy, tmp_path: Path) -> None:
    write_runs(tmp_path)
    plan = make_plan(changed(small_study, OWN).path)
    assert learned(plan).startswith("What is learned: nothing, as the networks bring their readouts along.")


@pytest.mark.parametrize("changes", [{"from": "conv"}, {"hidden": [4]}, {"mirror": True}, {"patience": 2}])
def test_settings_of_training_that_never_happens_are_refused(
    small_study: SmallStudy, tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_runs(tmp_path)
    with pytest.raises(
        InputError, match=rf"finetune\.{next(iter(changes))}: the level own of pretraining brings"
    ):
        make_plan(changed(small_study, OWN).changed(finetune=changes).path)


@pytest.mark.parametrize(
    ("own", "factors", "words"),
    [
        ({"classes": {"gender": ["male", "female"]}}, {}, "classes: name those of identity"),
        (
            {"weights": "keras:runs/{task}.keras"},
            {},
            r"own readouts of several seeds .*; name \{seed\} in the path",
        ),
        (
            {"weights": "keras:runs/s{seed}.keras"},
            {},
            r"own readouts of several tasks .*; name \{task\} in the path",
        ),
        ({"features": "joined"}, {}, "features: the file's own last layer"),
        ({"readout": "trained"}, {}, "classes: readouts that are trained take theirs from the images"),
        ({}, {"rate": {"a": {"epochs": 2}, "b": {"epochs": 3}}}, "readout: nothing is trained"),
        (
            {"classes": NAMES | {"gender": ["male", "woman"]}},
            {},
            r"classes\.gender: lacks 'female', a label of the images",
        ),
        (
            {"classes": NAMES | {"gender": ["male", "female", "other"]}},
            {},
            r"own-gender-s1\.classes\.gender: names 3 classes, and the last dense layer of .* has 2 outputs",
        ),
        (
            {"weights": "random:{seed}:keras:runs/{task}-s1.keras"},
            {},
            "only models that Keras saved, keras:PATH",
        ),
        ({"weights": "keras:runs/{task}-s{seed}.h5"}, {}, r"no weight file .*identity-s1\.h5"),
    ],
)
def test_what_does_not_fit_is_named(
    small_study: SmallStudy, tmp_path: Path, own: dict[str, Any], factors: dict[str, Any], words: str
) -> None:
    write_runs(tmp_path)
    with pytest.raises(InputError, match=words):
        make_plan(changed(small_study, OWN | own, **factors).path)


def test_a_last_layer_that_gives_no_logits_is_refused(small_study: SmallStudy, tmp_path: Path) -> None:
    start = keras.Input((32, 32, 3))
    end = keras.layers.Dense(2, activation="sigmoid", name="odd")(
        keras.layers.Flatten()(keras.layers.ReLU()(start))
    )
    save(keras.Model(start, end), tmp_path / "odd.keras")
    own = OWN | {"weights": "keras:odd.keras", "classes": {"gender": NAMES["gender"]}}
    with pytest.raises(
        InputError, match="'odd' has the activation 'sigmoid', so what it gives out are no logits"
    ):
        make_plan(
            changed(small_study, own, task=["gender"], seed=[1], **{})
            .changed(factors={"pretraining": {"own": own, "other": {"weights": "npz:first.npz"}}})
            .path
        )
