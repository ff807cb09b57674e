"""Matrices of all models against all: each cell where it belongs."""

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sweep.report.matrices import auc_matrix, model_pairs, similarity_matrix
from sweep.report.style import styles_of

GROUPS = {"x-id": ["x1", "x2"], "y-id": ["y1"]}
MODELS = ["x1", "x2", "y1"]


def relation(source: str, destination: str) -> str:
    if source == "random-1":
        return "random"
    if source == destination:
        return "same_init"
    return "same_task_same_pretraining" if source[0] == destination[0] else "other_pretraining"


PAIRS = [(a, b) for a in [*MODELS, "random-1"] for b in MODELS]
AUC = pa.Table.from_pylist(
    [
        {
            "source_id": a,
            "destination_id": b,
            "relation": relation(a, b),
            "auc_log": None if a == "x2" else i / 20,
        }
        for i, (a, b) in enumerate(PAIRS)
    ]
)
LOOKS = styles_of({relation(*pair) for pair in PAIRS}, ["x", "y"])


def shown(figure: Figure) -> Any:
    (image,) = figure.axes[0].get_images()
    return image


def test_the_design_colours_each_pair_by_its_bin() -> None:
    image = shown(model_pairs(AUC, GROUPS, LOOKS))
    colours = image.cmap(image.norm(image.get_array()))
    for row, source in enumerate([*MODELS, "random-1"]):
        for column, destination in enumerate(MODELS):
            assert (
                to_hex(colours[row, column]) == LOOKS.relations[relation(source, destination)].colour.lower()
            )


def test_the_legend_of_the_design_has_every_bin_in_its_colour() -> None:
    (legend,) = model_pairs(AUC, GROUPS, LOOKS).legends
    found = {
        text.get_text(): to_hex(patch.get_facecolor())
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert found == {style.name: style.colour.lower() for style in LOOKS.relations.values()}


def test_areas_stand_at_source_and_destination_and_missing_ones_stay_white() -> None:
    values = shown(auc_matrix(AUC, GROUPS)).get_array().filled(np.nan)
    expected = np.arange(12).reshape(4, 3) / 20
    expected[1] = np.nan
    np.testing.assert_allclose(values, expected)


def test_conditions_are_named_at_the_middle_of_their_models() -> None:
    panel = auc_matrix(AUC, GROUPS).axes[0]
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert dict(zip(labels, panel.get_yticks(), strict=True)) == {"x-id": 0.5, "y-id": 2, "random": 3}
    assert list(panel.get_xticks()) == [0.5, 2]


def test_similarity_is_symmetric_with_an_empty_diagonal() -> None:
    pairs = pa.table(
        {"model_a": ["x1", "x1", "x2"], "model_b": ["x2", "y1", "y1"], "pearson": [0.9, 0.4, None]}
    )
    values = shown(similarity_matrix(pairs, GROUPS)).get_array().filled(np.nan)
    np.testing.assert_allclose(values, [[np.nan, 0.9, 0.4], [0.9, np.nan, np.nan], [0.4, np.nan, np.nan]])
