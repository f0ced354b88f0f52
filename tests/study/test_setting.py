"""A user's own world: its sounds, pictures and measures, and what tells it from another."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image
from torch.testing import assert_close

from aai import audio
from aai.errors import InputError
from aai.study.setting import folder_setting, sounds_of_classes


def test_other_sounds_and_other_pictures_are_other_data(setting, encoder, folders, tmp_path):
    shutil.copytree(folders, tmp_path / "world")

    def data(**chosen):
        sounds, pictures = tmp_path / "world" / "sounds", tmp_path / "world" / "pictures"
        return folder_setting(setting.model, encoder, sounds, pictures, **chosen).data

    assert data() == data(classes=["rain"]) == setting.data
    audio.save(audio.load(folders / "sounds" / "rain" / "rain2.wav").cut(0.1), tmp_path / "rain2.wav")
    shutil.move(tmp_path / "rain2.wav", tmp_path / "world" / "sounds" / "rain" / "rain2.wav")
    heard = data()
    Image.new("RGB", (24, 30)).save(tmp_path / "world" / "pictures" / "5.png")
    assert len({setting.data, heard, data()}) == 3


def test_sounds_of_one_name_have_their_own_classs_frames(setting, encoder, folders, tmp_path):
    for name, colour in (("rain", "blue"), ("dog", "red")):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        shutil.copy(folders / "sounds" / name / f"{name}1.wav", tmp_path / "sounds" / name / "1.wav")
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / name / "1.png")
        Image.new("RGB", (8, 8), "green").save(tmp_path / "pictures" / name / "2.png")
    made = folder_setting(setting.model, encoder, tmp_path / "sounds", tmp_path / "pictures")
    dog, rain = made.subjects
    assert dog.frame[0].mean() == 1 and rain.frame[2].mean() == 1 and rain.frame[0].mean() == 0
    # The other class's picture of that name may be a reference.
    shown = made.references(rain, 3, 0).mean((2, 3))
    assert (shown[:, 0] == 1).sum() == 1 and not (shown[:, 2] == 1).any()
    with pytest.raises(InputError, match="too few"):
        made.references(rain, 4, 0)


def test_own_folders_are_read(setting, folders, encoder):
    assert [s.label for s in setting.subjects] == ["dog", "rain"]
    dog, rain = setting.subjects
    assert dog.frame.shape == (3, 224, 224) and rain.frame is not None and rain.mate is not None
    assert {m.name for j in setting.scorers for m in j.measures} == {
        "AIS (own encoder)", "AIC (own encoder)", "IIS (own encoder)"
    }  # fmt: skip
    assert setting.references(rain, 13, 0).shape == (13, 3, 16, 16)
    assert_close(setting.references(rain, 2, 1), setting.references(rain, 3, 0)[1:])
    with pytest.raises(InputError, match="too few"):
        setting.references(rain, 14, 0)
    make = dict(model=setting.model, encoder=encoder, pictures=folders / "pictures")
    with pytest.raises(InputError, match="no class 'cat'"):
        folder_setting(sounds=folders / "sounds", classes=["cat"], **make)
    with pytest.raises(InputError, match="holds sounds"):
        folder_setting(sounds=folders / "pictures", **make)
    with pytest.raises(InputError, match="no folder of sounds"):
        folder_setting(sounds=folders / "nowhere", **make)


def test_splits_are_no_classes_of_a_study(folders, tmp_path):
    for split, name in (("train", "rain1"), ("test", "rain2"), ("train", "dog1")):
        group = tmp_path / split / name[:-1]
        group.mkdir(parents=True, exist_ok=True)
        shutil.copy(folders / "sounds" / name[:-1] / f"{name}.wav", group)
    sounds = sounds_of_classes(tmp_path)
    assert {label: [path.name for path in paths] for label, paths in sounds.items()} == {
        "rain": ["rain2.wav", "rain1.wav"],
        "dog": ["dog1.wav"],
    }
