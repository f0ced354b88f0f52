"""CLAP's towers, against transformers' own way through them."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from aai.audio import Sound
from aai.encoders import base, loaders
from aai.encoders.clap import is_clap_folder, load_folder
from aai.errors import InputError


def noise(seconds, rate=48000, seed=0, channels=1):
    return Sound(
        0.1 * torch.randn(channels, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


@pytest.fixture(scope="module")
def clap(clap_folder):
    return load_folder(clap_folder)


def whole(folder):
    """transformers' own model and processor of a folder."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    parts = ClapModel, ClapFeatureExtractor, AutoTokenizer
    model, extractor, tokenizer = (part.from_pretrained(str(folder)) for part in parts)
    return model.eval(), extractor, tokenizer


@torch.no_grad()
def test_sounds_and_texts_are_embedded_as_transformers_does(clap, clap_folder):
    model, extractor, tokenizer = whole(clap_folder)
    sound, texts = noise(0.7), ["a dog", "rain on a very long roof of tin", "wind"]
    heard = extractor([sound.waveform[0].numpy()], sampling_rate=48000, return_tensors="pt")
    a = model.audio_projection(model.audio_model(**heard).pooler_output)
    torch.testing.assert_close(clap[0].embed([sound]), F.normalize(a, dim=-1))
    read = tokenizer(texts, padding=True, return_tensors="pt")
    t = model.text_projection(model.text_model(**read).pooler_output)
    torch.testing.assert_close(clap[1].embed(texts), F.normalize(t, dim=-1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_fused_clap_hears_a_whole_window_by_its_first_branch(make_clap_folder):
    folder = make_clap_folder(fused=True)
    encoder, _ = load_folder(folder)
    model, extractor, _ = whole(folder)
    sound = noise(1.0)
    heard = extractor([sound.waveform[0].numpy()], sampling_rate=48000, return_tensors="pt")
    assert heard["input_features"].shape[1] == 4
    longer = torch.zeros(1, 1, dtype=torch.bool)
    out = model.audio_model(input_features=heard["input_features"], is_longer=longer)
    expected = F.normalize(model.audio_projection(out.pooler_output), dim=-1)
    torch.testing.assert_close(encoder.embed([sound]), expected)
    assert torch.equal(encoder.embed([noise(3.2)]), encoder.embed([noise(3.2)]))


def test_a_long_sound_is_the_mean_of_its_windows(clap):
    encoder, sound = clap[0], noise(2.6)
    parts = torch.cat([encoder.embed([sound.cut(start, 1.0)]) for start in (0, 1, 2)])
    torch.testing.assert_close(encoder.embed([sound])[0], F.normalize(parts.mean(0), dim=-1))
    short_rest = Sound(sound.waveform[:, : int(2.2 * 48000)], 48000)
    torch.testing.assert_close(encoder.embed([short_rest]), encoder.embed([sound.cut(0, 2)]))


def test_odd_sounds_are_heard(clap):
    sounds = [noise(0.1, 8000), noise(1.3, 44100, channels=2), noise(0.02)]
    together = clap[0].embed(sounds)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(together[1:2], clap[0].embed(sounds[1:2]))
    assert torch.equal(clap[0].embed(iter(sounds)), together) and clap[0].embed(iter(())).shape == (0, 24)
    assert clap[0].embed([]).shape == (0, 24) and clap[1].embed([]).shape == (0, 24)


def test_loudness_reaches_the_embedding(clap):
    sound = noise(1.0)
    quiet = Sound(sound.waveform * 0.05, sound.rate)
    assert not torch.allclose(clap[0].embed([sound]), clap[0].embed([quiet]), atol=1e-3)


def test_a_clap_folder_is_a_sound_encoder_without_words(clap_folder):
    encoder = loaders.load(clap_folder)
    assert (encoder.rate, encoder.seconds, encoder.dim, encoder.space) == (48000, 1.0, 24, "clap")
    assert not encoder.sees
    heard = base.encode_sound(encoder, noise(1.0))
    assert heard.labels == [] and base.nearest_words(encoder, heard.f_a[None])[0].words == []
    with pytest.raises(InputError, match="bridge it"):
        loaders.save(encoder, clap_folder / "x.safetensors")


def test_the_licence_is_the_model_cards(clap_folder, tmp_path):
    assert "not stated" in load_folder(clap_folder)[0].notes["licence"]
    shutil.copytree(clap_folder, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Mine\n", encoding="utf-8")
    encoder, _ = load_folder(tmp_path / "mine")
    assert encoder.notes["licence"] == "cc0-1.0" and encoder.name == "mine"


def test_weights_in_a_bin_are_read(clap_folder, tmp_path, clap):
    """What LAION publishes is pytorch_model.bin."""
    shutil.copytree(clap_folder, tmp_path / "bin")
    model = whole(clap_folder)[0]
    torch.save(model.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.testing.assert_close(
        load_folder(tmp_path / "bin")[0].embed([noise(1.0)]), clap[0].embed([noise(1.0)])
    )


class Trap:
    def __reduce__(self):
        return print, ("executed",)


def test_folders_that_are_no_whole_clap_get_a_sentence(clap_folder, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    with pytest.raises(InputError, match="no CLAP folder.*nowhere"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        loaders.load(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"another model \(clip\)"):
        load_folder(tmp_path / "empty")
    assert is_clap_folder(clap_folder) and not is_clap_folder(tmp_path / "empty")
    for name, damage in (
        ("no_mel", lambda folder: (folder / "preprocessor_config.json").unlink()),
        ("no_weights", lambda folder: (folder / "model.safetensors").unlink()),
        ("torn", lambda folder: (folder / "model.safetensors").write_bytes(b"torn")),
    ):
        shutil.copytree(clap_folder, tmp_path / name)
        damage(tmp_path / name)
        with pytest.raises(InputError, match="cannot be read"):
            load_folder(tmp_path / name)
    shutil.copytree(clap_folder, tmp_path / "part")
    weights = load_file(str(clap_folder / "model.safetensors"))
    part = {k: v for k, v in weights.items() if "audio_projection" not in k}
    save_file(part, str(tmp_path / "part" / "model.safetensors"), {"format": "pt"})
    with pytest.raises(InputError, match="lacks weights.*audio_projection"):
        load_folder(tmp_path / "part")
    torch.save({"x": Trap()}, tmp_path / "no_weights" / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read"):
        load_folder(tmp_path / "no_weights")
    assert "executed" not in capsys.readouterr().out
