"""Embeddings of others: every layout that is read, and what is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aai import embedding, token
from aai.errors import InputError
from aai.prompt import Prompt
from aai.token import SoundToken


@pytest.mark.parametrize(
    ("state", "rows"),
    [
        ({"<cat-toy>": torch.randn(3, 768)}, {"clip_l": 3}),
        ({"<cat-toy>": torch.randn(1024)}, {"clip_h": 1}),
        ({"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}, {"clip_l": 2, "clip_g": 2}),
        ({"../../x": torch.randn(1, 768)}, {"clip_l": 1}),
        ({"emb_params": torch.randn(1, 768).half()}, {"clip_l": 1}),
        ({"t5xxl": torch.randn(2, 4096), "clip_l": torch.randn(2, 768)}, {"clip_l": 2, "t5xxl": 2}),
        ({"t5xxl": torch.randn(2, 4096), "t5xxl_out": torch.randn(2, 4096)}, {"t5xxl": 2}),
        ({"<cat-toy>": torch.randn(3, 2560)}, {"qwen3_4b": 3}),
        (
            {
                f"clip_{k}{end}": torch.randn(2, width).half()
                for k, width in (("l", 768), ("g", 1280))
                for end in ("", "_out")
            },
            {"clip_l": 2, "clip_g": 2},
        ),
        (
            {
                **{f"lora_unet_{i}.weight": torch.randn(3) for i in range(9)},
                "bundle_emb.style.clip_l": torch.randn(2, 768),
                "bundle_emb.style.clip_g": torch.randn(2, 1280),
            },
            {"clip_l": 2, "clip_g": 2},
        ),
        (
            {
                **{f"lora_unet_{i}.weight": torch.randn(3) for i in range(9)},
                "bundle_emb.style.string_to_param.*": torch.randn(3, 768),
            },
            {"clip_l": 3},
        ),
    ],
)
def test_others_safetensors_embeddings(tmp_path, state, rows):
    path = tmp_path / "my file(1).safetensors"
    save_file(state, path)
    read = token.load(path)
    assert {k: len(v) for k, v in read.vectors.items()} == rows and read.name == "my-file-1"
    expected = {v.shape[-1]: v.float().reshape(-1, v.shape[-1]) for v in reversed(state.values())}
    for vectors in read.vectors.values():
        assert torch.equal(vectors, expected[vectors.shape[1]])
    assert read.f_a is None and read.cosine() == {}
    with pytest.raises(InputError, match="plain embedding"):
        read.with_sound(torch.randn(768))


def test_two_embeddings_that_call_themselves_alike_stand_in_one_prompt(tmp_path):
    for name in ("MyStyle", "MyNegative"):
        save_file({"emb_params": torch.randn(1, 768)}, tmp_path / f"{name}.safetensors")
    style, negative = (token.load(tmp_path / f"{name}.safetensors") for name in ("MyStyle", "MyNegative"))
    prompt = Prompt("<MyStyle> without <MyNegative>", (negative, style))
    assert prompt.used() == [style, negative]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("thunder", "thunder"),
        ("thunder (1)", "thunder-1"),
        ("Thunder Storm [a1B2c3D4e5F]", "Thunder-Storm-a1B2c3D4e5F"),
        ("rock & roll", "rock-roll"),
        ("the dog's, bark", "the-dog-s-bark"),
        ("v1.2 final", "v1.2 final"),
        ("...", "sound"),
        ("⛈️🌩️", "sound"),
        ("雷 storm", "雷 storm"),
        ("雷（大）", "雷-大"),
        ("Cafe\u0301", "Café"),
        ("caf\udce9", "caf"),
        (" rain ", "rain"),
        ("x" * 300, "x" * 100),
        ("बारिश", "बारिश"),
        ("ฟ้าผ่า (2)", "ฟ้าผ่า-2"),
        ("மழை & காற்று", "மழை-காற்று"),
        ("رعد\u200cوبرق", "رعد\u200cوبرق"),
        ("ගං\u200dවතුර!", "ගං\u200dවතුර"),
        (".\u0301x.\u0301(x)", "x.-x"),
        ("⛈\ufe0f rain ⛈\ufe0f", "rain"),
        ("ि", "sound"),
    ],
)
def test_a_files_name_becomes_a_tokens(text, name):
    assert embedding.name_of(text, "sound") == name
    assert SoundToken(name, {"clip_l": torch.randn(1, 8)}).name == name


@pytest.mark.parametrize("name", ["बारिश", "ฟ้าผ่า", "மழை", "বৃষ্টি", "رعد\u200cوبرق"])
def test_a_name_of_any_script_goes_from_file_to_prompt(tmp_path, name):
    file = tmp_path / f"{embedding.name_of(name)}.safetensors"
    SoundToken(name, {"clip_l": torch.randn(1, 768)}).save(file)
    save_file({"emb_params": torch.randn(1, 768)}, tmp_path / f"{name} 2.safetensors")
    ours, foreign = token.load(file), token.load(tmp_path / f"{name} 2.safetensors")
    assert (file.stem, ours.name, foreign.name) == (name, name, f"{name} 2")
    prompt = Prompt(f"a <{name}> under <{name} 2>, *", (ours, foreign))
    assert prompt.pieces() == ["a ", ours, " under ", foreign, ", ", ours]


def test_a1111_embeddings(tmp_path):
    rows = torch.randn(4, 768)
    state = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(rows)},
        "name": "thunder",
        "step": 3,
    }
    torch.save(state, tmp_path / "storm.pt")
    read = token.load(tmp_path / "storm.pt")
    assert read.name == "storm" and torch.equal(read.vectors["clip_l"], rows)


@pytest.mark.parametrize("ending", ["pt", "PT", "pth", "bin", "ckpt", "pkl"])
@pytest.mark.parametrize("kind", ["plain", "parameter", "list", "parameters", "views", "legacy"])
def test_every_pickle_that_core_reads(tmp_path, ending, kind):
    rows = torch.randn(3, 768)
    held = {
        "plain": {"<old>": rows},
        "parameter": {"<old>": torch.nn.Parameter(rows)},
        "list": [{"a": rows[:1]}, {"b": rows[1], "c": rows[2]}],
        "parameters": {"string_to_token": {"*": torch.tensor(265)},
                       "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(rows)})},
        "views": {"<old>": torch.cat([rows, rows]).T.contiguous().T[:3]},
        "legacy": {"<old>": rows},
    }[kind]  # fmt: skip
    path = tmp_path / f"style.{ending}"
    torch.save(held, path, _use_new_zipfile_serialization=kind != "legacy")
    read = token.load(path)
    assert read.name == "style" and torch.equal(read.vectors["clip_l"], rows)


def test_rows_that_lie_on_one_another_are_refused_before_they_are_copied(tmp_path):
    torch.save({"x": torch.zeros(1).expand(400_000, 768)}, tmp_path / "zeros.pt")
    assert (tmp_path / "zeros.pt").stat().st_size < 2000
    with pytest.raises(InputError, match=r"'zeros\.pt' is no textual-inversion embedding"):
        token.load(tmp_path / "zeros.pt")


def test_a_packed_pickle_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"x": torch.zeros(20_000, 768)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for part in plain.infolist():
            bomb.writestr(part.filename, plain.read(part))
    with pytest.raises(InputError, match=r"'bomb\.pt' holds 59 MB"):
        token.load(tmp_path / "bomb.pt")


def test_an_old_torch_opens_no_pickle(tmp_path, monkeypatch):
    torch.save({"x": torch.zeros(1, 768)}, tmp_path / "x.pt")
    for version, refused in (("2.5.1+cu121", True), ("2.4.0", True), ("2.6.0", False), ("2.10.0", False)):
        monkeypatch.setattr(torch, "__version__", version)
        if refused:
            with pytest.raises(InputError, match=r"'x\.pt' is a pickle.*2\.6 or newer"):
                token.load(tmp_path / "x.pt")
        else:
            assert token.load(tmp_path / "x.pt").size == 1


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["evil.pt", "evil.bin", "evil.ckpt", "evil.pth", "evil.safetensors"])
def test_a_pickle_is_never_executed(tmp_path, name):
    path = tmp_path / name
    torch.save({"string_to_param": {"*": Touch(tmp_path / "executed")}}, path)
    with pytest.raises(InputError, match=name):
        token.load(path)
    path.write_bytes(pickle.dumps(Touch(tmp_path / "executed")))
    with pytest.raises(InputError, match=name):
        token.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.randn(1, 768), "b": torch.randn(1, 768)},
        {"a": torch.randn(1, 2, 768)},
        {"a": torch.zeros(3, 768, dtype=torch.int64)},
        {"clip_l_out": torch.randn(1, 768), "clip_g_out": torch.randn(1, 1280)},
        {f"layer.{i}": torch.randn(2, 2) for i in range(9)},
    ],
)
def test_files_that_are_no_embedding_are_refused(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"'model\.safetensors'.*choose"):
        token.load(tmp_path / "model.safetensors")
