"""What is said about images that can be used, but perhaps not as their owner thinks."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sweep.cli import cli
from sweep.data.images import Images, load_images
from sweep.data.sources import read_source
from sweep.errors import InputError
from sweep.study import Dataset
from tests.studies import write_faces, write_small_study


def manifest(folder: Path, arrays: dict[str, np.ndarray], columns: str = "", cells: str = "") -> None:
    lines = [f"path,identity{columns}"]
    for index, (name, array) in enumerate(arrays.items()):
        Image.fromarray(array).save(folder / name)
        lines.append(f"{name},p{index % 2}{cells}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def loaded(folder: Path, **settings: object) -> Images:
    return load_images(
        Dataset.model_validate({"source": "manifest:manifest.csv", "input_size": 32, **settings}), folder
    )


def noise(index: int, low: int, high: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(index).integers(low, high + 1, (32, 32), kind)


@pytest.mark.parametrize("bits", [10, 12])
def test_few_bits_in_16_are_said_until_white_is_named(tmp_path: Path, bits: int) -> None:
    manifest(tmp_path, {f"{i}.png": noise(i, 0, 2**bits - 1, np.uint16) for i in range(4)})
    (note,) = loaded(tmp_path).notes
    assert note.startswith(
        f"dataset.source: the images use only the pixel values 0 to {round((2**bits - 1) / 257)} of"
    )
    assert "name it in dataset.white (1023 for 10 bits, 4095 for 12)" in note
    mended = loaded(tmp_path, white=2**bits - 1)
    assert mended.notes == ()
    assert mended.pixels.max() == 255


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0, 63, True), (180, 220, True), (0, 70, False), (0, 255, False)]
)
def test_a_tiny_range_of_8_bits_is_said(tmp_path: Path, low: int, high: int, said: bool) -> None:
    arrays = {f"{i}.png": noise(i, low, high) for i in range(24)}
    arrays["0.png"][0, 0] = 255  # a hot pixel is no range
    manifest(tmp_path, arrays)
    assert ("use only the pixel values" in "".join(loaded(tmp_path).notes)) == said


def test_the_same_pixels_on_both_sides_of_the_split_are_said(tmp_path: Path) -> None:
    arrays = {f"{i}.png": noise(i % 4, 0, 255) for i in range(8)}
    manifest(tmp_path, arrays, ",split", ",train")
    text = (tmp_path / "manifest.csv").read_text().splitlines()
    for row in (1, 2):
        text[row] = text[row].replace("train", "validation")
    (tmp_path / "manifest.csv").write_text("\n".join(text))
    (note,) = loaded(tmp_path).notes
    assert "row 2: held back for validation, but has the same pixels as" in note
    assert "row 6, which is trained on" in note
    assert note.endswith("(2 such images in all)")


def test_values_that_differ_by_case_and_frames_left_out_are_said(tmp_path: Path) -> None:
    manifest(tmp_path, {f"{i}.png": noise(i, 0, 255) for i in range(4)}, ",hair", ",Dark")
    text = (tmp_path / "manifest.csv").read_text().replace("3.png,p1,Dark", "3.png,p1,dark")
    first, second = (Image.fromarray(noise(9, 0, 255)) for _ in range(2))
    for name in ("a.tif", "b.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        text += f"{name},p0,Dark\n"
    (tmp_path / "manifest.csv").write_text(text)
    notes = loaded(tmp_path).notes
    assert any(
        "'Dark' and 'dark' of hair differ only by case and count as two values" in note for note in notes
    )
    assert any(
        note.endswith("row 6: has several frames, of which the first is read (2 such images in all)")
        for note in notes
    )


def test_ordinary_images_need_no_note(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces")
    assert load_images(Dataset(source="manifest:faces/manifest.csv", input_size=32), tmp_path).notes == ()


def test_white_holds_for_every_kind_of_source(tmp_path: Path) -> None:
    import scipy.io

    pixels = np.tile(np.arange(16, dtype=np.uint8)[:, None, None], (1, 16, 2))
    scipy.io.savemat(tmp_path / "f.mat", {"x": pixels, "label": np.array([1, 1])})
    first = next(iter(read_source("umist:f.mat", tmp_path, 15)))
    assert (first.pixels.min(), first.pixels.max()) == (0, 255)
    with pytest.raises(InputError, match=r"image 0: has pixels up to 15, brighter than dataset\.white \(7\)"):
        next(iter(read_source("umist:f.mat", tmp_path, 7)))
    scipy.io.savemat(tmp_path / "f.mat", {"x": pixels, "label": np.array([1, 1.5])})
    with pytest.raises(InputError, match="label must hold whole numbers"):
        next(iter(read_source("umist:f.mat", tmp_path)))


def test_data_show_and_plan_say_the_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_small_study(tmp_path)
    folder = tmp_path / study.content["dataset"]["source"].removeprefix("manifest:")
    for path in folder.parent.glob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) // 8).astype(np.uint8)).save(path)
    shown = CliRunner().invoke(
        cli, ["data", "show", f"manifest:{folder}", "--sheet", str(tmp_path / "s.png")]
    )
    planned = CliRunner().invoke(
        cli, ["plan", str(study.path), "--no-time", "--results", str(tmp_path / "results")]
    )
    for result in (shown, planned):
        assert result.exit_code == 0, result.output
        assert "note: dataset.source: the images use only the pixel values" in result.stderr
    white = ["--white", "31", "--sheet", str(tmp_path / "s.png")]
    assert CliRunner().invoke(cli, ["data", "show", f"manifest:{folder}", *white]).stderr == ""
