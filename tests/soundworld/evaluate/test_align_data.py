"""What the alignment study trains and measures on: made once, by the settings it is made with."""

import pytest
import torch

from aai.errors import InputError
from aai.soundworld.captions import LEVELS, level
from aai.soundworld.evaluate.align_data import Study, bank, intensities, new_model
from aai.soundworld.sounds import synthesize
from aai.soundworld.world import EVENTS


def test_a_new_model_sees_as_the_shipped_one_and_hears_nothing_yet(study):
    pictures = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    model = new_model(study, 0)
    with torch.no_grad():
        assert torch.equal(model.visual_features(pictures), study.encoder.model.visual_features(pictures))
        bank = torch.rand(1, 512, 128)
        assert not torch.equal(model.audio_features(bank), study.encoder.model.audio_features(bank))
        assert torch.equal(model.audio_features(bank), new_model(study, 0).audio_features(bank))


def test_results_of_other_settings_are_not_taken_for_these(study):
    held = dict(pictures=1, tests=1, batch=4)
    Study(study.out, study.recordings, sounds=10, **held)
    with pytest.raises(InputError, match="another sounds"):
        Study(study.out, study.recordings, sounds=20, **held)
    with pytest.raises(InputError, match="another recordings"):
        Study(study.out, None, sounds=10, **held)


def test_a_label_is_an_event_at_a_level():
    labels = torch.arange(len(EVENTS) * len(LEVELS))
    events, strengths, seeds = intensities(labels, 5)
    assert [EVENTS.index(event) for event in events] == (labels // len(LEVELS)).tolist()
    assert [level(strength) for strength in strengths] == (labels % len(LEVELS)).tolist()
    assert seeds == [5 + i for i in range(50)] and intensities(labels, 5)[1] == strengths


def test_a_bank_is_of_the_sounds_first_seconds():
    sound = synthesize("rain", 0.5, 1, 6.0)
    assert bank(sound).shape == (512, 128) and bank(sound).dtype == torch.float16
    assert torch.equal(bank(sound), bank(sound.cut(0, 5)))
