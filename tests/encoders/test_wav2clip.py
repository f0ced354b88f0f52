"""Wav2CLIP's audio tower against the parts that the published code is made of, and numbers of that code."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.encoders.loaders import load, save
from aai.encoders.wav2clip import Wav2CLIPEncoder, Wav2CLIPTower
from aai.errors import InputError

RECORDED = (0.044908, -0.0124, -0.01589, -0.071333, -0.007571, -0.012564, -0.01477, -0.012091)
"""How the feature of chirp(2, 16000) begins, of length one, in descriptinc/lyrebird-wav2clip at 1864b39 with
the weights of `formula`."""


@pytest.fixture(scope="module")
def published(tmp_path_factory, formula):
    """The file as it is published, with other parts of its training, and the tower."""
    tower = formula(Wav2CLIPTower())
    extra = {"image_transform.x": torch.zeros(1), "audio_encoder.spectrogram.window": torch.zeros(512)}
    path = tmp_path_factory.mktemp("wav2clip") / "Wav2CLIP.pt"
    torch.save({**tower.state_dict(), **extra}, path)
    return path, tower


def test_it_hears_as_the_published_code(published, chirp):
    encoder = load(published[0])
    f_a = encoder.embed([Sound(chirp(2, 16000), 16000)])
    assert_close(f_a[0, :8], torch.tensor(RECORDED), atol=2e-5, rtol=0)
    assert (encoder.embed([Sound(chirp(3, 16000), 16000)]) - f_a).abs().max() > 1e-2
    assert encoder.labels == [] and not encoder.sees and encoder.notes["licence"] == "MIT"


def test_against_torchvision_and_torchaudio(published):
    torchvision, torchaudio = pytest.importorskip("torchvision"), pytest.importorskip("torchaudio")
    path, tower = published
    wave = torch.randn(1, 32000, generator=torch.Generator().manual_seed(1)) * 0.1
    net = torchvision.models.resnet18(weights=None)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net.fc = torch.nn.Identity()
    net.load_state_dict(tower.audio_encoder.state_dict())
    x = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353)(wave[None])
    x = torch.log(x + 1e-7)
    x = (x - torch.mean(x)) / (torch.std(x) + 1e-9)
    with torch.no_grad():
        expected = tower.audio_transform.sequential(net.eval()(x))
    assert_close(load(path).embed([Sound(wave, 16000)]), F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_a_long_sound_is_the_mean_of_its_windows_and_a_short_one_is_heard(published):
    encoder = load(published[0])
    noise = torch.randn(1, 20 * 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    whole, first, second = encoder.embed([Sound(w, 16000) for w in (noise, *noise.split(160000, dim=1))])
    assert_close(whole, F.normalize(first + second, dim=-1))
    assert encoder.embed([Sound(noise[:, :200], 16000)]).isfinite().all()


@pytest.mark.parametrize("wrapped", ["lightning", "safetensors"])
def test_other_ways_to_write_the_file(published, tmp_path, wrapped):
    path, tower = published
    if wrapped == "lightning":
        other = tmp_path / "ResNet_CX.ckpt"
        torch.save({"epoch": 3, "state_dict": tower.state_dict()}, other)
    else:
        other = tmp_path / "wav2clip.safetensors"
        save_file(tower.state_dict(), str(other))
    sound = Sound(torch.randn(1, 16000) * 0.1, 16000)
    assert torch.equal(load(other).embed([sound]), load(path).embed([sound]))


def test_our_file_brings_it_back_with_its_words(published, tmp_path):
    encoder = load(published[0])
    encoder.labels, encoder.label_vectors = ["rain", "dog"], F.normalize(torch.randn(2, 512), dim=-1)
    save(encoder, tmp_path / "words.safetensors", torch.float32)
    again = load(tmp_path / "words.safetensors")
    assert isinstance(again, Wav2CLIPEncoder) and again.labels == ["rain", "dog"]
    assert again.notes["source"] == "Wav2CLIP.pt" and again.tau == encoder.tau
    sound = Sound(torch.randn(1, 16000) * 0.1, 16000)
    assert torch.equal(again.embed([sound]), encoder.embed([sound]))


def test_a_file_of_another_version_says_what_it_lacks(published, tmp_path):
    tensors = published[1].state_dict()
    path = tmp_path / "other.pt"
    torch.save({k: v for k, v in tensors.items() if not k.startswith("audio_transform")}, path)
    says = r"other\.pt.*lacks 4 of the \d+ weights of Wav2CLIP .*transform\.sequential\.0\.weight, .*\.\.\.\)"
    with pytest.raises(InputError, match=says):
        load(path)
    torch.save({**tensors, "audio_transform.sequential.0.weight": torch.zeros(256, 512)}, path)
    with pytest.raises(InputError, match=r"sequential\.0\.weight is \[256, 512\], .* \[512, 512\]"):
        load(path)
    # Only what counts steps may be absent.
    torch.save({k: v for k, v in tensors.items() if "num_batches" not in k}, path)
    assert load(path).family == "wav2clip"
