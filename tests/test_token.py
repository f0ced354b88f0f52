from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import unicodedata

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from aai import token
from aai.errors import InputError
from aai.prompt import Prompt
from aai.token import SoundToken, Translation


def two_encoders() -> SoundToken:
    f_a = torch.randn(768)
    vectors = {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}
    adapters = {k: torch.randn_like(v) for k, v in vectors.items()}
    return SoundToken(
        "rain", vectors, f_a, adapters, {"clip_l": 0.4, "clip_g": None}, -math.inf, {"sound": "Gewitter ⚡"}
    )


def test_a_file_gives_back_the_very_token(tmp_path, make_token):
    for held in (make_token(rows=3), two_encoders()):
        held.save(tmp_path / "t.safetensors")
        read = token.load(tmp_path / "t.safetensors")
        assert (read.name, read.loudness, read.scale, read.provenance) == (
            held.name,
            held.loudness,
            held.scale,
            held.provenance,
        )
        assert torch.equal(read.f_a, held.f_a)
        for key in held.vectors:
            assert torch.equal(read.vectors[key], held.vectors[key])
            assert torch.equal(read.f_adapter[key], held.f_adapter[key])
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_a_file_is_a_plain_embedding(tmp_path, make_token):
    one = make_token(rows=2, width=768)
    one.save(tmp_path / "one.safetensors")
    held = load_file(tmp_path / "one.safetensors")
    assert list(held) == ["<rain>"] and held["<rain>"].dtype == torch.float32
    assert torch.equal(held["<rain>"], one.vectors["clip_l"])
    two_encoders().save(tmp_path / "two.safetensors")
    assert set(load_file(tmp_path / "two.safetensors")) == {"clip_l", "clip_g"}


def test_vectors_are_saved_in_float32(tmp_path):
    SoundToken("x", {"clip_l": torch.randn(1, 768).half().requires_grad_()}).save(tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["<x>"].dtype == torch.float32


def test_another_sound_keeps_the_adapter(make_token):
    held = make_token(rows=2)
    other = torch.randn(32) * 7
    bound = held.with_sound(other, loudness=-12.0, provenance={"sound": "def"})
    expected = 0.11 * other / math.sqrt(sum(float(x) ** 2 for x in other)) + held.f_adapter["clip_l"]
    assert_close(bound.vectors["clip_l"], expected)
    assert torch.equal(bound.f_adapter["clip_l"], held.f_adapter["clip_l"]) and torch.equal(bound.f_a, other)
    assert bound.loudness == -12.0 and bound.provenance == {"adapter_sound": "abc", "sound": "def"}
    assert_close(held.with_sound(held.f_a).vectors["clip_l"], held.vectors["clip_l"], rtol=0, atol=0)


def test_another_sound_on_a_third_keeps_the_adapters_own(make_token):
    bound = make_token().with_sound(torch.ones(32), provenance={"sound": "b"}).with_sound(torch.ones(32))
    assert bound.provenance == {"adapter_sound": "abc"}


def test_raw_scale_adds_the_sound_as_it_is():
    adapter = torch.randn(1, 8)
    held = SoundToken("x", {"clip_l": adapter}, torch.zeros(8), {"clip_l": adapter}, {"clip_l": None})
    sound = torch.randn(8) * 28
    assert torch.equal(held.with_sound(sound).vectors["clip_l"], sound + adapter)
    # One of a sound at length one takes others so, whatever their own.
    unit = dataclasses.replace(held, f_a=torch.eye(8)[0]).with_sound(11.9 * sound)
    assert_close(unit.vectors["clip_l"], sound / sound.norm() + adapter)


def test_a_sound_of_another_width_is_refused(make_token):
    with pytest.raises(InputError, match="512 numbers.*32"):
        make_token().with_sound(torch.randn(512))


def test_a_token_tells_where_it_comes_from(make_token):
    said = make_token().describe().splitlines()
    assert {"name: rain", "sound: abc", "vectors: clip_l 1 x 32", "loudness: -23.0 LUFS"} <= set(said)
    assert said[-1].startswith("cos(e, f_a) in clip_l: ")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    save_file({"<x>": torch.full((1, 768), math.nan)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="not finite"):
        token.load(tmp_path / "x.safetensors")


def test_cosine_of_word_and_sound(make_token):
    held = make_token(rows=2)
    e, f = held.vectors["clip_l"].tolist(), held.f_a.tolist()
    expected = [sum(x * y for x, y in zip(row, f)) / math.hypot(*row) / math.hypot(*f) for row in e]
    assert held.cosine()["clip_l"] == pytest.approx(sum(expected) / 2, abs=1e-5)


def test_our_token_keeps_its_name_under_another_files(tmp_path, make_token):
    make_token("rain").save(tmp_path / "copy (1).safetensors")
    assert token.load(tmp_path / "copy (1).safetensors").name == "rain"


def test_damaged_files_are_refused(tmp_path, make_token):
    make_token().save(tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "part.safetensors"
    for cut in (0, 4, 200, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"'part\.safetensors'.*damaged"):
            token.load(path)
    path.write_text("no embedding at all, just words", encoding="utf-8")
    with pytest.raises(InputError, match=r"'part\.safetensors'"):
        token.load(path)
    with pytest.raises(InputError, match="There is no sound token"):
        token.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(InputError, match="There is no sound token"):
        token.load(tmp_path)


@pytest.mark.parametrize(
    "key, value",
    [
        ("name", "../../x"),
        ("encoders", ["clip_x"]),
        ("f_a", {"shape": [9], "float32": "AAAA"}),
        ("f_a", {"shape": [9], "float32": "AAAAAA=="}),
        ("scale", 3),
        ("scale", {}),
        ("scale", {"clip_l": "nan"}),
        ("loudness", "nan"),
        ("loudness", "inf"),
        ("f_a", {"shape": [1], "float32": "AADAfw=="}),
        ("f_a", {"shape": [1, 1], "float32": "AACAPw=="}),
        ("f_adapter", {"clip_l": {"shape": [1, 1], "float32": "AACAPw=="}}),
        ("f_adapter", {"clip_g": {"shape": [1, 1], "float32": "AACAPw=="}}),
        ("provenance", {"steps": "many"}),
        ("provenance", {"steps": "-3"}),
        ("provenance", {"steps": 3}),
        ("provenance", {"steps": "9" * 5000}),
        ("provenance", ["steps"]),
        ("measured", {"best": "nan"}),
        ("momentum", {"first": {"shape": [1], "float32": "AADAfw=="}}),
        ("name", 3),
        ("encoders", "clip_l"),
    ],
)
def test_changed_metadata_is_refused(tmp_path, make_token, key, value):
    make_token().save(tmp_path / "a.safetensors")
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        notes = json.loads(file.metadata()[token.METADATA])
    save_file(
        load_file(tmp_path / "a.safetensors"),
        tmp_path / "b.safetensors",
        {token.METADATA: json.dumps({**notes, key: value})},
    )
    with pytest.raises(InputError):
        token.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        *[("mean_in", (5,)), ("mean_in", (1, 6)), ("mean_out", (1,)), ("down", (3, 6)), ("down", ())],
        *[("down", (2, 5)), ("up", (8, 3)), ("up", (7, 2)), ("up", (8,))],
    ],
)
def test_a_translation_that_does_not_fit_is_refused(tmp_path, part, shape):
    shapes = {"mean_in": (6,), "mean_out": (8,), "down": (2, 6), "up": (8, 2)}
    path, rows = tmp_path / "a.safetensors", {"t5xxl": torch.ones(1, 8)}

    def save(shapes):
        parts = {name: torch.ones(size).half() for name, size in shapes.items()}
        maps = {"t5xxl": Translation(**parts)}
        SoundToken("rain", rows, torch.ones(6), rows, {"t5xxl": 1.0}, translation=maps).save(path)

    save(shapes)
    assert "cos(e, f_a) in t5xxl" in token.load(path).describe()
    save({**shapes, part: shape})
    with pytest.raises(InputError, match=r"'a\.safetensors' is no whole sound token.*translation of t5xxl"):
        token.load(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1])
def test_our_own_vectors_are_checked_as_others_are(tmp_path, make_token, value):
    make_token().save(tmp_path / "a.safetensors")
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        metadata = file.metadata()
    save_file({"<rain>": torch.full((1, 32), value)}, tmp_path / "b.safetensors", metadata)
    with pytest.raises(InputError, match=r"'b\.safetensors' is no whole sound token.*no numbers of a word"):
        token.load(tmp_path / "b.safetensors")


def test_a_full_disk_leaves_what_was_there(tmp_path, make_token):
    path = tmp_path / "t.safetensors"
    make_token("first").save(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be saved.*free space"):
            make_token("second").save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["t.safetensors"] and token.load(path).name == "first"
    with pytest.raises(InputError, match="cannot be saved"):
        make_token().save(tmp_path / "no" / "folder" / "t.safetensors")


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "<rain>", "*", "a\nb", "x" * 101, " ", "-rain", "ि", "a-\u200d"]
)
def test_names_that_no_prompt_or_file_can_hold_are_refused(name):
    with pytest.raises(InputError, match="cannot name a sound token"):
        SoundToken(name, {"clip_l": torch.randn(1, 8)})


@pytest.mark.parametrize(
    "vectors",
    [
        {},
        {"words": torch.randn(1, 8)},
        {"clip_l_out": torch.randn(1, 8)},
        {"clip_l": torch.randn(8)},
        {"clip_l": torch.randn(2, 8), "clip_g": torch.randn(1, 8)},
    ],
)
def test_vectors_of_other_shapes_are_refused(vectors):
    with pytest.raises(InputError, match="'x' needs"):
        SoundToken("x", vectors)


@pytest.mark.parametrize("name", ["rain ", " rain", "cafe\u0301 noir", "rain\u00a0"])
def test_a_name_is_what_a_prompt_can_say(tmp_path, name):
    """Also of a file that an older version wrote, which kept what was typed."""
    made = SoundToken(name, {"clip_l": torch.randn(1, 8)})
    assert made.name == unicodedata.normalize("NFC", name).strip()
    assert Prompt(f"a <{name}>", (made,)).used() == Prompt(f"a < {made.name} >", (made,)).used() == [made]
    object.__setattr__(made, "name", name)
    made.save(tmp_path / "old.safetensors")
    read = token.load(tmp_path / "old.safetensors")
    assert read.name == SoundToken(name, made.vectors).name
    assert Prompt(f"a <{name}>", (read,)).used() == [read]
