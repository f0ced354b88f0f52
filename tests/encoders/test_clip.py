"""Labels become vectors: by a Stable Diffusion folder's CLIP, by SoundWorld's reader, by any tower."""

import pytest
import torch

from aai.encoders.clip import CLIPText, load_clip_text
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


def test_what_holds_no_clip_is_refused_by_name(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(InputError, match="gives no CLIP"):
        load_clip_text(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/no-such-model.*network"):
        load_clip_text("nobody/no-such-model")
