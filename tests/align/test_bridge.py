"""The bridge from CLAP's space: what it learns, how it closes the gap, and the file it is kept in."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from aai.align.bridge import bridge_clap, fit_bridge, load_sounds
from aai.align.labels import LABELS, TEMPLATES
from aai.audio import Sound, save
from aai.encoders import base, loaders
from aai.encoders.bridged_clap import Bridge
from aai.encoders.clap import load_folder
from aai.errors import InputError


def noise(seconds, rate=48000, seed=0):
    return Sound(
        0.1 * torch.randn(1, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


class Words:
    """A text tower with a vector of its own for each text; `linear` maps another tower's instead."""

    name = "words"

    def __init__(self, dim, of=None, linear=None, offset=None):
        self.dim, self.of, self.linear, self.offset = dim, of, linear, offset

    def embed(self, texts):
        if self.of is None:
            rows = [torch.Generator().manual_seed(sum(map(ord, t)) * 31 + len(t)) for t in texts]
            return F.normalize(torch.stack([torch.randn(self.dim, generator=g) for g in rows]), dim=-1)
        return self.of.embed(texts) @ self.linear.T + self.offset


class Bare(Words):
    """Says the same of a label in every way."""

    def embed(self, texts):
        return super().embed(
            [t.removeprefix("this is a sound of ").removesuffix(" can be heard") for t in texts]
        )


@pytest.fixture(scope="module")
def clap(clap_folder):
    return load_folder(clap_folder)


@pytest.fixture(scope="module")
def tower(clap):
    """A text space that is a linear map of what CLAP's own says of the bare label."""
    generator = torch.Generator().manual_seed(1)
    return Words(
        40, clap[1], torch.randn(40, 24, generator=generator), 2 * torch.randn(40, generator=generator)
    )


def spread(seed, dims, count=200, ways=3, out=40):
    """x of labels, each said in ways that scatter about it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, dims, generator=generator) + 0.3
    return x + 0.1 * torch.randn(count, ways, dims, generator=generator), generator


def test_words_cross_to_their_own_vectors(clap, tower):
    bridge, labels, vectors, tau, report = fit_bridge(clap[1], tower)
    assert labels == list(LABELS) and vectors.shape == (len(LABELS), 40)
    assert (report.labels, report.captions) == (len(LABELS), len(LABELS) * len(TEMPLATES))
    assert 0.4 < report.cosine < 1 and report.named.value > 20 / len(LABELS)
    assert 0.001 <= tau <= 0.5
    crossed = bridge.texts(clap[1].embed(labels))
    cosine = F.cosine_similarity(crossed - bridge.mean_y, vectors - bridge.mean_y).mean()
    assert cosine > report.cosine
    # They spread about their mean as the words do, not less, as a regression's answers would.
    ratio = (crossed - bridge.mean_y).norm(dim=-1).mean() / (vectors - bridge.mean_y).norm(dim=-1).mean()
    assert 0.8 < ratio < 1.3


@pytest.mark.parametrize("with_sounds", [True, False])
def test_sounds_across_the_gap_find_their_words(with_sounds):
    """Sounds that are their words' embeddings, moved by one constant vector and scattered."""
    said = Bare(64)
    generator = torch.Generator().manual_seed(3)
    gap = F.normalize(torch.randn(64, generator=generator), dim=0)
    labels = list(LABELS[:120])
    x = said.embed([TEMPLATES[1].format(label=label) for label in labels])
    sounds = F.normalize(x + gap + 0.05 * torch.randn(120, 64, generator=generator), dim=-1)
    linear = torch.randn(48, 64, generator=generator)
    meant = Words(48, said, linear, torch.zeros(48))
    bridge, _, vectors, _, report = fit_bridge(said, meant, labels, sounds if with_sounds else None)
    assert report.gap == ("means" if with_sounds else "memory")
    found = (bridge(sounds) @ vectors.T).argmax(-1)
    assert (found == torch.arange(120)).float().mean() > 0.9
    # Without the correction the constant goes across too.
    unmoved = (bridge.texts(sounds) @ bridge(sounds).T).diag().mean()
    assert unmoved < 0.97


def test_a_clap_folder_becomes_an_encoder_of_the_text_space(clap, tower, tmp_path):
    ticks = []
    encoder, report = bridge_clap(
        *clap,
        tower,
        callback=lambda done, total: ticks.append((done, total)),
        notes={"made_by": "a test"},
    )
    assert ticks[-1][0] == ticks[-1][1] == report.labels + report.captions
    assert (encoder.dim, encoder.rate, encoder.space, encoder.name) == (40, 48000, "words", clap[0].name)
    heard = base.encode_sound(encoder, noise(2.5, 44100))
    assert heard.f_a.shape == (40,) and heard.label_vectors.shape == (len(LABELS), 40)
    torch.testing.assert_close(heard.f_a.norm(), torch.tensor(1.0))
    loaders.save(encoder, tmp_path / "clap.safetensors", torch.float32)
    again = loaders.load(tmp_path / "clap.safetensors")
    sounds = [noise(0.4, seed=5), noise(3, 16000, seed=6)]
    torch.testing.assert_close(again.embed(sounds), encoder.embed(sounds))
    same = ("labels", "tau", "name", "space", "notes", "rate", "seconds", "dim")
    assert [getattr(again, k) for k in same] == [getattr(encoder, k) for k in same]
    assert {"licence", "source", "bridge_report"} <= set(again.notes)
    assert (again.notes["bridge_kind"], again.notes["made_by"]) == ("ridge", "a test")
    loaders.save(encoder, tmp_path / "half.safetensors")
    halved = F.cosine_similarity(
        loaders.load(tmp_path / "half.safetensors").embed(sounds), again.embed(sounds)
    )
    assert halved.min() > 0.999
    words = base.nearest_words(again, encoder.label_vectors[:1], 1)[0].words
    assert words[0][0] == LABELS[0]


def test_a_stable_diffusion_text_encoder_serves_as_it_is(clap, make_tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModel

    from aai.encoders.clip import CLIPText

    tokenizer = make_tokenizer()
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        **ends,
    )
    tower = CLIPText(tokenizer, CLIPTextModel(config), "sd")
    encoder, _ = bridge_clap(*clap, tower, list(LABELS[:40]))
    assert encoder.dim == 32 and encoder.space == "sd" and len(encoder.labels) == 40


def test_own_sounds_move_the_mean(clap, tower):
    sounds = [noise(0.5, seed=i) for i in range(8)]
    encoder, report = bridge_clap(*clap, tower, sounds=sounds)
    assert (report.gap, report.sounds) == ("means", 8) and not len(encoder.bridge.memory)
    torch.testing.assert_close(encoder.bridge.mean_a, clap[0].embed(sounds).mean(0))
    middle = encoder.bridge(encoder.bridge.mean_a[None])
    torch.testing.assert_close(middle, F.normalize(encoder.bridge.mean_y[None], dim=-1))


def test_what_teaches_nothing_is_refused(clap, tower):
    with pytest.raises(InputError, match="2 labels are too few"):
        fit_bridge(clap[1], tower, ["rain", "a dog", " rain. ", ""])
    with pytest.raises(InputError, match="3 sounds"):
        fit_bridge(clap[1], tower, sounds=torch.randn(3, 24))


def test_a_caller_can_stop_it(clap, tower):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_bridge(clap[1], tower, callback=stop)


def test_a_damaged_file_gets_a_sentence(clap, tower, tmp_path):
    encoder, _ = bridge_clap(*clap, tower, list(LABELS[:20]))
    loaders.save(encoder, tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    shape = json.loads(metadata["bridge"])
    for changed, without, words in (
        ({"config": "{"}, "", "settings"),
        ({"extractor": '{"colour": 1}', "bridge": "[]"}, "", "settings"),
        ({"bridge": json.dumps({**shape, "d": 5})}, "", "bridge"),
        ({"family": "clapper"}, "", "family 'clapper'"),
        ({"labels": '["rain"]'}, "", "1 labels"),
        ({}, "model.bridge.weight", "lacks a part of its bridge"),
        ({}, "model.clap.audio_projection", "sound tower"),
    ):
        kept = {k: v for k, v in tensors.items() if not (without and k.startswith(without))}
        save_file(kept, str(tmp_path / "odd.safetensors"), metadata | changed)
        with pytest.raises(InputError, match=rf"odd\.safetensors.*{words}"):
            loaders.load(tmp_path / "odd.safetensors")


def test_a_saved_bridge_with_a_network_still_loads(clap, tower, tmp_path):
    """Earlier versions could let a small network correct the ridge: y = W x + mlp(x)."""
    encoder, _ = bridge_clap(*clap, tower, list(LABELS[:20]))
    sounds = [noise(0.5)]
    straight = encoder.embed(sounds)
    with_network = Bridge(24, 40, memory=len(encoder.bridge.memory), hidden=6)
    generator = torch.Generator().manual_seed(0)
    network = {
        name: torch.randn(value.shape, generator=generator)
        for name, value in with_network.state_dict().items()
        if name.startswith("mlp.")
    }
    loaders.save(encoder, tmp_path / "ridge.safetensors", torch.float32)
    with safe_open(str(tmp_path / "ridge.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    shape = json.dumps({**json.loads(metadata["bridge"]), "hidden": 6})
    tensors |= {f"model.bridge.{name}": value for name, value in network.items()}
    path = tmp_path / "mlp.safetensors"
    save_file(tensors, str(path), metadata | {"bridge": shape, "bridge_kind": "mlp"})
    loaded = loaders.load(path)
    with_network.load_state_dict({**encoder.bridge.state_dict(), **network})
    expected = with_network(clap[0].embed(sounds))
    torch.testing.assert_close(loaded.embed(sounds), expected)
    assert not torch.allclose(expected, straight, atol=1e-2) and loaded.notes["bridge_kind"] == "mlp"
    loaders.save(loaded, tmp_path / "again.safetensors", torch.float32)
    torch.testing.assert_close(loaders.load(tmp_path / "again.safetensors").embed(sounds), expected)


def test_a_bridge_is_an_ordinary_module_even_in_inference_mode(clap, tower):
    with torch.inference_mode():
        bridge, *_ = fit_bridge(clap[1], tower, list(LABELS[:20]))
    assert isinstance(bridge, Bridge) and not any(t.is_inference() for t in bridge.state_dict().values())


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_sounds_behind_links_are_loaded(tmp_path):
    (tmp_path / "disk").mkdir()
    save(noise(0.5), tmp_path / "disk" / "1.wav")
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "away").symlink_to(tmp_path / "disk")
    (tmp_path / "sounds" / "gone.wav").symlink_to("nothing")
    assert len(load_sounds(tmp_path / "sounds")) == 1
