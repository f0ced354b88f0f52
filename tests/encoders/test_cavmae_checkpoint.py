"""Public CAV-MAE files, with random weights in the published layouts."""

import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from aai.encoders import loaders as encoders
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.encoders.cavmae_checkpoint import load_published, read
from aai.errors import InputError
from bench.cavmae_decoder import Decoder, DecoderConfig, decoder_of, whole_file

SMALL = DecoderConfig(dim=8, depth=2, heads=2)


@pytest.fixture(scope="module")
def tensors(tiny):
    torch.manual_seed(0)
    return whole_file(CAVMAE(tiny), Decoder(tiny, SMALL))


def write(path, tensors):
    torch.save(OrderedDict(tensors), path)
    return path


def test_the_published_sizes_give_the_published_647_tensors():
    with torch.device("meta"):
        whole = whole_file(CAVMAE(CAVMAEConfig()), Decoder(CAVMAEConfig()))
    assert len(whole) == 647
    assert sum(value.numel() for value in whole.values()) == pytest.approx(191.036e6, rel=1e-4)
    shapes = {key.removeprefix("module."): tuple(value.shape) for key, value in whole.items()}
    assert shapes["decoder_pos_embed_v"] == (1, 196, 512) and shapes["decoder_embed.weight"] == (512, 768)
    assert shapes["decoder_pred_a.weight"] == (256, 512) and shapes["decoder_pred_v.weight"] == (768, 512)
    assert shapes["decoder_blocks.7.attn.qkv.weight"] == (1536, 512)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_pre_trained_file_comes_back_whole(tensors, tmp_path, suffix, tiny):
    path = tmp_path / f"audio_model.21.{suffix}"
    write(path, tensors) if suffix == "pth" else save_file(tensors, str(path))
    published = read(path)
    assert published.layout == "pre-trained" and sum(published.parts.values()) == len(tensors)
    assert set(published.parts) == {"audio", "visual", "unified", "decoder"}
    encoder = load_published(path, tiny)
    again = whole_file(encoder.model, decoder_of(published, tiny, SMALL))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)


def test_it_gives_an_encoder_that_is_not_aligned_yet(tensors, tmp_path, tiny):
    encoder = load_published(write(tmp_path / "audio_model.21.pth", tensors), tiny)
    assert encoder.labels == [] and encoder.label_vectors.shape == (0, 16) and encoder.dim == 16
    assert encoder.name == "CAV-MAE audio_model.21"
    encoders.save(encoder, tmp_path / "start.safetensors", torch.float32)
    again = encoders.load(tmp_path / "start.safetensors")
    assert again.labels == [] and again.label_vectors.shape == (0, 16)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.embed_images(images), encoder.embed_images(images))


def test_a_fine_tuned_file_is_told_apart(tensors, tmp_path, tiny):
    tuned = {k: v for k, v in tensors.items() if "decoder" not in k and "mask_token" not in k}
    tuned |= {f"module.mlp_head.{k}": torch.zeros(3) for k in ("0.weight", "0.bias", "1.weight", "1.bias")}
    published = read(write(tmp_path / "tuned.pth", tuned))
    assert published.layout == "fine-tuned" and published.parts["classifier"] == 4
    assert load_published(tmp_path / "tuned.pth", tiny).dim == 16
    with pytest.raises(InputError, match=r"tuned\.pth.*no decoder"):
        decoder_of(published, tiny, SMALL)


def test_what_is_missing_is_named(tensors, tmp_path, tiny):
    path = tmp_path / "part.pth"
    write(path, {k: v for k, v in tensors.items() if "blocks_v.0.mlp.fc1" not in k})
    with pytest.raises(InputError, match=r"part\.pth.*lacks 2.*blocks_v\.0\.mlp\.fc1\.bias"):
        load_published(path, tiny)
    write(path, {k: v for k, v in tensors.items() if "decoder_norm" not in k})
    with pytest.raises(InputError, match=r"lacks 2.*decoder_norm"):
        decoder_of(read(path), tiny, SMALL)
    write(path, {k: v for k, v in tensors.items() if "_v" not in k})
    with pytest.raises(InputError, match=r"no visual part"):
        load_published(path, tiny)


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_no_pickle_is_executed_and_no_other_family_taken(tmp_path, capsys):
    for name, content in (
        ("trap.pth", pickle.dumps({"module.modality_a": Trap()})),
        ("torn.pth", b"PK\x03\x04 torn"),
        ("empty.pth", b""),
        ("torn.safetensors", b"\x00\x01"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}.*tensors alone"):
            read(tmp_path / name)
    torch.save({"model": Trap()}, tmp_path / "zip.pth")
    with pytest.raises(InputError, match=r"zip\.pth.*tensors alone"):
        read(tmp_path / "zip.pth")
    assert "executed" not in capsys.readouterr().out
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(InputError, match=r"epoch\.pth.*more than named tensors"):
        read(tmp_path / "epoch.pth")
    save_file({"model.diffusion_model.x": torch.zeros(1)}, str(tmp_path / "sd.safetensors"))
    with pytest.raises(InputError, match=r"sd\.safetensors.*another family"):
        read(tmp_path / "sd.safetensors")
    with pytest.raises(InputError, match="nowhere"):
        read(tmp_path / "nowhere.pth")
