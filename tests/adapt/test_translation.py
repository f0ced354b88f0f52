"""How a sound enters a text encoder of another width."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from torch.testing import assert_close

from aai import token
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token
from aai.adapt.translation import fit, translations
from aai.errors import InputError
from aai.picture.diffusers import DiffusersPictureModel

LABELS = [
    "rain",
    "a photo of rain",
    "fire",
    "fire at night",
    "a dog",
    "the city",
    "night",
    "a dog in the city",
]


def spaces(count: int, noise: float, generator: torch.Generator):
    """Words of an inner space of 6, seen from spaces of 48 and of 64, each with an offset of its own."""
    inner = torch.randn(count, 6, generator=generator)
    views = [torch.randn(6, d, generator=generator) for d in (48, 64)]
    offsets = [torch.randn(d, generator=generator) * 2 for d in (48, 64)]
    return [
        F.normalize(
            inner @ view + offset + noise * torch.randn(count, len(offset), generator=generator), dim=-1
        )
        for view, offset in zip(views, offsets)
    ]


def test_words_that_the_fit_has_not_seen_are_translated():
    x, y = spaces(80, 0.1, torch.Generator().manual_seed(0))
    translate = fit(x[:60], y[:60])
    found = F.normalize(torch.stack([translate(row) for row in x[60:]]), dim=-1)
    nearest = (found @ y[60:].T).argmax(-1)
    assert (nearest == torch.arange(20)).float().mean() > 0.9
    assert (
        F.cosine_similarity(found, y[60:]).mean() > 0.95 > F.cosine_similarity(y.mean(0)[None], y[60:]).mean()
    )


def test_noise_chooses_a_stronger_ridge():
    x, y = spaces(40, 0.0, torch.Generator().manual_seed(0))
    noisy = y[torch.randperm(40, generator=torch.Generator().manual_seed(1))]
    size = lambda t: (t.up.float() @ t.down.float()).norm()  # noqa: E731
    assert size(fit(x, noisy)) < 0.5 * size(fit(x, y))


def test_a_sound_keeps_its_length_and_its_width_is_checked():
    x, y = spaces(20, 0.0, torch.Generator().manual_seed(0))
    translate = fit(x, y)
    assert_close(translate(5 * x[0]), 5 * translate(x[0]), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="64 numbers.*48"):
        translate(torch.randn(64))
    with pytest.raises(InputError, match="too few"):
        fit(x[:2], y[:2])


def test_the_text_encoder_that_it_was_aligned_with_takes_it_as_it_is(model):
    states = model.embed_text(LABELS)["clip_l"]
    assert translations(model, torch.randn(32), LABELS, F.normalize(states, dim=-1)) == {}
    assert translations(model, torch.randn(32), [], torch.zeros(0, 0)) == {}
    other = F.normalize(torch.randn(len(LABELS), 32), dim=-1)
    assert set(translations(model, torch.randn(32), LABELS, other)) == {"clip_l"}
    with pytest.raises(InputError, match=r"shape \[8, 32\]"):
        translations(model, torch.randn(20), LABELS, other)
    with pytest.raises(InputError, match="20 numbers.*clip_l.*32.*knows words"):
        translations(model, torch.randn(20), [], torch.zeros(0, 0))


def test_a_translated_token_trains_and_takes_another_sound(make_sdxl_parts, tmp_path):
    model = DiffusersPictureModel(**vars(make_sdxl_parts()))
    # The sound encoder was aligned with the first text encoder, whose width is 32; the second's is 64.
    vectors = F.normalize(model.embed_text(LABELS)["clip_l"], dim=-1)
    sounds = [F.normalize(vectors[i] + 0.05 * torch.randn(32), dim=-1) for i in (0, 2)]
    made = train_token(
        model, sounds[0], torch.rand(2, 3, 16, 16), TrainSettings(steps=2), "rain", table=(LABELS, vectors)
    ).token
    assert set(made.translation) == {"clip_g"} and made.vectors["clip_g"].shape == (1, 64)
    s = model.text_encoders["clip_g"].mean_norm
    entering = made.vectors["clip_g"] - made.f_adapter["clip_g"]
    assert_close(entering.norm(), torch.tensor(s), rtol=1e-4, atol=0)
    assert made.provenance["base"] == "a model that reads clip_l of 32, clip_g of 64"
    assert set(made.cosine()) == {"clip_l", "clip_g"}
    made.save(tmp_path / "rain.safetensors")
    read = token.load(tmp_path / "rain.safetensors")
    assert_close(read.with_sound(sounds[0]).vectors["clip_g"], made.vectors["clip_g"], atol=1e-6, rtol=0)
    other = read.with_sound(sounds[1])
    expected = s * F.normalize(made.translation["clip_g"](sounds[1]), dim=-1) + made.f_adapter["clip_g"][0]
    assert_close(other.vectors["clip_g"][0], expected, atol=1e-5, rtol=1e-5)
    assert not other.momentum and "momentum" in json.loads(metadata(tmp_path / "rain.safetensors"))


def metadata(path) -> str:
    with safe_open(str(path), "pt") as file:
        return file.metadata()[token.METADATA]


def test_the_map_of_a_published_table_is_small(tmp_path):
    vectors, states = torch.randn(309, 768), torch.randn(309, 1280)
    adapter = torch.randn(1, 1280)
    token.SoundToken(
        "x",
        {"clip_g": adapter},
        vectors[0],
        {"clip_g": adapter},
        {"clip_g": 0.4},
        translation={"clip_g": fit(vectors, states)},
    ).save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 250_000
