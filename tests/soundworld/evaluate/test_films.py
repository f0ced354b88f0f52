"""Stories whose sounds and cuts are known, of synthesized sounds and of recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aai import audio
from aai.audio import Sound
from aai.soundworld.evaluate.films import FADE, RATE, heard, recorded, story, strung
from aai.soundworld.sounds import synthesize


def test_a_story_s_cuts_are_where_its_sounds_begin():
    told = story(3)
    assert 3 <= len(told.events) <= 5 and all(a != b for a, b in zip(told.events, told.events[1:]))
    assert told.events == story(3).events != story(4).events
    for begin, event in zip(told.begins, told.events):
        assert told.event(begin + 0.1) == event
    assert told.from_cut(told.begins[1] + 0.25) == pytest.approx(0.25)


@pytest.fixture
def recordings(tmp_path):
    """Three events at another rate, in stereo."""
    found = []
    for number, event in enumerate(("rain", "fire", "dog")):
        path = tmp_path / f"{event}.wav"
        sound = synthesize(event, 0.8, seed=number).cut(0, 1.0 + 0.5 * number)
        audio.save(Sound(sound.waveform.repeat(2, 1), sound.rate).resample(22050), path)
        found.append((event, path))
    return found


def test_recordings_are_strung_whole(recordings):
    told = recorded(recordings, 1)
    assert len(told.events) == 4 and all(a != b for a, b in zip(told.events, told.events[1:]))
    assert told.sound.rate == RATE and len(told.sound.waveform) == 1
    seconds = {"rain": 1.0, "fire": 1.5, "dog": 2.0}
    assert told.sound.seconds == pytest.approx(sum(seconds[event] for event in told.events), abs=0.01)
    assert np.diff(told.begins).tolist() == pytest.approx([seconds[e] for e in told.events[:-1]], abs=0.01)


def test_no_cut_clicks():
    told = strung([("rain", Sound(torch.ones(1, 16000), 16000)), ("fire", Sound(torch.ones(1, 8000), 16000))])
    faded = round(FADE * 16000)
    assert told.begins == (0.0, 1.0) and told.sound.waveform[0, [0, 15999, 16000]].abs().max() == 0
    assert told.sound.waveform[0, faded : 16000 - faded].min() == 1


def test_a_frame_is_right_where_its_word_is_the_sound_s(recordings):
    from aai.inject.timeline import timeline
    from aai.inject.windows import embed_windows
    from aai.soundworld.loaders import load_sound_encoder

    told = recorded(recordings, 1)
    line = timeline(embed_windows([told.sound], load_sound_encoder(), 1.0), 4.0)
    found = heard([told], [line])
    share = found["the word of a frame"]
    right = sum(word.removeprefix("a ") == told.event(time) for word, time in zip(line.words, line.times))
    assert 0 < share.hits <= right <= len(line) and share.count <= len(line)


def test_a_last_frame_whose_middle_is_behind_the_end_is_heard_too():
    from aai.inject.timeline import timeline
    from aai.inject.windows import embed_windows
    from aai.soundworld.loaders import load_sound_encoder

    told = strung([("rain", synthesize("rain", 0.8, 1).cut(0, 3.02))])
    line = timeline(embed_windows([told.sound], load_sound_encoder(), 1.0), 2.0)
    assert line.times[-1] > told.sound.seconds
    assert heard([told], [line])["the word of a frame"].count == len(line)
