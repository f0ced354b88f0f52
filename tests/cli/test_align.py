"""`aai align convert`: a public CAV-MAE becomes an encoder of this pack."""

import json

import pytest
import torch
from safetensors import safe_open

from aai.encoders import cavmae_checkpoint, loaders


@pytest.fixture
def convert(aai, public_file, tiny_cavmae, monkeypatch, tmp_path):
    """convert("out.safetensors", ...) -> exit code, stdout, stderr; run in a folder of its own."""
    monkeypatch.setattr(cavmae_checkpoint, "CAVMAEConfig", lambda: tiny_cavmae)
    monkeypatch.chdir(tmp_path)
    return lambda output, *options: aai("align", "convert", str(public_file), "-o", output, *options)


def test_both_towers_are_converted_and_know_no_words(convert, public_file, tmp_path):
    code, out, err = convert("start.safetensors", "--json")
    assert code == 0 and not err
    report = json.loads(out)
    assert report["file"] == "start.safetensors" and set(report) == {"file", "layout", "parts"}
    encoder, published = loaders.load(tmp_path / "start.safetensors"), cavmae_checkpoint.read(public_file)
    assert encoder.labels == [] and encoder.sees
    state = cavmae_checkpoint.encoder_of(published).model.state_dict()
    for name, tensor in encoder.model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


def test_half_precision_is_kept_and_other_files_stay(convert, tmp_path):
    assert convert("half.safetensors", "--half")[0] == 0
    with safe_open(tmp_path / "half.safetensors", "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}
        assert torch.float16 in kinds and file.metadata()["made_by"] == "aai align convert"
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    code, _, err = convert("mine.safetensors")
    assert code == 2 and "--force" in err and (tmp_path / "mine.safetensors").read_bytes() == b"mine"
    assert convert("mine.safetensors", "--force")[0] == 0


def test_a_converted_file_needs_an_encoders_name(convert, tmp_path):
    (tmp_path / "data").mkdir()
    for output, says in (("start.pth", "end in .safetensors"), ("data", "is a folder")):
        code, _, err = convert(output)
        assert code == 2 and says in err and not (tmp_path / "start.pth").exists()
