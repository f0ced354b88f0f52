"""CAV-MAE's towers: their sizes, their patches, and the block that both share."""

import pytest
import torch

from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.errors import InputError


def test_published_sizes_give_the_published_parameters():
    with torch.device("meta"):
        model = CAVMAE(CAVMAEConfig())
    audio = sum(p.numel() for p in model.audio_parameters())
    # 85.72 M less the norms that only the other modality or the joint pass uses.
    assert 85.5e6 < audio < 86.0e6
    keys = model.state_dict().keys()
    assert {
        "patch_embed_a.proj.weight",
        "blocks_a.10.norm1_v.bias",
        "blocks_u.0.attn.qkv.weight",
        "norm.weight",
    } <= set(keys)
    assert model.pos_embed_a.shape == (1, 512, 768) and model.pos_embed_v.shape == (1, 196, 768)


def test_patches_are_read_frequency_first(tiny):
    model = CAVMAE(tiny)
    fbanks = torch.zeros(1, 96, 128)
    fbanks[0, 16:32, 32:48] = 1.0
    tokens = model.patch_embed_a(fbanks.transpose(1, 2)[:, None])[0]
    different = (tokens - tokens[0]).abs().sum(-1).nonzero()[:, 0].tolist()
    assert different == [2 * 6 + 1]


def test_the_two_copies_of_the_shared_block_part(encoder, tiny):
    model = encoder.model
    images, fbanks = torch.randn(2, 3, 32, 32), torch.randn(2, 96, 128)
    seen, heard = model.visual_features(images), model.audio_features(fbanks)
    with torch.no_grad():
        model.blocks_u[0].mlp.fc2.bias.add_(1.0)
    assert torch.equal(model.visual_features(images), seen)
    assert not torch.equal(model.audio_features(fbanks), heard)
    assert len(list(CAVMAE(tiny, share_unified=True).parameters())) < len(list(model.parameters()))


def published(model):
    """The model's weights as the public files name them: one shared block, a prefix, a decoder's parts."""
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks_u_v.")}
    kept |= {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    return {f"module.{k}": v for k, v in kept.items()}


def test_a_published_file_fills_both_copies_of_the_shared_block(encoder, tiny):
    model = CAVMAE(tiny).eval()
    model.load_published(published(encoder.model))
    for copy in (model.blocks_u, model.blocks_u_v):
        assert torch.equal(copy[0].attn.qkv.weight, encoder.model.blocks_u[0].attn.qkv.weight)
    assert model.blocks_u[0].attn.qkv.weight is not model.blocks_u_v[0].attn.qkv.weight
    fbanks = torch.randn(2, 96, 128)
    assert torch.equal(model.audio_features(fbanks), encoder.model.audio_features(fbanks))
    CAVMAE(tiny, share_unified=True).load_published(published(encoder.model))


def test_a_published_file_that_lacks_weights_is_refused(encoder, tiny):
    whole = published(encoder.model)
    lacking = {k: v for k, v in whole.items() if "blocks_v" not in k}
    other_size = whole | {"module.pos_embed_a": torch.zeros(1, 7, 16)}
    unknown = whole | {"module.text_projection": torch.zeros(1)}
    for tensors, word in ((lacking, "lacks"), (other_size, "other sizes"), (unknown, "unknown")):
        with pytest.raises(InputError, match=rf"mine\.pth.*{word}"):
            CAVMAE(tiny).load_published(tensors, "mine.pth")
