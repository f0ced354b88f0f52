"""What only Windows shows, as far as another system can tell."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aai import files
from aai.align import checkpoint
from aai.encoders import loaders
from aai.files import is_reserved
from aai.inject import invert
from aai.library.index import index
from aai.library.towers import OwnTower
from aai.soundworld import pictures
from aai.soundworld.loaders import WEIGHTS, load_sound_encoder
from aai.token import load as load_token

MAPS = Path("/proc/self/maps")


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        *[("con", True), ("NUL.safetensors", True), ("nul .wav", True), ("com1.a.b", True), ("LPT³", True)],
        *[("ends.", True), ("ends ", True), ("console", False), ("com10", False), ("a.nul", False)],
        *[("rain.safetensors", False), (".hidden", False), ("com", False)],
    ],
)
def test_reserved_names(name, reserved):
    assert is_reserved(name) is reserved


def trajectory(folder: Path) -> Path:
    trajectory = invert.Trajectory(torch.tensor([4.0, 0.0]), torch.randn(2, 4, 8, 8))
    trajectory.save(folder / "way.safetensors", "a photo")
    return folder / "way.safetensors"


def state(folder: Path) -> Path:
    facts = {"settings": {}, "about": "", "best": None}
    tensors = {
        "adam.0.exp_avg": torch.randn(64, 64),
        "curve": torch.zeros(0, len(checkpoint.FIGURES)),
        "f_t": torch.zeros(1, 2),
        "tau": torch.tensor(0.05),
        "generator": torch.Generator().get_state(),
    }
    metadata = {"format": checkpoint.FORMAT, "facts": json.dumps(facts)}
    save_file(tensors, folder / "state.safetensors", metadata)
    return folder / "state.safetensors"


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list what a process has mapped")
@pytest.mark.parametrize(
    ("make", "load"),
    [
        (trajectory, invert.load),
        (state, checkpoint.read),
        (lambda folder: WEIGHTS / "sound_encoder.safetensors", loaders.load),
    ],
    ids=["trajectory", "training state", "encoder"],
)
def test_what_was_loaded_does_not_hold_its_file(tmp_path, make, load):
    """Windows replaces and deletes no file that is mapped."""
    file = make(tmp_path)
    held = load(file)
    assert str(file) not in MAPS.read_text(encoding="utf-8")
    del held


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list what a process has mapped")
def test_a_loaded_token_does_not_hold_its_file(tmp_path, make_token):
    make_token("rain").save(tmp_path / "rain.safetensors")
    held = load_token(tmp_path / "rain.safetensors")
    assert str(tmp_path / "rain.safetensors") not in MAPS.read_text(encoding="utf-8")
    assert held.name == "rain"


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not list what a process has mapped")
def test_a_library_does_not_hold_its_index(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPLACES_MAPPED", False)
    tower = OwnTower(load_sound_encoder())
    for name in ("red", "blue"):
        Image.new("RGB", (32, 32), name).save(tmp_path / f"{name}.png")
    held = index(tmp_path, tower)
    assert held.file is not None and held.file.is_file()
    assert str(held.file) not in MAPS.read_text(encoding="utf-8")


def test_pictures_are_drawn_by_other_processes_without_fork(monkeypatch):
    scenes = pictures.random_scenes(2, seed=1)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    drawn = pictures.draw_all(scenes, workers=2)
    assert torch.equal(drawn, pictures.draw_all(scenes, workers=1))
