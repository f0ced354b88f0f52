"""Labels become vectors: by a Stable Diffusion folder's CLIP, by SoundWorld's reader, by any tower."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from aai.encoders.clip import CLIP, CLIPText, load_clip, load_clip_text, load_tokenizer
from aai.errors import InputError


@pytest.fixture
def parts(make_parts):
    return make_parts()


def end_states(parts, texts):
    """The final LayerNorm's output at each text's first end token, word by word without padding."""
    tower = getattr(parts.text_encoder, "text_model", parts.text_encoder)
    seen = []
    hook = tower.final_layer_norm.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        for text in texts:
            parts.text_encoder(torch.tensor([parts.tokenizer(text)["input_ids"]]))
    hook.remove()
    return torch.stack([states[0, -1] for states in seen])


def test_a_text_is_its_end_tokens_state_after_the_final_norm(parts):
    texts = ["rain", "a dog in the city", "fire"]
    tower = CLIPText(parts.tokenizer, parts.text_encoder)
    assert tower.dim == 32
    torch.testing.assert_close(tower.embed(texts), end_states(parts, texts), rtol=1e-4, atol=1e-5)
    assert tower.embed([]).shape == (0, 32)
    assert tower.embed(["rain " * 200]).shape == (1, 32)


def test_a_diffusers_folder_and_a_clip_folder_are_read(parts, tmp_path):
    parts.text_encoder.save_pretrained(tmp_path / "sd" / "text_encoder")
    parts.tokenizer.save_pretrained(tmp_path / "sd" / "tokenizer")
    parts.text_encoder.save_pretrained(tmp_path / "clip")
    parts.tokenizer.save_pretrained(tmp_path / "clip")
    expected = CLIPText(parts.tokenizer, parts.text_encoder).embed(["rain", "dog"])
    for folder in ("sd", "clip"):
        tower = load_clip_text(tmp_path / folder)
        torch.testing.assert_close(tower.embed(["rain", "dog"]), expected)
        assert tower.name.endswith(folder)
        read = load_tokenizer(tmp_path / folder)("a dog")
        assert read["input_ids"] == parts.tokenizer("a dog")["input_ids"]


def test_folders_of_the_fp16_variant_alone_are_read(parts, tmp_path):
    expected = CLIPText(parts.tokenizer, parts.text_encoder).embed(["rain"])
    for folder, name in (("sd", "text_encoder"), ("clip", ".")):
        parts.text_encoder.save_pretrained(tmp_path / folder / name, variant="fp16")
        parts.tokenizer.save_pretrained(tmp_path / folder / (name if name == "." else "tokenizer"))
        assert not list((tmp_path / folder).rglob("model.safetensors"))
        torch.testing.assert_close(load_clip_text(tmp_path / folder).embed(["rain"]), expected)


def test_a_hubs_repository_of_the_fp16_variant_alone_is_read(parts, tmp_path, hub):
    for folder, name in (("sd", "text_encoder"), ("clip", ".")):
        parts.text_encoder.save_pretrained(tmp_path / "hub" / folder / name, variant="fp16")
        parts.tokenizer.save_pretrained(tmp_path / "hub" / folder / (name if name == "." else "tokenizer"))
    code = (
        "from aai.encoders.clip import load_clip_text\n"
        "for name in ('nobody/sd', 'nobody/clip'): print(load_clip_text(name).embed(['rain']).sum().item())"
    )
    expected = CLIPText(parts.tokenizer, parts.text_encoder).embed(["rain"]).sum().item()
    for offline in (False, True):
        assert [float(line) for line in hub(code, offline).split()] == pytest.approx([expected] * 2, abs=1e-5)


@pytest.mark.parametrize("damage", ["null", "torn", "sizes", "missing", "pickle", "no weights", "deep"])
def test_damaged_folders_give_a_sentence(parts, tmp_path, damage):
    parts.text_encoder.save_pretrained(tmp_path)
    parts.tokenizer.save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors = load_file(weights)
    if damage == "null":
        config.write_text("null", encoding="utf-8")
    elif damage == "deep":
        config.write_text("[" * 100_000, encoding="utf-8")
    elif damage == "torn":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "sizes":
        settings = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps(settings | {"hidden_size": 64}), encoding="utf-8")
    elif damage == "missing":
        save_file({k: v for k, v in tensors.items() if "fc1" not in k}, str(weights), {"format": "pt"})
    else:
        weights.unlink()
        if damage == "pickle":
            torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="gives no CLIP text encoder"):
        load_clip_text(tmp_path)
    with pytest.raises(InputError, match="CLIP"):
        load_clip(tmp_path)


def test_settings_of_a_wrong_kind_are_told_when_they_are_read(parts, tmp_path):
    """transformers loads them, and fails at the first word."""
    parts.text_encoder.save_pretrained(tmp_path)
    parts.tokenizer.save_pretrained(tmp_path)
    for name, key in (("config.json", "eos_token_id"), ("tokenizer_config.json", "model_max_length")):
        settings = json.loads((tmp_path / name).read_text(encoding="utf-8")) | {key: {"of": "another kind"}}
        (tmp_path / name).write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(InputError, match="gives no CLIP text encoder"):
        load_clip_text(tmp_path)
    clip = CLIP.__new__(CLIP)
    clip.folder = tmp_path
    with pytest.raises(InputError, match="tokenizer of the CLIP folder.*cannot be read"):
        _ = clip.tokenizer


def test_what_holds_no_clip_is_refused_by_name(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(InputError, match="gives no CLIP"):
        load_clip_text(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/no-such-model.*network"):
        load_clip_text("nobody/no-such-model")


def test_a_damaged_tokenizer_gets_a_sentence(tmp_path):
    (tmp_path / "vocab.json").write_text("{not json", encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    clip = CLIP.__new__(CLIP)
    clip.folder = tmp_path
    with pytest.raises(InputError, match="tokenizer of the CLIP folder.*cannot be read"):
        _ = clip.tokenizer
