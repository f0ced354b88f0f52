"""The comparison with words and textual inversion, stopped and resumed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aai import image
from aai.encoders.gluenet import GlueNet, GlueNetTower
from aai.errors import InputError
from aai.picture.model import Conditioning
from aai.prompt import Prompt
from aai.study import compare


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


def test_gluenets_pictures_are_a_row_beside_ours(setting, encoder, tmp_path, brief):
    arguments = dict(seeds=1, count=1, k=2, settings=brief)
    torch.manual_seed(0)
    gluenet = GlueNet(GlueNetTower(32, 32), encoder)
    plain = compare.run(setting, tmp_path / "plain", **arguments)
    done = compare.run(setting, tmp_path / "with", **arguments, gluenet=gluenet)
    assert {row["condition"] for row in done["figures"]} == {*compare.CONDITIONS, compare.GLUENET}
    own = [row for row in done["figures"] if row["condition"] != compare.GLUENET]
    assert own == plain["figures"]
    drawn = {path.name: path for path in (tmp_path / "with" / "cells").glob("*gluenet*.png")}
    assert len(drawn) == 2
    # The picture of its states, as the model draws it.
    subject = setting.subjects[0]
    cond = Conditioning(gluenet.states([subject.sound]))
    uncond = setting.model.encode_prompt(Prompt(""))
    latents = setting.model.sample(cond, uncond, seeds=[0], steps=2, guidance=setting.guidance)
    (path,) = [path for name, path in drawn.items() if name.startswith(subject.label)]
    expected = setting.model.decode(latents).clamp(0, 1)[0]
    torch.testing.assert_close(image.load(path), expected, atol=1 / 255, rtol=0)
    with pytest.raises(InputError, match="another gluenet"):
        compare.run(setting, tmp_path / "with", **arguments, gluenet=GlueNet(GlueNetTower(32, 32), encoder))


def test_gluenet_of_another_width_is_refused(setting, encoder, tmp_path):
    with pytest.raises(
        InputError, match="states have 16 numbers a word.* words 32: give a Stable Diffusion 1"
    ):
        compare.run(setting, tmp_path, gluenet=GlueNet(GlueNetTower(32, 16), encoder))
    assert not list(tmp_path.iterdir())
