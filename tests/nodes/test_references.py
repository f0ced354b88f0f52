"""References through the node, in process."""

from __future__ import annotations

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image


@pytest.fixture
def folder(comfy):
    folder = comfy / "input" / "weather"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    generator = torch.Generator().manual_seed(0)
    for i, mode in enumerate(("RGB", "RGBA", "L", "RGB")):
        pixels = (torch.rand(40 + 9 * i, 60, 4, generator=generator) * 255).byte().numpy()
        Image.fromarray(pixels, "RGBA").convert(mode).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_references_come_from_a_folder_best_first(run, pack, ear, folder, embedding):
    inputs = dict(embedding=embedding, sound_encoder=ear, library="weather", k=3)
    images, scores = run("AAI_RetrieveReferenceImages", **inputs)
    values = [float(line.rsplit(" ", 1)[1]) for line in scores.splitlines()]
    assert images.shape == (3, 1024, 1024, 3) and values == sorted(values, reverse=True)
    pictures = torch.stack([pack.part("aai.image").load(folder / f"{i}.png", 128) for i in range(4)])
    cosine = ear.embed_images(pictures) @ torch.nn.functional.normalize(embedding.f_a, dim=-1)
    assert scores.splitlines()[0] == f"{cosine.argmax()}.png {cosine.max():.3f}"
    best = f"{cosine.argmax()}"
    _, others = run("AAI_RetrieveReferenceImages", **inputs, own_clip=f"{best}.wav", clip_model="none")
    assert len(others.splitlines()) == 3 and not any(x.startswith(best) for x in others.splitlines())


def test_a_named_picture_is_used_and_a_clips_own_is_said_to_be_left_out(
    run, pack, ear, folder, embedding, caplog
):
    (folder / "3.png").rename(folder / "thunder.png")
    inputs = dict(sound_encoder=ear, library="weather", k=4)
    of_thunder = dataclasses.replace(embedding, sound="thunder.wav")
    _, scores = run("AAI_RetrieveReferenceImages", embedding=of_thunder, **inputs)
    assert len(scores.splitlines()) == 4 and "thunder.png" in scores
    assert not [r for r in caplog.records if "left out as" in r.getMessage()]
    numbered = dataclasses.replace(embedding, sound="2.wav")
    output = pack.nodes["AAI_RetrieveReferenceImages"].execute(embedding=numbered, **inputs)
    assert "2.png" not in output.result[1] and len(output.result[1].splitlines()) == 3
    assert output.ui["text"][0].startswith("'2.png' is left out as the sound's own clip '2'")
    assert output.ui["text"][0] in caplog.text
    # What is named there is left out whatever it is called.
    output = pack.nodes["AAI_RetrieveReferenceImages"].execute(
        embedding=embedding, own_clip="thunder", **inputs
    )
    assert "thunder.png" not in output.result[1] and "'thunder.png' is left out" in output.ui["text"][0]


def test_a_folder_below_another_is_a_library(run, pack, ear, folder, embedding):
    node = pack.nodes["AAI_RetrieveReferenceImages"]
    (folder / "summer").mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "summer" / "beach.png")
    assert node.validate_inputs(library="weather/summer") is True
    before = node.fingerprint_inputs(library="weather/summer", k=1)
    _, scores = run(
        "AAI_RetrieveReferenceImages", embedding=embedding, sound_encoder=ear, library="weather/summer", k=1
    )
    assert scores.startswith("beach.png ")
    Image.new("RGB", (8, 8), "blue").save(folder / "summer" / "sea.png")
    assert node.fingerprint_inputs(library="weather/summer", k=1) != before
    stamp = pack.part("nodes.datasets").stamp
    assert stamp("weather/summer") is not None and stamp("weather/winter") is None
    shutil.rmtree(folder / "summer")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../input",
        "weather/../weather",
        "weather/0.png",
        "weather/none",
        "x" * 300,
        "/",
        "a\0b",
    ],
)
def test_what_is_no_folder_of_the_input_folder_is_refused(run, pack, ear, folder, embedding, name):
    answer = pack.nodes["AAI_RetrieveReferenceImages"].validate_inputs(library=name)
    assert answer is not True and answer.startswith("There is no folder")
    with pytest.raises(pack.part("aai.errors").InputError, match="There is no folder"):
        run("AAI_RetrieveReferenceImages", embedding=embedding, sound_encoder=ear, library=name, k=1)


def test_an_absolute_folder_is_refused(pack, folder):
    answer = pack.nodes["AAI_RetrieveReferenceImages"].validate_inputs(library=str(folder))
    assert answer is not True and answer.startswith("There is no folder")


def test_a_large_models_references_keep_their_detail(run, pack, ear, comfy, embedding):
    lines = torch.zeros(1024, 1024, dtype=torch.uint8)
    lines[:, ::2] = 255
    (comfy / "input" / "fine").mkdir()
    Image.fromarray(lines.numpy()).save(comfy / "input" / "fine" / "lines.png")
    images, _ = run(
        "AAI_RetrieveReferenceImages", embedding=embedding, sound_encoder=ear, library="fine", k=1
    )
    assert torch.equal(pack.part("nodes.pictures").square(images, 1024)[0, 0] * 255, lines.float())


def test_a_changed_folder_runs_again_and_its_index_does_not(run, pack, ear, folder, embedding):
    node = pack.nodes["AAI_RetrieveReferenceImages"]
    inputs = dict(embedding=embedding, sound_encoder=ear, library="weather", k=1)
    before = node.fingerprint_inputs(library="weather", k=1)
    run("AAI_RetrieveReferenceImages", **inputs)
    assert list(folder.glob(".aai-library-*.safetensors"))
    assert node.fingerprint_inputs(library="weather", k=1) == before
    # It goes into every picture that the graph saves.
    assert "0.png" not in str(before)
    (folder / "0.png").unlink()
    assert node.fingerprint_inputs(library="weather", k=1) != before
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(pack.part("aai.errors").InputError, match="no pictures"):
        run("AAI_RetrieveReferenceImages", **inputs)


def test_cancel_ends_the_seeing(run, ear, folder, embedding, monkeypatch):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        run("AAI_RetrieveReferenceImages", embedding=embedding, sound_encoder=ear, library="weather", k=1)
    assert list(folder.glob(".aai-library-*.safetensors"))


def test_an_encoder_that_cannot_see_goes_through_clip(run, pack, comfy, folder, embedding):
    import folder_paths
    from transformers import CLIPConfig, CLIPModel

    text = dict(hidden_size=192, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                vocab_size=99)  # fmt: skip
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                  image_size=32, patch_size=8)  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(f"{folder_paths.get_folder_paths('clip_vision')[0]}/tiny-clip")
    blind = SimpleNamespace(name="CLAP", sees=False)
    inputs = dict(embedding=embedding, sound_encoder=blind, library="weather", k=2)
    with pytest.raises(pack.part("aai.errors").InputError, match="CLAP cannot see"):
        run("AAI_RetrieveReferenceImages", **inputs)
    with pytest.raises(pack.part("aai.errors").InputError, match="no CLIP model 'nothing'"):
        run("AAI_RetrieveReferenceImages", **inputs, clip_model="nothing")
    images, scores = run("AAI_RetrieveReferenceImages", **inputs, clip_model="tiny-clip")
    assert images.shape == (2, 1024, 1024, 3) and len(scores.splitlines()) == 2


def test_references_come_from_soundworld(run, ear, embedding):
    images, scores = run(
        "AAI_RetrieveReferenceImages", embedding=embedding, sound_encoder=ear, library="SoundWorld", k=2
    )
    assert images.shape == (2, 128, 128, 3) and len(scores.splitlines()) == 2
