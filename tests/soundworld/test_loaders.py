"""SoundWorld's shipped weights, and sentences where they are missing or damaged."""

import os
import shutil

import pytest
import torch

from aai.errors import InputError
from aai.files import write_safetensors
from aai.prompt import Prompt
from aai.soundworld import loaders
from aai.soundworld.models import FLOW_FAMILY, build_flow
from aai.soundworld.text import CaptionEncoder
from aai.soundworld.world import EVENTS


def test_the_shipped_models_belong_together():
    encoder = loaders.load_sound_encoder()
    captions = CaptionEncoder(*loaders.load_text(loaders.WEIGHTS))
    words = captions.embed(list(encoder.labels))
    cosines = torch.cosine_similarity(words, encoder.label_vectors, dim=-1)
    # The weights are kept in half precision.
    torch.testing.assert_close(cosines, torch.ones(len(EVENTS)), atol=1e-3, rtol=0)
    assert not any(p.requires_grad for p in captions.model.parameters())
    assert {tensor.dtype for tensor in loaders.read_weights("oracle").values()} == {torch.float32}


def test_missing_weights_are_named(tmp_path):
    for load in (loaders.load_oracle, loaders.load_picture_model, loaders.load_sound_encoder):
        with pytest.raises(InputError, match=r"weights are missing .*\.safetensors"):
            load(tmp_path)


def test_damaged_weights_get_a_sentence(tmp_path):
    (tmp_path / "oracle.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"oracle\.safetensors' cannot be read"):
        loaders.load_oracle(tmp_path)


def test_the_flow_transformer_is_loaded_by_its_name(tmp_path):
    """With random weights, in the keys and the type of the shipped ones."""
    folder = shutil.copytree(loaders.WEIGHTS, tmp_path / "weights", copy_function=os.link)
    (folder / "flow.safetensors").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"weights are missing .*flow\.safetensors"):
        loaders.load_picture_model(folder, "flow")
    torch.manual_seed(0)
    state = {k: v.half() for k, v in build_flow().state_dict().items()}
    write_safetensors(folder / "flow.safetensors", state, {}, "SoundWorld's weights")
    model = loaders.load_picture_model(folder, "flow")
    assert model.family == FLOW_FAMILY and model.native_size == 128 and model.dtype == torch.float32
    assert torch.equal(model.denoiser.proj_out.weight.half(), state["proj_out.weight"])
    unet = loaders.load_picture_model(folder)
    rain, words = Prompt("a city under rain"), "rain and " * 20
    cond, other = model.encode_prompt(rain), unet.encode_prompt(rain)
    # The same states as the U-Net reads, of 24 places; more where the prompt has more.
    assert torch.allclose(cond.cross, other.cross[:, :24], atol=1e-5) and cond.cross.shape[1] == 24
    assert cond.pooled is None and model.encode_prompt(Prompt(words)).cross.shape[1] > 40
    assert model.text_encoders == unet.text_encoders
    images = torch.rand(1, 3, 128, 128)
    assert torch.equal(model.encode_images(images), unet.encode_images(images))
    drawn = model.sample(cond, model.encode_prompt(Prompt("")), seeds=[1], steps=2, guidance=3.0)
    assert drawn.shape == (1, 32, 16, 16) and torch.isfinite(model.decode(drawn)).all()
