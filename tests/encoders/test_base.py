"""A sound through an encoder: its embedding, its words, and what is refused."""

import pytest
import torch

from aai.audio import Sound
from aai.encoders import base, cavmae_encoder
from aai.encoders.cavmae import CAVMAE
from aai.encoders.known import Known
from aai.errors import InputError


def noise(seconds, rate=16000, seed=0, channels=1):
    return Sound(
        0.1 * torch.randn(channels, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


def test_nearest_words_are_sorted_and_add_up(encoder):
    (near,) = base.nearest_words(encoder, encoder.label_vectors[1:2], k=3)
    assert near.words[0][0] == "dog" and near.unknown is None and near.with_unknown() == near.words
    assert sum(score for _, score in near.words) == pytest.approx(1)
    assert [s for _, s in near.words] == sorted((s for _, s in near.words), reverse=True)


def test_unknown_is_a_word_with_its_share(encoder):
    sound = noise(1)
    assert base.encode_sound(encoder, sound).known is None
    direction = encoder.embed([sound])
    # One hidden unit that sees along f_a: an offset above what it gives knows nothing, one below everything.
    hidden, zero = direction.clone(), torch.zeros(1)
    for offset, is_known in ((3.0, True), (-3.0, False)):
        encoder.known = Known(hidden, zero, torch.ones(1), offset)
        heard = base.encode_sound(encoder, sound)
        (near,) = base.nearest_words(encoder, heard.f_a[None], k=3)
        assert heard.is_known is is_known and near.unknown == pytest.approx(1 - heard.known)
        assert sum(score for _, score in near.words) + near.unknown == pytest.approx(1)
        assert (near.with_unknown()[0][0] == base.UNKNOWN) is not is_known
        assert heard.provenance()["known"].startswith("yes" if is_known else "no")


def test_what_is_heard_keeps_its_length(encoder):
    """Eq. 6 to the letter adds f_a as the encoder gives it: the mean over tokens, before it is brought to
    length one."""
    sound = noise(encoder.seconds)
    with torch.no_grad():
        expected = encoder.model.audio_features(encoder.fbanks(encoder.windows(sound)))[0]
    assert abs(expected.norm() - 1) > 0.5
    torch.testing.assert_close(base.encode_sound(encoder, sound).f_a, expected)
    torch.testing.assert_close(encoder.embed([sound])[0], expected / expected.norm())
    longer = noise(2.5 * encoder.seconds)
    with torch.no_grad():
        each = encoder.model.audio_features(encoder.fbanks(encoder.windows(longer)))
    f_a = base.encode_sound(encoder, longer).f_a
    assert len(each) == 3 and f_a.norm() == pytest.approx(each.norm(dim=-1).mean().item(), rel=1e-5)
    torch.testing.assert_close(f_a / f_a.norm(), encoder.embed([longer])[0])


def test_what_is_heard_carries_the_encoders_words(encoder):
    heard = base.encode_sound(encoder, noise(1))
    assert heard.labels == ["rain", "dog", "clock"] and heard.labels is not encoder.labels
    assert torch.equal(heard.label_vectors, encoder.label_vectors)


def test_an_encoder_that_is_not_aligned_has_no_words(tiny):
    raw = cavmae_encoder.CAVMAEEncoder(CAVMAE(tiny), [], torch.zeros(0, 16), name="raw")
    heard = base.encode_sound(raw, noise(1))
    assert heard.labels == [] and heard.label_vectors.shape == (0, 16)
    assert [near.words for near in base.nearest_words(raw, heard.f_a[None].expand(2, -1))] == [[], []]


@pytest.mark.parametrize(("samples", "says"), [(800, "0.05 s"), (16000, "silent")])
def test_what_cannot_be_heard_gets_a_sentence(encoder, samples, says):
    with pytest.raises(InputError, match=says):
        base.encode_sound(encoder, Sound(torch.zeros(1, samples), 16000), "a.wav")
