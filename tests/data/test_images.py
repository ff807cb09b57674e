"""Images: squaring, splitting, selecting, and the labels tasks name."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sweep.data.decoding import decode
from sweep.data.images import Images, load_images, select, split, squared
from sweep.errors import InputError
from sweep.storage.schemas import SCHEMAS
from sweep.study import Dataset, RelevanceImages
from sweep.study.yaml_text import parse_yaml
from tests.studies import write_faces


@pytest.fixture
def faces(tmp_path: Path) -> Images:
    write_faces(tmp_path / "faces")
    return load_images(Dataset(source="manifest:faces/manifest.csv", input_size=32), tmp_path)


def test_a_manifest_becomes_rows_with_its_own_label_columns(faces: Images) -> None:
    assert faces.pixels.shape == (30, 32, 32, 3)
    assert faces.pixels.dtype == np.uint8
    row = faces.table.to_pylist()[7]
    assert row == {
        "image_id": "p01-v2",
        "identity": "p01",
        "gender": "female",
        "view_deg": 0.0,
        "split": row["split"],
        "height": 32,
        "width": 32,
        "hair": "dark",
    }
    assert faces.labels("hair").count("fair") == 15


def test_squaring_keeps_proportions_and_centres() -> None:
    tall = np.zeros((40, 20), np.uint8)
    tall[10:30, 5:15] = 200  # a bright block of 20 x 10 in the middle
    result = squared(tall, 40)
    assert result.shape == (40, 40, 3)
    bright = np.argwhere(result[:, :, 0] > 100)
    assert bright.min(axis=0).tolist() == [10, 15]
    assert bright.max(axis=0).tolist() == [29, 24]


def test_padding_repeats_the_edge() -> None:
    ramp = np.repeat(np.arange(20, dtype=np.uint8)[None] * 10, 40, axis=0)
    result = squared(ramp, 40)[:, :, 0]
    assert (result[:, :10] == 0).all()
    assert (result[:, 30:] == 190).all()


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(squared(pixels, 64), pixels)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 30), min_size=1, max_size=12),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
@example(sizes=[2, 2, 2], fraction=0.6, seed=0)  # carried rounding would hold back all of the third stratum
def test_the_split_is_stratified_and_free_of_file_order(sizes: list[int], fraction: float, seed: int) -> None:
    strata = [f"p{person}" for person, size in enumerate(sizes) for _ in range(size)]
    ids = [f"image{index}" for index in range(len(strata))]
    assigned = dict(zip(ids, split(ids, strata, fraction, seed), strict=True))
    held = dict.fromkeys(strata, 0)
    for image, stratum in zip(ids, strata, strict=True):
        held[stratum] += assigned[image] == "validation"
    for person, size in enumerate(sizes):
        assert abs(held[f"p{person}"] - size * fraction) <= 1.5
        assert held[f"p{person}"] < size
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = split([ids[i] for i in order], [strata[i] for i in order], fraction, seed)
    assert {ids[i]: part for i, part in zip(order, shuffled, strict=True)} == assigned


def test_a_fifth_of_the_images_is_held_back_in_all() -> None:
    strata = [f"p{index // 19}" for index in range(380)]
    assert split([str(i) for i in range(380)], strata, 0.2, 0).count("validation") == 76


def test_selection_by_value_and_per_identity(faces: Images) -> None:
    assert [faces.ids[i] for i in select(faces, RelevanceImages(where={"view_deg": 0}))] == [
        f"p{p:02d}-v2" for p in range(6)
    ]
    chosen = select(faces, RelevanceImages(where={"split": "train", "gender": "male"}, per_identity=1))
    identities = [faces.table["identity"][i].as_py() for i in chosen]
    assert identities == ["p00", "p02", "p04"]
    assert len(select(faces, RelevanceImages(where={"view_deg": [0, 15]}))) == 12


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"age": 3}, "'age' is no column of the images; known: image_id, identity"),
        ({"view_deg": "frontal"}, "must be a number"),
        ({"identity": "nobody"}, "where.identity: selects no image with 'nobody'; there are: 'p00', 'p01'"),
        (
            {"view_deg": [0, 7.3, 1234]},
            "where.view_deg: selects no image with 7.3, 1234; there are: -30, -15, 0, 15, 30$",
        ),
        ({"identity": ["p01", "P02", 3]}, "selects no image with 'P02', '3'"),
        ({"view_deg": "1:30"}, "must be a number or a list of numbers, not '1:30'"),
        ({"view_deg": 1e300}, "selects no image with inf"),
        ({"gender": "None"}, "selects no image with 'None'; there are: 'female', 'male'$"),
        (
            {"identity": ["p00", "p01"], "gender": "male"},
            "selects no image with 'p01' that meets the other conditions",
        ),
    ],
)
def test_selections_that_cannot_be(faces: Images, where: dict[str, str | int], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        select(faces, RelevanceImages.model_validate({"where": where}))


def test_every_value_is_found_as_the_manifest_has_it(tmp_path: Path) -> None:
    rows = ["1,0.1,true", "01,-7.35,True", "010,1e-3,no", "1.10,-0,yes", "08,,"]
    for index in range(len(rows)):
        Image.new("L", (8, 8), index).save(tmp_path / f"{index}.png")
    lines = [f"{index}.png,p{index},{row}" for index, row in enumerate(rows)]
    dataset = write_manifest(
        tmp_path, *lines, *[f"x{line}" for line in lines], header="path,identity,code,view_deg,glasses"
    )
    for index in range(len(rows)):
        Image.new("L", (8, 8), index).save(tmp_path / f"x{index}.png")
    images = load_images(dataset, tmp_path)

    def chosen(text: str) -> list[str]:
        (tmp_path / "where.yaml").write_text(text)
        choice = RelevanceImages.model_validate(
            {"where": parse_yaml(tmp_path / "where.yaml", (tmp_path / "where.yaml").read_bytes())}
        )
        return sorted(
            images.ids[index] for index in select(images, choice) if not images.ids[index].startswith("x")
        )

    assert chosen("code: [01, 08, 010]") == ["1", "2", "4"]
    assert chosen("code: 1") == ["0"]
    assert chosen("glasses: true") == ["0"]
    assert chosen("glasses: [True, no]") == ["1", "2"]
    assert chosen("view_deg: 0.1") == ["0"]
    assert chosen("view_deg: [-7.35, 0.001]") == ["1", "2"]
    assert chosen("view_deg: 0") == ["3"]
    assert chosen("code: '1.10'") == ["3"]
    with pytest.raises(
        InputError, match=r"where\.code: labels are text; put the one that is meant in quotes, as in '1\.10'"
    ):
        chosen("code: 1.10")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(-400, 400, width=32) | st.floats(-400, 400), min_size=1, max_size=6, unique_by=np.float32
    )
)
def test_an_angle_is_found_by_the_number_that_was_written(angles: list[float]) -> None:
    schema = SCHEMAS["images"]
    columns = {name: ["x"] * len(angles) for name in ("identity", "gender", "split")}
    table = pa.table(
        columns
        | {"image_id": [str(i) for i in range(len(angles))], "view_deg": angles}
        | {name: [8] * len(angles) for name in ("height", "width")},
        schema=schema,
    )
    images = Images(
        table, np.zeros((len(angles), 8, 8, 3), np.uint8), ("",) * len(angles), ("",) * len(angles)
    )
    for index, angle in enumerate(angles):
        assert select(images, RelevanceImages(where={"view_deg": angle})) == [index]
        assert select(images, RelevanceImages(where={"view_deg": str(angle)})) == [index]


def write_manifest(folder: Path, *rows: str, header: str = "path,identity,gender") -> Dataset:
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return Dataset(source="manifest:manifest.csv", input_size=32)


def test_bad_manifest_rows_are_named_together(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    dataset = write_manifest(
        tmp_path, "a.png,p1,male", "b.png,p2,male", "a.png,p3,male", "a.png,,male", "a.png"
    )
    with pytest.raises(InputError) as caught:
        load_images(dataset, tmp_path)
    rows = [line.split(": ", 1)[1] for line in caught.value.problems]
    assert [row.split(":")[0] for row in rows] == ["row 3", "row 4", "row 5", "row 5", "row 6"]
    assert "no file 'b.png'" in rows[0]
    assert "stands in row 2 already" in rows[1]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("file,identity", "has no column path"),
        ("path,identity,identity", "names a column twice"),
        ("path,identity,image_id", "column image_id: the study makes a column of that name itself"),
        ("path,identity,Split", "column Split: write it 'split'"),
        ("path,identity,HEIGHT", "column HEIGHT: the study makes a column of that name itself"),
        ("path,identity,Condition", "column Condition: the study makes a column of that name itself"),
        ("path,identity,Gender", "column Gender: write it 'gender'"),
        ("path,identity, view_deg", "column  view_deg: write it 'view_deg'"),
        ("path,identity,Path", "column Path: write it 'path'"),
        ("path,identity,hair,Hair", "column Hair: it differs from 'hair' only in case"),
        ("path,identity,", "column without a name: has no name in the header"),
    ],
)
def test_bad_manifest_headers(tmp_path: Path, header: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_images(write_manifest(tmp_path, "a.png,p1,x", header=header), tmp_path)


@pytest.mark.parametrize("angle", ["nan", "inf", "1_0", "north", "1e39"])
def test_angles_that_are_none(tmp_path: Path, angle: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"row 2: view_deg: '{angle}' is no number of degrees"):
        load_images(write_manifest(tmp_path, f"a.png,p1,{angle}", header="path,identity,view_deg"), tmp_path)


def test_a_truncated_png_and_a_bomb_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"row 2: a\.png cannot be decoded"):
        load_images(write_manifest(tmp_path, "a.png,p1,x"), tmp_path)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"row 2: bomb\.png has"):
        load_images(write_manifest(tmp_path, "bomb.png,p1,x"), tmp_path)


def test_an_identity_with_one_image_is_named(tmp_path: Path) -> None:
    for index, name in enumerate("abc"):
        Image.new("L", (8, 8), index).save(tmp_path / f"{name}.png")
    dataset = write_manifest(tmp_path, "a.png,p1,x", "b.png,p2,x", "c.png,p1,x")
    with pytest.raises(
        InputError, match=r"manifest\.csv: row 3: the only image with identity 'p2' \(1 such in all\)"
    ):
        load_images(dataset, tmp_path)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(np.full((8, 8), 25700, np.uint16)), 100),
        (Image.new("RGBA", (8, 8), (200, 200, 200, 0)), 128),
        (Image.new("RGB", (8, 8), (9, 9, 9)), 9),
        (Image.new("LA", (8, 8), (40, 255)), 40),
        (Image.new("1", (8, 8), 1), 255),
        (Image.new("P", (8, 8)), 0),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), 0),
    ],
)
def test_every_kind_of_pixel_is_read_by_the_documented_rules(
    tmp_path: Path, image: Image.Image, expected: int
) -> None:
    name = "image.tif" if image.mode == "CMYK" else "image.png"
    image.save(tmp_path / name)
    pixels = decode(tmp_path / name)
    assert pixels.dtype == np.uint8
    assert pixels.shape in ((8, 8), (8, 8, 3))
    assert (pixels == expected).all()


def test_unknown_sources_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'faces' is no known source"):
        load_images(Dataset(source="faces"), tmp_path)
    with pytest.raises(InputError, match=r"none\.mat: no such file"):
        load_images(Dataset(source="umist:none.mat"), tmp_path)
    (tmp_path / "bad.mat").write_bytes(b"not a mat file at all")
    with pytest.raises(InputError, match="not a readable MATLAB 5 file"):
        load_images(Dataset(source="umist:bad.mat"), tmp_path)


def test_a_task_needs_a_label_for_every_image(faces: Images, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="'age' is no label of the images; known: identity, gender, view_deg, hair"
    ):
        faces.labels("age")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "b.png")
    partly = load_images(write_manifest(tmp_path, "a.png,p1,male", "b.png,p1,"), tmp_path)
    with pytest.raises(
        InputError, match=r"manifest\.csv: row 3: 'gender' is empty, as it is for 1 of 2 images"
    ):
        partly.labels("gender")
    with pytest.raises(InputError, match="every image has the same 'identity'"):
        partly.labels("identity")
    blank = load_images(write_manifest(tmp_path, "a.png,p1,male", "b.png,p1,male "), tmp_path)
    with pytest.raises(InputError, match=r"'gender' looks like that of .* but is written with other spaces"):
        blank.labels("gender")


@pytest.mark.shared_data
def test_umist_and_orl_have_their_people_and_views(shared: Path) -> None:
    umist = load_images(Dataset(source=f"umist:{shared}/faces/umist.mat", input_size=64), shared)
    assert len(umist.ids) == 380
    assert len(set(umist.labels("identity"))) == 20
    assert umist.table["split"].to_pylist().count("validation") == 76
    orl = load_images(Dataset(source=f"orl:{shared}/faces/orl.mat", input_size=64), shared)
    assert len(orl.ids) == 400
    assert len(set(orl.labels("identity"))) == 40
