"""The parts of SoundWorld's recipe: what they are made of, and that each is made once."""

import pytest
import torch

from aai.audio import loudness, save
from aai.errors import InputError
from aai.soundworld.build.recipe import Build, Report, real_clips, synthetic_clips
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS


def test_a_part_is_made_once_and_read_back(tmp_path):
    build, made = Build(tmp_path / "work", None, 0.0, 0), []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"x": torch.arange(3)}

    for _ in range(2):
        assert build.keep("part", make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1 and [path.name for path in (tmp_path / "work").iterdir()] == ["part.pt"]


def test_a_part_that_was_stopped_leaves_nothing(tmp_path):
    build = Build(tmp_path, None, 0.0, 0)
    with pytest.raises(KeyboardInterrupt):
        build.keep("part", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not list(tmp_path.iterdir())


def test_synthesized_clips_take_the_events_in_turn():
    clips = synthetic_clips(3, seed=3)
    assert clips.fbanks.shape == (3, 512, 128) and torch.isfinite(clips.fbanks).all()
    assert clips.events.tolist() == [0, 1, 2]
    assert torch.equal(clips.fbanks[:1], synthetic_clips(1, seed=3).fbanks)
    assert not torch.equal(clips.fbanks[:1], synthetic_clips(1, seed=4).fbanks)


def save_ogg(path, sound):
    """A sound by its content, whatever its ending."""
    path.parent.mkdir(exist_ok=True)
    save(sound, path.with_suffix(".wav"))
    path.with_suffix(".wav").rename(path)


def test_recordings_are_those_of_the_folds_and_of_known_classes(tmp_path):
    for name in ("1-7-A", "2-7-A", "5-7-A"):
        save_ogg(tmp_path / "dog_bark" / f"{name}.ogg", synthesize("dog", 0.5, 1, 1.0))
    save_ogg(tmp_path / "chainsaw" / "1-8-A.ogg", synthesize("wind", 0.5, 1, 1.0))
    clips = real_clips(tmp_path, (1, 2))
    assert clips.events.tolist() == [EVENTS.index("dog")] * 2
    assert clips.loudness[0].item() == pytest.approx(loudness(synthesize("dog", 0.5, 1, 1.0)), abs=1)
    with pytest.raises(InputError, match="no recordings of folds"):
        real_clips(tmp_path, (4,))


def test_a_report_prints_one_line_in_so_many(capsys):
    report = Report()("unet", every=2)
    for step in range(4):
        report(step, 0.25, {"loss": 1.5})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("s  ")[1] for line in lines] == [f"unet {step}: 0.2500 loss 1.500" for step in (0, 2)]
