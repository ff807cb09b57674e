"""Heads deeper than a readout, from the study file to the report: trained, mapped, masked, served."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.analysis.queries import run_query
from sweep.attribution.maps import attribution_maps
from sweep.attribution.subject import Subject
from sweep.errors import InputError
from sweep.lrp import Network, forward
from sweep.lrp import relevance as map_of
from sweep.models.network import joined, split_last
from sweep.numerics.head import Head, layers_of, trained_of
from sweep.numerics.masking import removal_ranks, removed_count, replacements
from sweep.numerics.permutation import permuted_head, permuted_network
from sweep.plan import Plan, make_plan
from sweep.report.answers import answers_of
from sweep.report.page import PAGE, write_report
from sweep.serving.classifier import Classifier, description_of
from sweep.stages import (
    attributions,
    checkpoint,
    features,
    finetune,
    index_of_study,
    masking,
    randomized,
    relevance,
)
from sweep.storage.arrays import matrix
from sweep.storage.index import INDEX
from sweep.storage.store import Store
from sweep.study.attribution import GradientAttribution
from tests.in_process import run_in_process
from tests.studies import SmallStudy, write_small_study

DEPTHS: dict[str, Any] = {
    "readout": {"hidden": []},
    "dense": {"hidden": [12, 8]},
    "block5": {"from": "block5_conv2", "mirror": True},
}
MODELS = [f"first-identity-{depth}-s1" for depth in DEPTHS]
CUT = "first-from-block5_conv2"


def asked(study: SmallStudy, **finetune_settings: Any) -> Plan:
    """A plan of a model of each depth on one backbone."""
    return make_plan(
        study.changed(
            factors={
                "pretraining": {"first": "npz:first.npz"},
                "task": ["identity"],
                "seed": [1],
                "depth": DEPTHS,
                "attribution": {"lrp": "preset_a_flat", "gradient": "gradient"},
            },
            masking={"percents": [0, 1, 31.6, 100], "controls": ["other_image", "randomized", "scattered"]},
            finetune={"epochs": 4, "batch_size": 16, **finetune_settings},
        ).path
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A study of depths, from beginning to end."""
    folder = tmp_path_factory.mktemp("depths")
    plan = asked(write_small_study(folder))
    store = Store(str(folder / "results" / "small"))
    run_in_process(plan, store)
    store.files.write(INDEX, index_of_study(plan))
    return plan, store


def whole(plan: Plan, store: Store, model_id: str) -> tuple[Network, Any]:
    """A trained model as one network, and its input for the images with maps."""
    model = plan.model[model_id]
    trained = trained_of(store.read_weights(finetune.model_units(plan)[model_id]))
    backbone = plan.backbones[model.backbone]
    network = joined(backbone.network(32), layers_of(trained))
    return network, backbone.weights.preprocessing(plan.images.pixels[list(plan.selected)])


def targets(plan: Plan, model_id: str) -> list[int]:
    return [plan.model[model_id].labels[image] for image in plan.selected]


def test_a_frozen_part_ends_where_training_begins(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    assert list(plan.backbones) == ["first", CUT]
    assert plan.backbones["first"].key != plan.backbones[CUT].key
    assert [plan.model[name].backbone for name in MODELS] == ["first", "first", CUT]
    parts = plan.backbones[CUT].parts(32)
    assert parts[1] is not None
    assert [layer.name for layer in parts[1].layers if layer.name] == ["block5_conv2", "block5_conv3"]
    inputs = plan.backbones[CUT].weights.preprocessing(plan.images.pixels)
    stored = matrix(store.read(features.units_of_backbone(plan, CUT), ["features"])["features"])
    np.testing.assert_allclose(stored, forward(parts[0], inputs).reshape(len(inputs), -1), atol=1e-4)


def test_the_trained_layers_move_and_the_frozen_do_not(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    (head,) = [trained_of(store.read_weights(finetune.model_units(plan)[name])) for name in MODELS[2:]]
    assert isinstance(head, Head)
    tail = plan.backbones[CUT].parts(32)[1]
    assert tail is not None
    for ours, theirs in zip(head.network.layers, tail.layers, strict=False):
        if hasattr(theirs, "kernel"):
            assert 1e-4 < np.abs(ours.kernel - theirs.kernel).max() < 0.1  # type: ignore[union-attr]


def test_mirrored_images_are_passed_once_for_the_models_that_see_them(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    assert {name for name, _ in features.mirrored_units(plan)} == {CUT}
    train = [n for n, part in enumerate(plan.images.table["split"].to_pylist()) if part == "train"]
    rows = store.read(features.mirrored_units_of(plan, plan.model[MODELS[2]]))
    assert rows["image_id"].to_pylist() == [plan.images.ids[n] for n in train]
    turned = plan.backbones[CUT].weights.preprocessing(plan.images.pixels[train][:, :, ::-1])
    expected = forward(plan.backbones[CUT].network(32), turned).reshape(len(train), -1)
    np.testing.assert_allclose(matrix(rows["features"]), expected, atol=1e-4)


@pytest.mark.parametrize("model_id", MODELS)
def test_maps_are_those_of_the_whole_network(finished: tuple[Plan, Store], model_id: str) -> None:
    plan, store = finished
    network, inputs = whole(plan, store, model_id)
    expected, logits = map_of(network, inputs, targets(plan, model_id), "preset_a_flat", return_logits=True)
    rows = store.read([relevance.units(plan)[model_id, 0]])
    stored = matrix(rows["map"]) * rows["max_abs"].to_numpy()[:, None]
    peaks = np.abs(expected).max(axis=(1, 2))[:, None]
    np.testing.assert_allclose(stored / peaks, expected.reshape(len(stored), -1) / peaks, atol=1e-5)
    own = logits[np.arange(len(logits)), targets(plan, model_id)]
    np.testing.assert_allclose(rows["logit"].to_numpy(), own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_id", MODELS)
def test_gradients_are_those_of_the_whole_network(finished: tuple[Plan, Store], model_id: str) -> None:
    plan, store = finished
    network, inputs = whole(plan, store, model_id)
    subject = Subject(
        *split_last(network), inputs, np.asarray([targets(plan, model_id)]), plan.images.keys, [model_id]
    )
    (expected,) = attribution_maps(GradientAttribution(method="gradient"), subject, lambda _: inputs)
    rows = store.read([attributions.units(plan)[model_id, "gradient", 0]])
    stored = matrix(rows["map"]) * rows["max_abs"].to_numpy()[:, None]
    np.testing.assert_allclose(stored, expected.reshape(len(stored), -1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_id", MODELS)
def test_permuted_heads_are_permuted_in_all_their_layers(finished: tuple[Plan, Store], model_id: str) -> None:
    plan, store = finished
    model = plan.model[model_id]
    backbone = plan.backbones[model.backbone]
    head = layers_of(trained_of(store.read_weights(finetune.model_units(plan)[model_id])))
    network = joined(
        permuted_network(backbone.network(32), backbone.key, 1), permuted_head(head, model.key, 1)
    )
    _, inputs = whole(plan, store, model_id)
    expected = map_of(network, inputs, targets(plan, model_id), "preset_a_flat")
    rows = store.read([randomized.units(plan)[model_id, 1, 0]])
    peaks = np.abs(expected).max(axis=(1, 2))[:, None]
    np.testing.assert_allclose(
        matrix(rows["map"]), expected.reshape(len(rows), -1) / np.where(peaks > 0, peaks, 1), atol=1e-4
    )


@pytest.mark.parametrize("destination", MODELS)
def test_masked_images_are_answered_as_by_the_whole_network(
    finished: tuple[Plan, Store], destination: str
) -> None:
    plan, store = finished
    network, inputs = whole(plan, store, destination)
    (chosen,) = masking.chunks(plan)
    instead = replacements(
        "mean",
        plan.images.pixels[list(chosen)],
        [plan.images.keys[image] for image in chosen],
        plan.backbones["first"].weights.preprocessing,
    )
    for source in MODELS:
        maps = matrix(store.read([relevance.units(plan)[source, 0]])["map"])
        ranks = removal_ranks(maps, plan.study.masking.order).reshape(*inputs.shape[:3], 1)
        unit = next(
            unit
            for (mask, *_), units in masking.units(plan).items()
            for unit in units
            if (mask.name, unit.label) == (source, f"{source}--{destination}.0000")
        )
        rows = store.read([unit]).to_pylist()
        for percent in (0, 1, 31.6, 100):
            masked = np.where(ranks < removed_count(percent, 32 * 32), instead, inputs)
            logits = forward(network, masked.astype(np.float32))
            own = logits[np.arange(len(logits)), targets(plan, destination)]
            stored = [row["target_logit"] for row in rows if row["percent"] == percent]
            np.testing.assert_allclose(stored, own, rtol=1e-3, atol=1e-3)


def test_queries_and_the_report_know_the_factor(finished: tuple[Plan, Store]) -> None:
    plan, store = finished
    rows = run_query("auc", store.root).to_pylist()
    assert {row["relation"] for row in rows} >= {"other_depth"}
    write_report(answers_of(plan, store))
    page = Path(store.root, PAGE).read_text()
    assert (
        "What is learned: only the last layer, the readout; or new dense layers of 12 and 8 units, the readout; "
        "or all layers from block5_conv2 on, the readout." in page
    )
    for model_id in MODELS:
        assert model_id in page


@pytest.mark.parametrize("model_id", MODELS)
def test_a_served_model_answers_as_the_study_does(finished: tuple[Plan, Store], model_id: str) -> None:
    plan, store = finished
    weights = store.read_weights(finetune.model_units(plan)[model_id])
    served = Classifier(description_of(plan, plan.model[model_id]), weights)
    network, inputs = whole(plan, store, model_id)
    pixels = plan.images.pixels[list(plan.selected)]
    _, logits = served.predict(pixels)
    np.testing.assert_allclose(logits, forward(network, inputs), rtol=1e-4, atol=1e-4)
    expected = map_of(network, inputs, logits.argmax(axis=1), "preset_a_flat")
    peaks = np.abs(expected).max(axis=(1, 2))[:, None, None]
    np.testing.assert_allclose(served.relevance(pixels), expected / peaks, atol=1e-5)


# Training


def trainer_of(plan: Plan, store: Store) -> finetune.Trainer:
    trials = {model.id: finetune.trial_of(plan, model, None) for model in plan.models}
    trunks = finetune.trunks_of(plan, plan.models)
    return finetune.Trainer(finetune.Finetuning(store, trials, finetune.validation_mask(plan), trunks))


@pytest.mark.parametrize("model_id", MODELS[1:])
def test_a_head_goes_on_from_its_checkpoint(
    finished: tuple[Plan, Store], model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, full = finished
    store = Store(str(tmp_path / "results"))
    for unit in [*features.units(plan).values(), *features.mirrored_units(plan).values()]:
        store.files.write(unit.path, full.read_file(unit.path))
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    store.files.write(f"{checkpoint.FOLDER}/{model_id}.0.npz", b"of an earlier version of the study")
    store.files.write(f"{checkpoint.FOLDER}/another.0.npz", b"of another model")
    first = trainer_of(plan, store)
    first.begin(model_id)
    first.epoch()
    first.epoch()
    assert f"{model_id}.{plan.model[model_id].key}.npz" in store.files.names(checkpoint.FOLDER)
    # The process is killed here; another one takes the model on.
    second = trainer_of(plan, store)
    second.begin(model_id)
    told = second.epoch()
    assert told["epoch"] == 3
    assert second.epoch()["done"]
    assert store.files.names(checkpoint.FOLDER) == ["another.0.npz"]
    unit = finetune.model_units(plan)[model_id]
    assert store.read_weights(unit) == full.read_weights(unit)
    epochs = finetune.epoch_units(plan)[model_id]
    assert store.read([epochs]).equals(full.read([epochs]))


def test_a_damaged_checkpoint_counts_as_none(finished: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, full = finished
    store = Store(str(tmp_path / "results"))
    for unit in features.units(plan).values():
        store.files.write(unit.path, full.read_file(unit.path))
    model = plan.model[MODELS[1]]
    store.files.write(f"{checkpoint.FOLDER}/{model.id}.{model.key}.npz", b"PK torn")
    trainer = trainer_of(plan, store)
    trainer.begin(model.id)
    assert trainer.epoch()["epoch"] == 1


@pytest.mark.parametrize("model_id", MODELS[:2])
def test_training_ends_early_with_the_best_weights(
    finished: tuple[Plan, Store], model_id: str, tmp_path: Path
) -> None:
    plan, full = finished
    settings = plan.model[model_id].cell.finetune.model_copy(
        update={"epochs": 200, "patience": 3, "learning_rate": 0.3}
    )
    models = tuple(
        replace(m, cell=replace(m.cell, finetune=settings)) for m in plan.models if m.id == model_id
    )
    early = replace(plan, models=models)
    store = Store(str(tmp_path / "results"))
    for unit in features.units(plan).values():
        store.files.write(unit.path, full.read_file(unit.path))
    trainer = trainer_of(early, store)
    trainer.begin(model_id)
    while not trainer.epoch()["done"]:
        pass
    rows = store.read([finetune.epoch_units(early)[model_id]]).to_pylist()
    losses = [row["val_loss"] for row in rows]
    best = losses.index(min(losses))
    assert len(rows) == best + 4 < 200
    (model,) = store.read([finetune.model_units(early)[model_id]]).to_pylist()
    assert model["epochs"] == len(rows)
    assert model["val_accuracy"] == pytest.approx(rows[best]["val_accuracy"])


# The study file


def test_keys_of_models_without_the_new_settings_are_as_they_were(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    plain = make_plan(study.path)
    said = plain.models[0].cell.finetune.model_dump()
    assert said == {"epochs": 4, "batch_size": 8, "learning_rate": 0.001, "standardize": True}
    defaults = {"hidden": [], "learning_rate_schedule": "constant", "mirror": False, "patience": None}
    told = make_plan(study.changed(finetune=defaults).path)
    assert [model.key for model in told.models] == [model.key for model in plain.models]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"from": "block9_conv1"},
            "finetune.from: in npz:first.npz, no layer is named 'block9_conv1'; those with weights are",
        ),
        (
            {"from": "block1_conv1"},
            "finetune.from: in npz:first.npz, nothing is before the layer 'block1_conv1'",
        ),
        ({"hidden": [0]}, "finetune.hidden.0: "),
        ({"form": "block5_conv1"}, "finetune.form: unknown key; did you mean 'from'"),
        ({"learning_rate_schedule": "step"}, "finetune.learning_rate_schedule: "),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    study = write_small_study(tmp_path).changed(finetune=changes)
    with pytest.raises(InputError) as caught:
        make_plan(study.path)
    assert expected in str(caught.value)
