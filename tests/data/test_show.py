"""Counts and contact sheets of a dataset."""

from pathlib import Path

import numpy as np

from sweep.data.images import load_images
from sweep.data.show import THUMBNAIL, contact_sheet, counts
from sweep.study import Dataset
from tests.studies import write_faces


def test_counts_and_sheet_of_a_manifest(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", identities=25, views=5)
    images = load_images(Dataset(source="manifest:faces/manifest.csv", input_size=64), tmp_path)
    rows = {row["label"]: row for row in counts(images).to_pylist()}
    assert rows["gender"]["images per value"] == "female 60, male 65"
    assert rows["view_deg"]["images per value"] == "-30 25, -15 25, 0 25, 15 25, 30 25"
    assert rows["identity"] == {
        "label": "identity",
        "values": 25,
        "images": 125,
        "unlabelled": 0,
        "images per value": "5 to 5 images each",
    }
    sheet = np.asarray(contact_sheet(images))
    assert sheet.shape == (20 * THUMBNAIL, 5 * THUMBNAIL, 3)
    position = images.ids.index("p00-v0")
    np.testing.assert_array_equal(sheet[:THUMBNAIL, :THUMBNAIL], images.pixels[position])
