"""The bundled faces: complete, balanced, decodable, and the ones the model card describes."""

import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HEADS = ROOT / "sweep" / "data" / "bundled" / "heads.parquet"
SHEET = ROOT / "docs" / "heads-contact-sheet.png"
CARD = ROOT / "docs" / "heads.md"

VIEWS = list(range(-105, 106, 15))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pq.read_table(HEADS)


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = table.to_pylist()
    return listed


@pytest.fixture(scope="module")
def pixels(rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(io.BytesIO(row["png"]))) for row in rows])


def test_columns_and_types(table: pa.Table) -> None:
    assert table.schema.names == ["image_id", "identity", "gender", "view_deg", "png"]
    assert table.schema.field("view_deg").type == pa.float32()
    assert table.schema.field("png").type == pa.binary()
    assert all(column.null_count == 0 for column in table.columns)


def test_every_identity_has_every_view(rows: list[dict[str, Any]]) -> None:
    views: dict[str, list[float]] = {}
    for row in rows:
        views.setdefault(row["identity"], []).append(row["view_deg"])
    assert sorted(views) == [f"head-{number:03d}" for number in range(1, 102)]
    assert all(sorted(seen) == VIEWS for seen in views.values())


def test_genders_are_balanced_and_belong_to_identities(rows: list[dict[str, Any]]) -> None:
    genders = {(row["identity"], row["gender"]) for row in rows}
    assert len(genders) == 101
    assert Counter(gender for _, gender in genders) == {"female": 51, "male": 50}


def test_image_ids_name_identity_and_view(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        view = int(row["view_deg"])
        assert row["image_id"] == f"{row['identity']}-{'m' if view < 0 else 'p'}{abs(view):03d}"
    assert len({row["image_id"] for row in rows}) == len(rows) == 1515


def test_images_are_square_8_bit_grey_png(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        with Image.open(io.BytesIO(row["png"])) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (112, 112))


def test_no_two_images_are_equal(pixels: np.ndarray[Any, Any]) -> None:
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_heads_fill_the_frame_in_all_views(pixels: np.ndarray[Any, Any]) -> None:
    background = pixels[:, 0, 0][:, None, None]
    head = np.abs(pixels.astype(int) - background) > 8
    assert (head.any(2).sum(1) > 0.85 * 112).all(), "height"
    assert (head.any(1).sum(1) > 0.45 * 112).all(), "width"
    assert (head.mean((1, 2)) > 0.3).all(), "area"


def test_identities_differ_more_than_neighbouring_views_of_one(
    rows: list[dict[str, Any]], pixels: np.ndarray[Any, Any]
) -> None:
    frontal = np.array([row["view_deg"] == 0 for row in rows])
    faces = pixels[frontal].reshape(101, -1).astype(float)
    distances = np.sqrt(((faces[:, None] - faces[None]) ** 2).mean(2)) + 1e3 * np.eye(101)
    assert distances.min() > 8, "two frontal faces look alike"


def best_threshold_on_one_pixel(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Accuracy of the best rule 'this pixel is darker (or lighter) than that value', over all pixels."""
    values = images.reshape(len(images), -1)
    ordered = labels[values.argsort(axis=0)]
    below = np.cumsum(ordered, axis=0)
    above = np.cumsum(~ordered[::-1], axis=0)[::-1] - ~ordered
    hits = below + above
    return float(np.maximum(hits, len(labels) - hits).max() / len(labels))


def test_gender_is_not_told_by_a_single_pixel(
    rows: list[dict[str, Any]], pixels: np.ndarray[Any, Any]
) -> None:
    male = np.array([row["gender"] == "male" for row in rows])
    frontal = np.array([row["view_deg"] == 0 for row in rows])
    assert best_threshold_on_one_pixel(pixels[:, ::3, ::3], male) < 0.7
    # Among 12,544 pixels one fits 101 labels rather well by chance, too.
    assert best_threshold_on_one_pixel(pixels[frontal], male[frontal]) < 0.95


def test_sizes_stay_within_their_limits() -> None:
    assert HEADS.stat().st_size <= 8_000_000
    assert SHEET.stat().st_size <= 600_000


def test_the_card_describes_this_file() -> None:
    card = CARD.read_text(encoding="utf-8")
    assert hashlib.sha256(HEADS.read_bytes()).hexdigest() in card
    assert "CC0" in card
    assert "MakeHuman" in card
