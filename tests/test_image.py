"""Picture files become tensors, and tensors files."""

import io
import math
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features
from torch.testing import assert_close

from aai import image
from aai.errors import InputError


def write_png(path, size, bits, kind, row, clear=b""):
    """A PNG of one row, of a kind by its number, and of a transparent colour; as Pillow writes none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0))]
    chunks += [chunk(b"tRNS", clear)] if clear else []
    chunks += [chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_rows_and_columns_stay_in_place(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert_close(image.load(tmp_path / "a.png", 4), torch.tensor(values / 255).permute(2, 0, 1).float())


@pytest.mark.parametrize(
    "name, mode, colour, expected",
    [
        ("clear.png", "RGBA", (255, 0, 0, 0), (1, 1, 1)),
        ("half.png", "RGBA", (255, 0, 0, 51), (1, 0.8, 0.8)),
        ("grey.png", "L", 51, (0.2, 0.2, 0.2)),
        ("grey_alpha.png", "LA", (0, 255), (0, 0, 0)),
        ("deep.png", "I;16", 13107, (0.2, 0.2, 0.2)),
        ("ink.jpg", "CMYK", (0, 255, 255, 0), (1, 0, 0)),
        ("bits.png", "1", 1, (1, 1, 1)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, name, mode, colour, expected):
    Image.new(mode, (9, 9), colour).save(tmp_path / name)
    picture = image.load(tmp_path / name, 6)
    # A JPEG keeps colours to a few levels.
    tolerance = 0.02 if name.endswith("jpg") else 0.005
    assert_close(
        picture, torch.tensor(expected).float()[:, None, None].expand(3, 6, 6), atol=tolerance, rtol=0
    )


RAMP = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1))


@pytest.mark.parametrize(
    "name, kind, white",
    [
        ("a.tif", np.float32, 1), ("a.tif", np.float32, 255), ("a.tif", np.float32, 65535),
        ("a.pfm", np.float32, 1),
        ("a.tif", np.int32, 255), ("a.tif", np.int32, 65535), ("a.tif", np.uint16, 65535),
        ("a.png", np.uint16, 65535),
    ],
)  # fmt: skip
def test_deep_grey_is_as_bright_as_its_values_say(tmp_path, name, kind, white):
    Image.fromarray((RAMP * white).astype(kind)).save(tmp_path / name)
    assert_close(image.load(tmp_path / name), torch.tensor(RAMP).expand(3, -1, -1), atol=1.5 / 255, rtol=0)


def test_lights_brighter_than_white_leave_the_rest_as_it_is(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.01, 9.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    wanted = torch.tensor([[0.0, 0.5, 1.0, 1.0]]).expand(3, 1, 4)
    assert_close(image.load(tmp_path / "a.tif"), wanted, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("name, kind, most", [("a.tif", np.uint16, 200), ("a.pgm", np.int32, 200)])
def test_a_dark_picture_of_a_known_white_stays_dark(tmp_path, name, kind, most):
    Image.fromarray((RAMP * most).astype(kind)).save(tmp_path / name)
    assert image.load(tmp_path / name).max() <= 1 / 255


@pytest.mark.parametrize(
    "kind, least, most",
    [
        (np.float32, -0.5, 1), (np.float32, 0, 1e6), (np.float32, 0, math.nan),
        (np.float32, 0, math.inf), (np.int32, -1, 255), (np.int32, 0, 2**30),
    ],
)  # fmt: skip
def test_deep_grey_of_no_known_white_is_refused(tmp_path, kind, least, most):
    Image.fromarray(np.array([[least, most]], dtype=kind)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="a.tif' holds values from .*: save it as an 8-bit picture"):
        image.load(tmp_path / "a.tif")


def tif(path, values, bits, kind=1, photometric=1):
    """A TIFF of one row of grey, written tag by tag: Pillow writes none of these."""
    if bits == 12:
        pairs = values.reshape(-1, 2)
        data = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        data = data.astype(np.uint8).tobytes()
    else:
        data = values.tobytes()
    tags = [(256, 4, len(values)), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 134), (277, 3, 1), (278, 4, 1), (279, 4, len(data)), (339, 3, kind)]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + packed + struct.pack("<I", 0) + data)
    return path


@pytest.mark.parametrize("bits, most, kind, turned", [
    (12, 4095, "<u2", False), (16, 65535, "<u2", False), (16, 65535, "<u2", True), (16, 32767, "<i2", False),
])  # fmt: skip
def test_grey_of_12_and_16_bits_is_read_as_its_file_says(tmp_path, bits, most, kind, turned):
    values = np.linspace(0, most, 64).astype(kind)
    path = tif(tmp_path / "a.tif", values, bits, 2 if kind == "<i2" else 1, 0 if turned else 1)
    row = image.load(path)[0, 0]
    ramp = torch.linspace(0, 1, 64)
    torch.testing.assert_close(row, ramp.flip(0) if turned else ramp, atol=0.01, rtol=0)


def test_a_seam_below_black_is_black(tmp_path):
    Image.fromarray(np.array([[-0.02, 0.5, 1.0]], np.float32)).save(tmp_path / "a.tif")
    assert image.load(tmp_path / "a.tif")[0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=0.01)


@pytest.mark.parametrize("colours", [1, 3])
def test_a_transparent_colour_of_16_bits_alone_is_white(tmp_path, colours):
    greys = np.repeat([0, 0x8000, 0xFFFF], colours).astype(">u2")
    write_png(tmp_path / "a.png", (3, 1), 16, 0 if colours == 1 else 2, greys.tobytes(), b"\x80\0" * colours)
    assert_close(image.load(tmp_path / "a.png")[:, 0], torch.tensor([0.0, 1.0, 1.0]).expand(3, 3))


def test_a_palettes_transparency_is_white(tmp_path):
    drawn = Image.new("P", (8, 8), 0)
    drawn.putpalette([255, 0, 0, 0, 255, 0])
    drawn.save(tmp_path / "p.png", transparency=0)
    assert image.load(tmp_path / "p.png", 4).min() > 0.99


def test_photographs_are_turned_upright(tmp_path):
    drawn = Image.new("RGB", (8, 8), (0, 0, 0))
    drawn.paste((255, 255, 255), (0, 0, 8, 4))
    turn = Image.Exif()
    turn[0x0112] = 3
    drawn.save(tmp_path / "turned.png", exif=turn)
    picture = image.load(tmp_path / "turned.png", 8)
    assert picture[:, :3].max() < 0.1 and picture[:, 5:].min() > 0.9


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0", b"Exif\0\0odd", b"MM\0*\0\0\0"])
def test_a_picture_with_damaged_exif_is_read_as_it_lies(tmp_path, exif):
    Image.linear_gradient("L").save(tmp_path / "cut.png", exif=exif)
    assert_close(image.load(tmp_path / "cut.png")[0, :, 0], torch.arange(256) / 255)


def _jpeg2000_of_a_box_without_end() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, format="JPEG2000")
    whole = content.getvalue()
    box = whole.index(b"jp2h") - 4
    return whole[:box] + struct.pack(">I", 2**32 - 8) + whole[box + 4 :]


def _tiff_of_a_tag_without_end() -> bytes:
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x010E] = "x" * 40
    Image.new("RGB", (16, 16)).save(content, format="TIFF", exif=exif)
    whole = bytearray(content.getvalue())
    tags = struct.unpack_from("<I", whole, 4)[0] + 2
    (at,) = (n for n in range(tags, len(whole), 12) if struct.unpack_from("<H", whole, n)[0] == 0x010E)
    struct.pack_into("<HI", whole, at + 2, 12, 2**32 - 1)
    return bytes(whole)


def test_no_more_is_read_than_a_file_holds(tmp_path):
    """Whatever its header asks for: as a process that may have a gigabyte more finds."""
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("this system does not say how much memory a process holds")
    (tmp_path / "box.jp2").write_bytes(_jpeg2000_of_a_box_without_end())
    (tmp_path / "tag.tif").write_bytes(_tiff_of_a_tag_without_end())
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    try:
        with pytest.raises(InputError, match="box.jp2"):
            image.load(tmp_path / "box.jp2")
        with pytest.warns(UserWarning, match="Tag data larger than file"):
            assert image.load(tmp_path / "tag.tif").shape == (3, 16, 16)
            assert not image.is_ours(tmp_path / "tag.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_files_that_are_no_pictures_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    for name in ("broken.png", "notes.txt"):
        with pytest.raises(InputError, match=rf"{name}'.*cannot be read"):
            image.load(tmp_path / name, 8)
    Image.effect_noise((40, 40), 90).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut.png"):
        image.load(tmp_path / "cut.png", 8)


def test_a_picture_of_colours_by_number_without_its_colours_is_named(tmp_path):
    write_png(tmp_path / "bare.png", (1, 1), 8, 3, b"\0")
    with pytest.raises(InputError, match="bare.png' cannot be read as a picture"):
        image.load(tmp_path / "bare.png")


def test_what_is_saved_is_loaded(tmp_path):
    picture = torch.rand(3, 5, 7)
    image.save(picture, tmp_path / "a.png")
    assert_close(image.load(tmp_path / "a.png"), picture, atol=0.5 / 255 + 1e-6, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="cannot be saved as .*a.png"):
        image.save(torch.zeros(3, 2, 2), tmp_path / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Ghostscript is a shell script")
def test_a_file_is_no_picture_by_its_name_alone_and_starts_no_program(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "photo.png", format="EPS")
    script = tmp_path / "bin" / "gs"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(InputError, match="photo.png' cannot be read as a picture"):
        image.load(tmp_path / "photo.png", 4)
    with pytest.raises(InputError, match="a member' cannot be read as a picture"):
        image.load(io.BytesIO((tmp_path / "photo.png").read_bytes()), name="a member")
    assert not (tmp_path / "started").exists()


def test_all_pictures_go_through_one_opener():
    root = Path(__file__).parents[1]
    files = [file for folder in ("aai", "nodes", "docs") for file in (root / folder).rglob("*.py")]
    opens = [f.name for f in files if re.search(r"\bImage\.open\(", f.read_text(encoding="utf-8"))]
    assert opens == ["image.py"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe.png' is no file, but a device or a pipe"):
        image.load(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("name", "says"), [("gone.png", "There is no file '{}'"), ("folder.png", "'{}' is a folder")]
)
def test_where_there_is_no_picture_is_said(tmp_path, name, says):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError) as caught:
        image.load(tmp_path / name)
    assert str(caught.value).startswith(says.format(tmp_path / name)) and "Errno" not in str(caught.value)


def test_what_pillow_reads_is_a_picture_by_its_ending():
    ours = image.suffixes()
    assert {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= ours
    assert (".avif" in ours) == features.check("avif")
    assert not {".eps", ".ps", ".pdf", ".wmf", ".h5", ".txt", ".mpg"} & ours


@pytest.mark.parametrize("ending", ["jfif", "jpe", "avif", "apng", "tiff"])
def test_a_picture_of_every_ending_is_read(tmp_path, ending):
    if f".{ending}" not in image.suffixes():
        pytest.skip(f"this Pillow reads no {ending}")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / f"a.{ending}")
    assert_close(
        image.load(tmp_path / f"a.{ending}", 2).mean((1, 2)), torch.tensor([1.0, 0, 0]), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("side", [13_000, 20_000])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, side, recwarn):
    # Pillow itself refuses the second, and nothing that is not asked for is written.
    picture = io.BytesIO()
    Image.new("1", (8, 8)).save(picture, format="PNG")
    head = b"IHDR" + struct.pack(">II", side, side) + picture.getvalue()[24:29]
    content = picture.getvalue()
    content = content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    (tmp_path / "vast.png").write_bytes(content)
    for size in (None, 8):
        with pytest.raises(InputError, match=r"vast.png' has .*pixels.*: save it smaller"):
            image.load(tmp_path / "vast.png", size)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory cannot be read here")
def test_a_small_square_of_a_large_jpeg_takes_little_memory(tmp_path):
    Image.linear_gradient("L").resize((8000, 6000)).convert("RGB").save(tmp_path / "large.jpg")
    code = (
        "import sys; from aai import image; import numpy, torch; from PIL import Image; Image.init()\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak(); picture = image.load(sys.argv[1], 64)\n"
        "print(peak() - before, picture[0, 0].mean().item(), picture[0, -1].mean().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "large.jpg")],
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[1],
        check=True,
    )
    megabytes, top, bottom = map(float, done.stdout.split())
    # 48 million pixels are 192 MB, and were twice that.
    assert megabytes < 60 and top < 0.02 and bottom > 0.98
