"""AudioCLIP's three towers against numbers of the published code."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.encoders.audioclip import AudioCLIPEncoder, AudioCLIPTower
from aai.encoders.clip import CLIP_MEAN, CLIP_STD
from aai.encoders.loaders import load
from aai.errors import InputError

SOUND = (-0.029871, 0.045227, -0.030504, -0.024731, 0.018766, 0.011712, -0.012704, 0.006864)
PICTURE = (-0.019774, -0.029662, 0.009209, -0.005155, -0.015752, -0.002621, -0.01248, -0.008046)
TEXT = (0.062261, -0.056162, 0.040167, -0.018654, 0.056549, -0.029877, -0.062404, 0.01723)
IDS = (49406, 320, 1125, 539, 2204)
"""How features of length one begin in AndreyGuzhov/AudioCLIP at 45327aa with the weights of `formula`: of
chirp(5, 44100) times 32768, of a picture after CLIP's normalisation, of these token ids before the end."""


@pytest.fixture(scope="module")
def encoder(formula):
    return AudioCLIPEncoder.published(formula(AudioCLIPTower()).state_dict(), "AudioCLIP-Full-Training.pt")


def test_it_hears_as_the_published_code(encoder, chirp):
    f_a = encoder.embed([Sound(chirp(5, 44100), 44100)])
    assert_close(f_a[0, :8], torch.tensor(SOUND), atol=2e-5, rtol=0)
    assert encoder.embed([Sound(0.1 * torch.randn(1, 20000), 16000)]).shape == (1, 1024)
    assert encoder.notes == {"licence": "MIT", "source": "AudioCLIP-Full-Training.pt"}


def test_it_sees_as_the_published_code(encoder):
    normalised = torch.cos(torch.arange(3 * 224 * 224, dtype=torch.float64) * 0.01).view(3, 224, 224)
    mean, std = (torch.tensor(value)[:, None, None] for value in (CLIP_MEAN, CLIP_STD))
    picture = (normalised * std + mean).float()[None]
    seen = encoder.embed_images(picture)
    assert_close(seen[0, :8], torch.tensor(PICTURE), atol=2e-5, rtol=0)
    # Of a wide picture the middle is seen.
    assert_close(encoder.embed_images(F.pad(picture, (30, 30))), seen, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="cannot be seen"):
        encoder.embed_images(torch.zeros(3, 8, 8))


def test_it_reads_as_the_published_code(encoder):
    ids = torch.tensor([[*IDS, 49407]])
    with torch.no_grad():
        read = F.normalize(encoder.tower.read(ids), dim=-1)
        padded = F.normalize(encoder.tower.read(F.pad(ids, (0, 9), value=49407)), dim=-1)
    assert_close(read[0, :8], torch.tensor(TEXT), atol=2e-5, rtol=0)
    assert_close(padded, read, atol=1e-5, rtol=0)


def test_its_words_need_the_tokens_of_openais_clips(encoder, make_tokenizer, tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has \d+ tokens, AudioCLIP's 49408"):
        encoder.text_tower(tmp_path)


def test_its_state_brings_it_back(encoder, chirp):
    weights, settings = encoder.state()
    again = AudioCLIPEncoder.restore(weights, settings, "mine.safetensors", name="mine")
    sound = Sound(chirp(1, 44100), 44100)
    assert torch.equal(again.embed([sound]), encoder.embed([sound])) and again.name == "mine"


def test_a_file_of_another_version_says_what_it_lacks(tmp_path):
    torch.save({"audio.fbsp.m": torch.zeros(1025)}, tmp_path / "old.pt")
    with pytest.raises(InputError, match=r"old\.pt.*lacks \d+ of .* AudioCLIP .*\(positional_embedding, "):
        load(tmp_path / "old.pt")
