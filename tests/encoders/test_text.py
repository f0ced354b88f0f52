"""Labels as vectors of a text tower."""

import pytest
import torch
from torch.nn import functional as F

from aai.encoders.clip import CLIPText
from aai.encoders.text import TEMPLATES, label_vectors
from aai.errors import InputError


@pytest.fixture
def parts(make_parts):
    return make_parts()


def test_labels_are_said_raw_or_as_sounds(parts):
    tower = CLIPText(parts.tokenizer, parts.text_encoder)
    raw, sound, both = (label_vectors(tower, ["rain", "dog"], template) for template in TEMPLATES)
    torch.testing.assert_close(raw, F.normalize(tower.embed(["rain", "dog"]), dim=-1))
    torch.testing.assert_close(
        sound, F.normalize(tower.embed(["the sound of rain", "the sound of dog"]), dim=-1)
    )
    torch.testing.assert_close(both, F.normalize(raw + sound, dim=-1))
    with pytest.raises(InputError, match="loud"):
        label_vectors(tower, ["rain"], "loud")
    with pytest.raises(InputError, match="Label 2 of 2"):
        label_vectors(tower, ["rain", " "])


def test_soundworlds_reader_is_a_text_tower():
    from aai.soundworld.loaders import WEIGHTS, load_sound_encoder, load_text
    from aai.soundworld.text import CaptionEncoder

    encoder, reader = load_sound_encoder(), CaptionEncoder(*load_text(WEIGHTS))
    assert (reader.name, reader.dim) == ("SoundWorld", encoder.dim)
    vectors = label_vectors(reader, encoder.labels)
    assert not vectors.requires_grad
    torch.testing.assert_close(vectors, encoder.label_vectors, rtol=0, atol=2e-3)
