"""The files of sound encoders, whole and damaged."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aai import files
from aai.audio import Sound
from aai.encoders import cavmae_encoder, loaders
from aai.encoders.cavmae import CAVMAE
from aai.encoders.known import Known
from aai.errors import InputError


def noise(seconds, rate=16000, seed=0, channels=1):
    return Sound(
        0.1 * torch.randn(channels, int(seconds * rate), generator=torch.Generator().manual_seed(seed)), rate
    )


def test_a_file_brings_the_encoder_back(encoder, tmp_path, tiny):
    loaders.save(encoder, tmp_path / "tiny.safetensors", dtype=torch.float32, made_by="a test")
    again = loaders.load(tmp_path / "tiny.safetensors")
    assert (again.labels, again.name, again.model.config) == (encoder.labels, "tiny", tiny)
    torch.testing.assert_close(again.embed([noise(1)]), encoder.embed([noise(1)]))
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_a_file_holds_what_the_encoder_knows(encoder, tmp_path):
    path = tmp_path / "tiny.safetensors"
    loaders.save(encoder, path)
    assert loaders.load(path).known is None
    encoder.known = Known(torch.randn(3, 16), torch.randn(3), torch.randn(3), 0.5, 0.25)
    loaders.save(encoder, path)
    again, f_a = loaders.load(path), torch.randn(4, 16)
    assert again.known.threshold == 0.25 and "known" not in again.notes
    torch.testing.assert_close(again.known.logits(f_a), encoder.known.logits(f_a))
    tensors, metadata = files.read_safetensors(path)
    files.write_safetensors(path, tensors, metadata | {"known": "null"}, "The encoder")
    with pytest.raises(InputError, match=r"tiny\.safetensors.*settings that cannot be read"):
        loaders.load(path)


def test_a_file_says_its_padding_and_one_without_the_entry_pads_the_waveform(encoder, tmp_path):
    path, sound = tmp_path / "tiny.safetensors", noise(0.4)
    embeddings = {}
    for padding in ("waveform", "fbank", "none"):
        encoder.padding = padding
        loaders.save(encoder, path, torch.float32)
        with safe_open(str(path), "pt") as file:
            assert file.metadata()["padding"] == padding
        again = loaders.load(path)
        assert again.padding == padding and "padding" not in again.notes
        embeddings[padding] = again.embed([sound])
        torch.testing.assert_close(embeddings[padding], encoder.embed([sound]))
    assert not torch.allclose(embeddings["waveform"], embeddings["fbank"], atol=1e-3)
    with safe_open(str(path), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    save_file(tensors, str(path), {k: v for k, v in metadata.items() if k != "padding"})
    older = loaders.load(path)
    assert older.padding == "waveform"
    torch.testing.assert_close(older.embed([sound]), embeddings["waveform"])
    save_file(tensors, str(path), metadata | {"padding": "echo"})
    with pytest.raises(InputError, match=r"tiny\.safetensors.*padding 'echo'"):
        loaders.load(path)


def test_what_is_no_encoder_is_refused_by_name(encoder, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        loaders.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04not weights")
    with pytest.raises(InputError, match=r"pickle\.safetensors"):
        loaders.load(tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match=r"other\.safetensors"):
        loaders.load(tmp_path / "other.safetensors")
    loaders.save(encoder, tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata = file.metadata()
        tensors = {k: file.get_tensor(k) for k in file.keys() if "blocks_u.0.attn" not in k}
    save_file(tensors, str(tmp_path / "part.safetensors"), metadata)
    with pytest.raises(InputError, match=r"part\.safetensors.*lacks"):
        loaders.load(tmp_path / "part.safetensors")


def test_settings_that_do_not_fit_are_refused_by_name(encoder, tmp_path):
    loaders.save(encoder, tmp_path / "whole.safetensors")
    with safe_open(str(tmp_path / "whole.safetensors"), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for changed, words in (
        ({"config": '{"dim": 16, "colour": 3}'}, "settings"),
        ({"config": "{"}, "settings"),
        ({"labels": '["rain"]'}, "1 labels"),
        ({"labels": '{"rain": 1, "dog": 2, "clock": 3}'}, "list of words"),
        ({"labels": "[1, 2, 3]"}, "list of words"),
        ({"labels": "[" * 100_000}, "settings"),
        ({"config": "[" * 100_000}, "settings"),
        ({"config": "null"}, "settings"),
        ({"config": metadata["config"].replace('"heads": 2', '"heads": 0')}, "heads 0"),
        ({"config": metadata["config"].replace('"heads": 2', '"heads": 3')}, "3 heads"),
        ({"config": metadata["config"].replace('"dim": 16', '"dim": 1000000000')}, "larger model"),
        ({"config": metadata["config"].replace('"depth_a": 2', '"depth_a": 1000000000')}, "larger model"),
        ({"config": metadata["config"].replace('"frames": 96', '"frames": 1000000000')}, "larger model"),
        ({"config": metadata["config"].replace('"seconds": 0.96', '"seconds": 1e9')}, "windows of"),
        ({"config": metadata["config"].replace('"rate": 16000', '"rate": 6000011')}, "6000011"),
        ({"config": metadata["config"].replace('"frames": 96', '"frames": 64')}, "other sizes"),
    ):
        save_file(tensors, str(tmp_path / "odd.safetensors"), metadata | changed)
        with pytest.raises(InputError, match=rf"odd\.safetensors.*{words}"):
            loaders.load(tmp_path / "odd.safetensors")


def test_an_encoder_with_one_shared_block_is_saved_as_two(tmp_path, tiny):
    torch.manual_seed(0)
    shared = cavmae_encoder.CAVMAEEncoder(CAVMAE(tiny, share_unified=True), ["rain"], torch.randn(1, 16))
    loaders.save(shared, tmp_path / "shared.safetensors", dtype=torch.float32)
    again = loaders.load(tmp_path / "shared.safetensors")
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.embed_images(images), shared.embed_images(images))
    assert again.model.blocks_u_v[0] is not again.model.blocks_u[0]


def test_a_folder_that_takes_nothing_gives_a_sentence(encoder, tmp_path):
    with pytest.raises(InputError, match="cannot be saved"):
        loaders.save(encoder, tmp_path / "missing" / "tiny.safetensors")
