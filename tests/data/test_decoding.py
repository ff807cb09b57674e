"""Image files of every kind: read right, remarked on, or refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from sweep.data.decoding import decode, decode_with_remarks, scaled

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def stored(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def deep(values: np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> io.BytesIO:
    return stored(Image.fromarray(values), kind, **options)


def deep_colour(value: int) -> io.BytesIO:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    lines = b"".join(b"\0" + struct.pack(">12H", *[value] * 12) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_data_of_few_bits_in_16_is_scaled_by_the_white_that_the_study_names(bits: int, kind: str) -> None:
    white = 2**bits - 1
    values = np.linspace(0, white, 64).astype(np.uint16).reshape(8, 8)
    assert decode(deep(values, kind)).max() == round(
        white / 257
    )  # nearly black for 10 bits: the rule, remarked on
    pixels = decode(deep(values, kind), white)
    assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
    np.testing.assert_array_equal(pixels, np.round(values * (255 / white)))


def test_white_of_the_whole_type_is_what_is_read_without_it() -> None:
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    np.testing.assert_array_equal(decode(deep(values), 65535), decode(deep(values)))
    np.testing.assert_array_equal(decode(stored(Image.fromarray(GREY), "PNG"), 255), GREY)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 65535), st.data())
def test_scaling_keeps_black_white_and_order(white: int, data: st.DataObject) -> None:
    values = np.array(sorted([0, white, *data.draw(st.lists(st.integers(0, white), max_size=20))]))
    levels = scaled(values, white).astype(int)
    assert levels[0] == 0
    assert levels[-1] == 255
    assert (np.diff(levels) >= 0).all()
    assert np.abs(levels - values * 255 / white).max() <= 0.5


def test_numbers_of_32_bits_and_floating_point_need_a_white() -> None:
    for values, white in ((GREY.astype(np.int32) * 10, 2550), (GREY.astype(np.float32) / 255, 1.0)):
        file = deep(values, "TIFF")
        with pytest.raises(ValueError, match=r"mode '.'; .*dataset\.white"):
            decode(file)
        np.testing.assert_array_equal(decode(file, white), GREY)


@pytest.mark.parametrize(
    ("file", "white", "expected"),
    [
        (deep(np.full((4, 4), 5000, np.uint16)), 4095, r"up to 5000, brighter than dataset\.white \(4095\)"),
        (deep(np.full((4, 4), -3, np.int32), "TIFF"), 100, "pixels of -3 to -3; black is 0"),
        (deep(np.full((4, 4), np.nan, np.float32), "TIFF"), 1, "every value must be finite"),
        (deep(np.full((4, 4), np.inf, np.float32), "TIFF"), 1, "every value must be finite"),
        (
            stored(Image.fromarray(GREY), "PNG"),
            4095,
            r"has 8 bits a channel, so no pixel can be dataset\.white",
        ),
        (deep_colour(900), 1023, "has 16 bits a channel, of which 8 are read"),
        (deep(np.full((4, 4), 9, np.uint16), "TIFF", tiffinfo={262: 0}), None, "stores white as zero"),
        (io.BytesIO(b"GIF89a"), None, "cannot be decoded"),
        (io.BytesIO(b""), None, "cannot be decoded"),
    ],
)
def test_what_cannot_be_read_right_is_refused(file: io.BytesIO, white: float | None, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        decode(file, white)


def test_transparent_pixels_stay_mid_grey_whatever_is_white() -> None:
    file = stored(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG")
    assert set(decode(file).ravel()) == {128}
    assert abs(int(decode(file, 15).max()) - 128) <= 10


def test_colour_of_16_bits_keeps_its_upper_8() -> None:
    assert set(decode(deep_colour(0xC8FF)).ravel()) == {0xC8}
    assert decode_with_remarks(deep_colour(0xC8FF))[1] == ()
    pixels, remarks = decode_with_remarks(deep_colour(900))
    assert pixels.max() == 3
    assert remarks == ("is dark and has 16 bits a channel, of which the upper 8 are read; save it with 8",)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_read_and_that_is_said(kind: str) -> None:
    first, second = Image.fromarray(GREY).convert("RGB"), Image.new("RGB", (8, 8), "white")
    many = stored(
        first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {})
    )
    pixels, remarks = decode_with_remarks(many)
    assert remarks == ("has several frames, of which the first is read",)
    np.testing.assert_allclose(pixels[..., 0], GREY, atol=2)
    assert decode_with_remarks(stored(first, kind))[1] == ()


def test_previews_that_cameras_store_are_not_remarked_on() -> None:
    photograph = Image.fromarray(GREY).convert("RGB")
    file = stored(photograph, "MPO", save_all=True, append_images=[photograph.resize((4, 4))])
    assert decode_with_remarks(file)[1] == ()


def test_colour_profiles_and_gammas_that_are_not_applied_are_said() -> None:
    image = Image.fromarray(GREY)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode_with_remarks(stored(image, "PNG", icc_profile=srgb))[1] == ()
    (remark,) = decode_with_remarks(stored(image, "PNG", icc_profile=lab))[1]
    assert remark.startswith("has the colour profile 'Lab")
    (remark,) = decode_with_remarks(stored(image, "PNG", icc_profile=b"no profile"))[1]
    assert remark == "has the colour profile 'unreadable', which is not applied"
    from PIL.PngImagePlugin import PngInfo

    for value, expected in ((45455, ()), (100000, ("has the gamma 1, which is not applied",))):
        info = PngInfo()
        info.add(b"gAMA", value.to_bytes(4, "big"))
        assert decode_with_remarks(stored(image, "PNG", pnginfo=info))[1] == expected


def test_inks_of_a_jpeg_are_read_as_adobe_writes_them() -> None:
    file = stored(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")  # no ink: white
    assert decode(file).min() > 250
    assert decode_with_remarks(file)[1] == ()
    content = file.getvalue()
    start = content.index(b"\xff\xeeAdobe"[:2])
    length = int.from_bytes(content[start + 2 : start + 4], "big")
    without = io.BytesIO(content[:start] + content[start + 2 + length :])
    assert "without Adobe's marker" in decode_with_remarks(without)[1][0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :16] = 255  # the upper left quarter
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(stored(Image.fromarray(np.ascontiguousarray(turned)), kind, exif=exif))
    np.testing.assert_allclose(pixels.astype(int), upright, atol=30)


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    colours = Image.new("P", (4, 4), 1)
    colours.putpalette([0, 0, 0, 200, 100, 50])
    colours.save(tmp_path / "p.gif")
    assert decode(tmp_path / "p.gif")[0, 0].tolist() == [200, 100, 50]
    colours.save(tmp_path / "p.png", transparency=1)
    assert decode(tmp_path / "p.png")[0, 0].tolist() == [128, 128, 128]
