"""`aai align convert`: a public CAV-MAE becomes an encoder of this pack."""

import json

import pytest
import torch
from safetensors import safe_open

from aai.encoders import cavmae_checkpoint, loaders
from aai.encoders.sgsim import SGSIMTower


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


def test_a_rival_is_converted_with_the_words_of_its_clip(aai, tmp_path, make_tokenizer):
    from transformers import CLIPConfig, CLIPModel

    tokenizer = make_tokenizer()
    text = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                  image_size=32, patch_size=32)  # fmt: skip
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
    for part in (clip, tokenizer):
        part.save_pretrained(tmp_path / "clip")
    torch.save(SGSIMTower().state_dict(), tmp_path / "resnet18_57.pth")
    (tmp_path / "more.txt").write_text("dog and fire\n", encoding="utf-8")
    file = ("align", "convert", str(tmp_path / "resnet18_57.pth"), "-o")
    words = ("--text", str(tmp_path / "clip"), "--captions", str(tmp_path / "more.txt"))
    code, out, _ = aai(*file, str(tmp_path / "s.safetensors"), *words)
    encoder = loaders.load(tmp_path / "s.safetensors")
    assert code == 0 and "SGSIM, licence CC-BY-NC-SA-4.0" in out and f"{len(encoder.labels)} words" in out
    assert encoder.name == "s" and encoder.notes["source"] == "resnet18_57.pth"
    read = encoder.text_tower(tmp_path / "clip").embed(["rain", "dog and fire"])
    own = encoder.label_vectors[[encoder.labels.index("rain"), encoder.labels.index("dog and fire")]]
    torch.testing.assert_close(own, read)
    code, out, _ = aai(*file, str(tmp_path / "t.safetensors"))
    assert code == 0 and "no words" in out and loaders.load(tmp_path / "t.safetensors").labels == []


def test_words_that_nothing_reads_are_refused(convert, tmp_path):
    (tmp_path / "more.txt").write_text("dog and fire\n", encoding="utf-8")
    for options, says in (
        (("--captions", "more.txt"), "so --captions does nothing: give --text too"),
        (("--text", "clip", "--captions", "more.txt"), "'public.pth' is a CAV-MAE, which learns its words"),
    ):
        code, out, err = convert("start.safetensors", *options)
        assert code == 2 and not out and says in err and err.count("\n") == 1
        assert not (tmp_path / "start.safetensors").exists()


def test_a_converted_file_needs_an_encoders_name(convert, tmp_path):
    (tmp_path / "data").mkdir()
    for output, says in (("start.pth", "end in .safetensors"), ("data", "is a folder")):
        code, _, err = convert(output)
        assert code == 2 and says in err and not (tmp_path / "start.pth").exists()
