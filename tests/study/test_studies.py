"""The three studies from end to end, and that they go on where they were."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from aai import audio
from aai.encoders.cavmae import CAVMAE
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel
from aai.study import ablation, adapter, compare
from aai.study.results import Results, draw, sound_token, textual_inversion
from aai.study.setting import folder_setting, sounds_of_classes


def sheet_size(folder, name="sheet.png"):
    with Image.open(folder / name) as sheet:
        return sheet.size


def test_references_by_steps(setting, tmp_path, brief):
    told = []
    report = ablation.run(
        setting, tmp_path, seeds=2, steps=(3, 1), references=(1, 2), count=2, settings=brief,
        tick=told.append,
    )  # fmt: skip
    assert len(told) == 2 * 2 * 2 * 2
    cells = Results(tmp_path, json.loads((tmp_path / "cells" / "settings.json").read_text(encoding="utf-8")))
    cell = cells.get("2 references, 3 steps", setting.subjects[0], 1)
    assert cell.pictures.shape == (2, 3, 16, 16) and cell.seed == 1
    # The snapshot after 3 steps is the token of a training of 3.
    pictures = setting.references(setting.subjects[0], 2, 0)
    token = sound_token(setting, setting.subjects[0].f_a, pictures, replace(brief, steps=3, seed=1))[3]
    again = draw(setting, "a photo of *", [token], 1, 2)
    assert_close(cell.pictures, again, atol=0.5 / 255 + 1e-6, rtol=0)
    names = {row["condition"] for row in report["figures"]}
    assert names == {f"{k}, {s} steps" for k in ("1 reference", "2 references") for s in (1, 3)}
    assert all(row["count"] == 8 and row["low"] <= row["value"] <= row["high"] for row in report["figures"])
    assert sheet_size(tmp_path, "sheet_rain.png") and sheet_size(tmp_path, "plot_ais__own_encoder.png")
    assert "| 1 reference, 3 steps |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_stopped_study_goes_on(setting, tmp_path, brief, monkeypatch):
    arguments = dict(seeds=1, count=1, k=2, settings=brief)

    def stop(name):
        if name == "dog, textual inversion, seed 0":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare.run(setting, tmp_path, **arguments, tick=stop)
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.json")}
    trained = []
    real = compare.sound_token
    monkeypatch.setattr(compare, "sound_token", lambda *a: trained.append(1) or real(*a))
    whole = compare.run(setting, tmp_path, **arguments)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())
    assert len(trained) == 1 and {row["condition"] for row in whole["figures"]} == set(compare.CONDITIONS)
    assert compare.run(setting, tmp_path, **arguments) == whole and len(trained) == 1
    with pytest.raises(InputError, match="another batch"):
        compare.run(setting, tmp_path, **{**arguments, "settings": replace(brief, batch=2)})
    with pytest.raises(InputError, match="another measures"):
        compare.run(replace(setting, scorers=()), tmp_path, **arguments)


def test_a_study_goes_on_with_the_same_models_and_judges_alone(setting, encoder, make_parts, tmp_path, brief):
    Results(tmp_path, ablation.about(setting, brief))
    Results(tmp_path, ablation.about(replace(setting, subjects=setting.subjects[:1]), brief))
    torch.manual_seed(1)
    model = CAVMAE(encoder.model.config).eval().requires_grad_(False)
    other = CAVMAEEncoder(model, encoder.labels, encoder.label_vectors, name=encoder.name)
    for name, changed in (
        ("model", replace(setting, model=DiffusersPictureModel(**vars(make_parts(seed=1))))),
        ("encoder", replace(setting, encoder=other)),
        ("measures", replace(setting, scorers=())),
        ("data", replace(setting, data="others")),
    ):
        with pytest.raises(InputError, match=f"another {name} "):
            Results(tmp_path, ablation.about(changed, brief))


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


def test_the_adapter_study_takes_every_part_away(setting, tmp_path, brief):
    report = adapter.run(setting, tmp_path, seeds=1, count=1, k=2, settings=brief)
    assert {row["condition"] for row in report["figures"]} == set(adapter.CONDITIONS)
    assert [row["better"] for row in report["comparisons"]].count(adapter.MATE)
    assert (tmp_path / "report.md").is_file() and sheet_size(tmp_path)[0] > 500
    # A class of one sound has no class-mate.
    alone = replace(setting, subjects=[replace(setting.subjects[0], mate=None)])
    report = adapter.run(alone, tmp_path / "alone", seeds=1, count=1, k=2, settings=brief)
    missing = {adapter.MATE, adapter.STRANGER}
    assert {row["condition"] for row in report["figures"]} == set(adapter.CONDITIONS) - missing


def test_sounds_of_two_classes_may_have_one_name(folders, encoder, picture_model, tmp_path, brief):
    for name in ("rain", "dog"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        shutil.copy(folders / "sounds" / name / f"{name}1.wav", tmp_path / "sounds" / name / "1.wav")
    made = folder_setting(picture_model, encoder, tmp_path / "sounds", folders / "pictures")
    made = replace(made, sampling_steps=2)
    adapter.run(made, tmp_path / "out", seeds=1, count=1, k=2, settings=brief)
    cells = tmp_path / "out" / "cells"
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in cells.glob("*-*.json")]
    # A class of one sound has no class-mate.
    drawn = set(adapter.CONDITIONS) - {adapter.MATE}
    assert {(n["subject"], n["condition"]) for n in notes} == {(s, c) for s in ("dog", "rain") for c in drawn}
    held = Results(tmp_path / "out", json.loads((cells / "settings.json").read_text(encoding="utf-8")))
    for subject in made.subjects:
        own, stranger = (held.get(name, subject, 0).pictures for name in (adapter.OURS, adapter.STRANGER))
        assert not torch.equal(own, stranger)


def test_labels_that_look_alike_have_cells_of_their_own(setting, tmp_path):
    cells, blind = Results(tmp_path, {}), replace(setting, scorers=())
    labels = ("heavy rain", "heavy-rain", "Heavy rain")
    subjects = [replace(setting.subjects[0], label=label) for label in labels]
    for number, subject in enumerate(subjects):
        cells.put("ours", subject, 0, torch.full((1, 3, 4, 4), number / 255), blind)
    for number, subject in enumerate(subjects):
        assert_close(cells.get("ours", subject, 0).pictures, torch.full((1, 3, 4, 4), number / 255))


def test_textual_inversion_has_no_sound_in_it(setting, brief):
    subject = setting.subjects[0]
    pictures = setting.references(subject, 2, 0)
    one = textual_inversion(setting, subject.f_a, pictures, brief)
    other = textual_inversion(setting, torch.randn(32), pictures, brief)
    assert_close(one.vectors["clip_l"], other.vectors["clip_l"], atol=1e-5, rtol=0)
    assert one.f_a is None and not one.f_adapter
    ours = sound_token(setting, subject.f_a, pictures, brief)[2]
    s = ours.scale["clip_l"]
    assert_close(
        ours.vectors["clip_l"] - ours.f_adapter["clip_l"], s * subject.f_a[None] / subject.f_a.norm()
    )


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
