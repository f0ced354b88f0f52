"""The comparison with words and textual inversion, stopped and resumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aai.errors import InputError
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
