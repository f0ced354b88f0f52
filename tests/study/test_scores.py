from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.audio import Sound
from aai.errors import InputError
from aai.study.scores import Likeness, Space, clip_space, share_below
from aai.study.wav2clip import Wav2CLIP, load


def test_the_share_below_by_hand():
    others = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])
    assert share_below(torch.tensor([[1.0, 0.0]]), torch.tensor([0.7, 0.714]), others) == [0.5]


def test_likeness_by_hand(setting):
    # As of dog/1.wav and rain/1.wav.
    dog, rain = (replace(s, frame=None, name="1.wav") for s in setting.subjects)
    space = Space(
        images=lambda p: F.normalize(p.mean((2, 3))[:, :2], dim=-1),
        sounds=lambda sounds: torch.tensor([[1.0, 0.0], [0.0, 1.0]])[: len(sounds)],
        words=lambda names: torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        score=True,
    )
    scorer = Likeness(space, [dog, rain], [dog.sound, rain.sound], torch.zeros(0), ["dog", "rain"], "x")
    picture = torch.tensor([0.6, 0.8, 0.0])[:, None, None].expand(3, 4, 4)[None]
    found = scorer.score(picture, rain)
    # Of the two sounds, one is its own.
    assert found["AIS (x)"] == [1.0] and found["AIC (x)"] == [1.0]
    assert found["CLIP score (x)"] == pytest.approx([80.0], abs=1e-4)
    found = scorer.score(picture, dog)
    assert found["AIS (x)"] == [0.0] and found["AIC (x)"] == [0.0] and "IIS (x)" not in found


def test_a_sounds_own_clip_is_none_of_the_others(setting):
    rain = setting.subjects[1]
    space = Space(
        images=lambda p: F.normalize(p.mean((2, 3)), dim=-1),
        sounds=lambda sounds: F.one_hot(torch.arange(len(sounds)), 3).float(),
    )
    red, green, blue = (torch.eye(3)[i][:, None, None].expand(3, 4, 4) for i in range(3))
    library, names = torch.stack([red, green, blue]), ["rain1.png", "rain/rain1_2.png", "rain2.png"]
    rain = replace(rain, frame=red)

    def judged(others, library, names):
        scorer = Likeness(space, [rain], others, library, ["rain"], "x", names)
        return scorer.score(torch.stack([red, green]), rain)

    dog = setting.subjects[0].sound
    # The rain is heard as red; of the others, the dog is green. Of the pictures only blue is another clip's.
    found = judged([rain.sound, dog], library, names)
    assert found == {"AIS (x)": [1.0, 0.0], "IIS (x)": [1.0, 0.0]}
    assert judged([rain.sound], library[:2], names[:2]) == {}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("wav2clip") / "ResNet_CX.ckpt"
    model = Wav2CLIP()
    extra = {"image_encoder.x": torch.zeros(1), "audio_encoder.spectrogram.window": torch.zeros(512)}
    torch.save({"state_dict": {**model.state_dict(), **extra}}, path)
    return path, model.eval()


def test_wav2clip_hears_as_published(weights):
    """Against torchvision's ResNet-18 and torchaudio's spectrogram, which the published code is made of."""
    torchvision, torchaudio = pytest.importorskip("torchvision"), pytest.importorskip("torchaudio")
    path, model = weights
    wave = torch.randn(1, 32000, generator=torch.Generator().manual_seed(1)) * 0.1
    net = torchvision.models.resnet18(weights=None)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net.fc = torch.nn.Identity()
    net.load_state_dict(model.audio_encoder.state_dict())
    x = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353)(wave[None])
    x = torch.log(x + 1e-7)
    x = (x - torch.mean(x)) / (torch.std(x) + 1e-9)
    with torch.no_grad():
        expected = model.audio_transform.sequential(net.eval()(x))
    assert_close(load(path).embed([Sound(wave, 16000)]), F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        load(tmp_path / "nowhere.ckpt")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("words", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("words", encoding="utf-8")
    for name in ("other.ckpt", "text.ckpt", "text.safetensors"):
        with pytest.raises(InputError, match="cannot be read as Wav2CLIP"):
            load(tmp_path / name)


def test_clip_judges(tmp_path, make_tokenizer, weights, setting):
    from transformers import CLIPConfig, CLIPModel

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    text = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                  image_size=32, patch_size=8)  # fmt: skip
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).eval()
    clip.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no tokenizer"):
        clip_space(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    space = clip_space(tmp_path, weights[0])
    read = tokenizer(["a photo of rain", "dog"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = F.normalize(clip.text_projection(clip.text_model(**read).pooler_output), dim=-1)
    assert_close(space.words(["a photo of rain", "dog"]), expected, atol=1e-5, rtol=0)
    dog, rain = setting.subjects
    scorer = Likeness(space, [dog, rain], [dog.sound], torch.rand(5, 3, 32, 32), ["dog", "rain"], "CLIP")
    assert [m.name for m in scorer.measures] == [
        "AIS (CLIP)",
        "AIC (CLIP)",
        "IIS (CLIP)",
        "CLIP score (CLIP)",
    ]
    found = scorer.score(torch.rand(3, 3, 16, 16), rain)
    assert all(len(values) == 3 for values in found.values()) and len(found) == 4
