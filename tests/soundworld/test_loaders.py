"""SoundWorld's shipped weights, and sentences where they are missing or damaged."""

import pytest
import torch

from aai.errors import InputError
from aai.soundworld import loaders
from aai.soundworld.text import CaptionEncoder
from aai.soundworld.world import EVENTS


def test_the_shipped_models_belong_together():
    encoder = loaders.load_sound_encoder()
    captions = CaptionEncoder(*loaders.load_text(loaders.WEIGHTS))
    words = captions.embed(list(encoder.labels))
    cosines = torch.cosine_similarity(words, encoder.label_vectors, dim=-1)
    # The weights are kept in half precision.
    torch.testing.assert_close(cosines, torch.ones(len(EVENTS)), atol=1e-3, rtol=0)
    assert not any(p.requires_grad for p in captions.model.parameters())
    assert {tensor.dtype for tensor in loaders.read_weights("oracle").values()} == {torch.float32}


def test_missing_weights_are_named(tmp_path):
    for load in (loaders.load_oracle, loaders.load_picture_model, loaders.load_sound_encoder):
        with pytest.raises(InputError, match=r"weights are missing .*\.safetensors"):
            load(tmp_path)


def test_damaged_weights_get_a_sentence(tmp_path):
    (tmp_path / "oracle.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"oracle\.safetensors' cannot be read"):
        loaders.load_oracle(tmp_path)
