"""Scores by hand, and CLIP as their judge."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from aai.errors import InputError
from aai.study.scores import Likeness, Space, clip_space, share_below


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


def test_clip_judges(tmp_path, make_tokenizer, wav2clip_weights, setting):
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
    space = clip_space(tmp_path, wav2clip_weights)
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
