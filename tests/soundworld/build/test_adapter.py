"""SoundWorld's universal adapter: what it is trained on, and that it is made, kept and found again."""

from __future__ import annotations

import pytest
import torch

from aai.adapt.universal_settings import AdapterSettings
from aai.audio import Sound
from aai.audio import save as save_sound
from aai.encoders.base import nearest_words
from aai.errors import InputError
from aai.soundworld.build import adapter
from aai.soundworld.captions import label_of
from aai.soundworld.loaders import WEIGHTS, load_adapter, load_picture_model, load_sound_encoder, load_text
from aai.soundworld.sounds import synthesize
from aai.soundworld.text import CaptionEncoder
from aai.soundworld.world import EVENTS


def text_encoder():
    return CaptionEncoder(*load_text(WEIGHTS))


def test_the_loudest_part_of_a_sound_is_found():
    waveform = torch.zeros(1, 16000)
    waveform[0, 9600:12800] = 0.5
    part = adapter.loudest(Sound(waveform, 16000), 0.2)
    assert part.waveform.shape == (1, 3200) and bool((part.waveform == 0.5).all())
    whole = adapter.loudest(Sound(waveform, 16000), 9.0)
    assert torch.equal(whole.waveform, waveform)


def test_recordings_come_whole_and_cut_at_their_own_intensity(tmp_path):
    for fold, gain in ((1, 0.9), (2, 0.05)):
        (tmp_path / "dog_bark").mkdir(exist_ok=True)
        sound = synthesize("dog", 0.9, 3)
        path = tmp_path / "dog_bark" / "made.wav"
        save_sound(Sound(sound.waveform * gain, sound.rate), path)
        path.rename(path.with_name(f"{fold}-1-A.ogg"))
    whole, cut = adapter.recorded(tmp_path, (1,), EVENTS)
    assert whole.event == cut.event == "dog" and cut.sound.seconds < whole.sound.seconds
    quiet, _ = adapter.recorded(tmp_path, (2,), EVENTS)
    assert quiet.intensity < whole.intensity == cut.intensity
    assert adapter.recorded(tmp_path, (1, 2), ["rain"]) == []


def test_sounds_that_are_taken_apart_are_told_by_their_own_event():
    ears = load_sound_encoder()
    parts = adapter.apart(ears, ("rain", "rooster"), 3)
    assert parts and {told.event for told in parts} == {"rain", "rooster"}
    for told in parts:
        (near,) = nearest_words(ears, told.sound[None], 2)
        assert label_of(told.event, ears) in dict(near.words) and adapter.FAINTEST <= told.intensity <= 1
    few = adapter.examples(load_picture_model(), ears, text_encoder(), parts[:1])
    assert torch.equal(few.f_a[0], parts[0].sound) and few.labels == [parts[0].event]


def test_an_adapter_is_made_kept_and_found_again(tmp_path, monkeypatch):
    model, ears = load_picture_model(), load_sound_encoder()
    sounds = adapter.synthesized(("dog", "rain"), 4)
    few = adapter.examples(model, ears, text_encoder(), sounds)
    assert few.labels == ["dog", "rain"] * 2 and few.pictures == [2] * 4
    assert few.words["clip_l"].shape == (4, 192)
    assert set(few.latents) == {(i, j) for i in range(4) for j in range(2)}
    # The third and fourth are cut.
    assert sounds[2].sound.seconds < sounds[0].sound.seconds
    assert not torch.allclose(few.f_a[0], few.f_a[2])
    monkeypatch.setattr(adapter, "examples", lambda *given: few)
    made = adapter.make(model, ears, text_encoder(), sounds, settings=AdapterSettings(steps=1, batch=2))
    assert made.base == "SoundWorld's U-Net that reads clip_l of 192" and made.steps == 1
    with pytest.raises(InputError, match="no sound adapter for this model .*aai adapt train"):
        load_adapter(model, tmp_path)
    adapter.save(made, tmp_path / "adapter_unet.safetensors")
    assert load_adapter(model, tmp_path).steps == 1


def test_the_shipped_adapter_goes_with_the_shipped_models():
    from aai.encoders.base import encode_sound

    model = load_picture_model()
    shipped = load_adapter(model)
    heard = encode_sound(load_sound_encoder(), synthesize("fire", 0.7, 1))
    shipped.check(heard, model)
    assert shipped.model == model.fingerprint and shipped.name == "SoundWorld"
    token = shipped.token(heard.f_a)
    assert 0.1 < token.f_adapter["clip_l"].norm() / token.scale["clip_l"] <= 1.001


def test_one_to_be_measured_is_not_written_over_the_shipped_one(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["adapter", "--without", "dog"])
    with pytest.raises(SystemExit):
        adapter.main()
    assert "give a folder with --output" in capsys.readouterr().err


def test_one_without_an_event_for_another_encoder_has_a_folder_of_its_own(tmp_path, monkeypatch):
    asked = []

    def make(model, encoder, text, library, settings, report):
        asked.append((encoder, {told.event for told in library}))
        raise KeyboardInterrupt

    monkeypatch.setattr(adapter, "make", make)
    monkeypatch.setattr(adapter, "SYNTHESIZED", 16)
    monkeypatch.setattr(adapter, "MIXTURES", 2)
    words = ["--without", "dog", "fire", "--encoder", str(WEIGHTS / "sound_encoder.safetensors")]
    monkeypatch.setattr("sys.argv", ["adapter", *words, "--output", str(tmp_path / "held")])
    with pytest.raises(KeyboardInterrupt):
        adapter.main()
    ((encoder, events),) = asked
    assert encoder.name == "SoundWorld" and len(events) == len(EVENTS) - 2 and "dog" not in events
    assert (tmp_path / "held").is_dir()
