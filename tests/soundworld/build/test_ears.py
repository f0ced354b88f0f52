"""What SoundWorld's encoder is trained on, and that its build is made once."""

import pytest
import torch

from aai.audio import loudness, save
from aai.encoders.loaders import load
from aai.errors import InputError
from aai.soundworld.build import ears
from aai.soundworld.build.clips import OUTSIDE
from aai.soundworld.build.recipe import Report
from aai.soundworld.pictures import draw_all, random_scenes
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS


def save_ogg(path, sound):
    """A sound by its content, whatever its ending."""
    path.parent.mkdir(exist_ok=True, parents=True)
    save(sound, path.with_suffix(".wav"))
    path.with_suffix(".wav").rename(path)


def test_synthesized_clips_take_events_and_kinds_in_turn():
    clips = ears.synthesized(3, 2)
    assert [clip.event for clip in clips] == [0, 1, 2, OUTSIDE, OUTSIDE]
    assert [clip.group for clip in clips][2:] == ["synthesized", "speech", "cry"]
    assert torch.equal(clips[0].energies, ears.synthesized(1, 0)[0].energies)


def test_recordings_are_those_of_the_folds_and_of_known_classes(tmp_path):
    for name in ("1-7-A", "2-7-A", "5-7-A"):
        save_ogg(tmp_path / "dog_bark" / f"{name}.ogg", synthesize("dog", 0.5, 1, 1.0))
    save_ogg(tmp_path / "chainsaw" / "1-8-A.ogg", synthesize("wind", 0.5, 1, 1.0))
    clips = ears.recorded(tmp_path, (1, 2))
    assert [clip.event for clip in clips] == [EVENTS.index("dog")] * 2
    assert clips[0].loudness == pytest.approx(loudness(synthesize("dog", 0.5, 1, 1.0)), abs=1)
    with pytest.raises(InputError, match="no recordings of folds"):
        ears.recorded(tmp_path, (4,))


def test_recordings_of_packages_are_events_or_strangers(tmp_path):
    save_ogg(tmp_path / "a" / "woof.ogg", synthesize("dog", 0.5, 1, 1.0))
    save_ogg(tmp_path / "a" / "cow.ogg", synthesize("wind", 0.5, 1, 1.0))
    (tmp_path / "recordings.csv").write_text(
        "package,path,kind\na,a/woof.ogg,dog\na,a/cow.ogg,animal\n", encoding="utf-8"
    )
    clips = ears.of_packages(tmp_path)
    assert [clip.event for clip in clips] == [EVENTS.index("dog"), OUTSIDE]
    assert [clip.group for clip in clips] == ["dog", "a, animal"]
    with pytest.raises(InputError, match="bring them with"):
        ears.of_packages(tmp_path / "nowhere")


def test_the_build_makes_an_encoder_that_knows(tmp_path, caption_encoder, monkeypatch):
    """Every part at its smallest: two steps, few sounds."""
    monkeypatch.setattr(ears, "PRETRAINING", ears.Round(2, 1e-3, (8, 8)))
    monkeypatch.setattr(ears, "TUNING", ears.Round(1, 1e-3, (8, 8)))
    monkeypatch.setattr(ears, "synthesized", lambda make=ears.synthesized: make(10, 2))
    monkeypatch.setattr(ears, "train_visual", lambda *arguments, **options: None)
    recordings = tmp_path / "esc10"
    for fold in ears.FOLDS:
        save_ogg(recordings / "dog_bark" / f"{fold}-1-A.ogg", synthesize("dog", 0.5, fold, 1.0))
    scenes = random_scenes(60, 1)
    monkeypatch.setattr(ears, "PICTURES", 60)
    monkeypatch.setattr(ears, "SYNTHESIZED_TO_CALIBRATE", 1)
    made = ears.SoundEncoderBuild(
        tmp_path, ears.Sources(recordings), caption_encoder, scenes, draw_all(scenes), 0, Report()
    )
    # A label without a picture has none to be brought to.
    everything = torch.arange(50)
    torch.save(
        {"text": made.targets().text, "visual": torch.randn(50, 192), "visual_labels": everything},
        tmp_path / "targets.pt",
    )
    made.export(tmp_path / "sound_encoder.safetensors")
    encoder = load(tmp_path / "sound_encoder.safetensors")
    assert encoder.padding == "none" and 0 <= encoder.known.threshold <= 1
    key = "norm_a.weight"
    parts = [
        torch.load(tmp_path / f"ears_{folds}.pt")[f"model.{key}"] for folds in (1234, 123, 124, 134, 234)
    ]
    torch.testing.assert_close(encoder.model.state_dict()[key], torch.stack(parts).mean(0), atol=2e-3, rtol=0)
    left_out = load(tmp_path / "without_fold_3.safetensors")
    assert left_out.known.threshold == encoder.known.threshold
    assert {path.name for path in tmp_path.glob("ears*.pt")} == {
        *("ears.pt", "ears_1234.pt", "ears_123.pt", "ears_124.pt", "ears_134.pt", "ears_234.pt")
    }
