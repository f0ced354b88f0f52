"""SoundWorld's figures, where what they are to be is known."""

import pytest
import torch

from aai.errors import InputError
from aai.soundworld.evaluate import measure
from aai.soundworld.loaders import load_oracle, load_sound_encoder
from aai.soundworld.pictures import render


def test_recordings_are_those_of_one_fold_and_of_known_classes(tmp_path):
    for name in (
        "dog_bark/1-2-A.ogg",
        "dog_bark/4-1-B.ogg",
        "dog_bark/4-1-A.ogg",
        "rain/4-9-A.ogg",
        "cat/4-1-A.ogg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    named = [(event, path.name) for event, path in measure.recordings_of(tmp_path, 4)]
    assert named == [("rain", "4-9-A.ogg"), ("dog", "4-1-A.ogg"), ("dog", "4-1-B.ogg")]
    with pytest.raises(InputError, match="no recordings of fold 3"):
        measure.recordings_of(tmp_path, 3)


def test_unseen_sounds_are_named():
    named = measure.name_synthetic(load_sound_encoder(), count=3)
    assert (named.hits, named.count) == (3, 3)


def test_the_share_named_counts_right_and_wrong_pictures():
    def drawn(event):
        pictures = [torch.from_numpy(render("city", event, 0.7, seed)) for seed in range(2)]
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255

    share = measure.share_named(load_oracle(), {"dog": drawn("dog"), "fire": drawn("rain")})
    assert (share.hits, share.count) == (2, 4)
