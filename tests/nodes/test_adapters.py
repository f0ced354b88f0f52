"""Instant words through their nodes, in process: an adapter is trained, loaded again, and makes a word."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture(scope="module")
def dataset(pack, comfy):
    """A folder of two classes in the input folder, four sounds in all."""
    whole = pack.part("aai.soundworld.dataset").write(comfy / "some", each=2, seconds=1.0)
    for label in ("light rain", "a light dog"):
        shutil.copytree(whole / label, comfy / "input" / "yard" / label)
    return "yard"


@pytest.fixture
def given(small, ear, dataset):
    return dict(
        sound_encoder=ear, model=small.model, clip=small.clip, vae=small.vae, dataset=dataset, name="yard",
        steps=4, rate=0.01, seed=5, batch=2, rho=1.0, vectors=1, template="a photo of *", size=64, chunk=0,
        checkpointing=False, sample_every=0, licence="CC0",
    )  # fmt: skip


@pytest.fixture
def trained(pack, given):
    """trained(**changes) -> all that the node gives: its outputs and what it tells the front end."""

    def call(**changes):
        node = pack.nodes["AAI_TrainSoundAdapter"].PREPARE_CLASS_CLONE(None)
        with torch.inference_mode():
            return node.EXECUTE_NORMALIZED(**{**given, **changes})

    return call


@pytest.fixture
def sound(pack, run, ear):
    made = pack.part("aai.soundworld.sounds").synthesize("rain", 0.5, 1, 1.0)
    audio = {"waveform": made.waveform[None], "sample_rate": made.rate}
    return run("AAI_EncodeSound", sound_encoder=ear, audio=audio, count=1)[0]


def test_an_adapter_is_trained_kept_loaded_and_makes_a_word(trained, run, small, sound, comfy, core):
    weights = {k: v.clone() for k, v in small.model.model.state_dict().items()}
    done = trained()
    adapter, curve = done.args
    assert curve.shape == (1, 256, 512, 3) and len(adapter.losses) == 4
    assert done.ui["text"] == ["models/sound_adapters/yard.safetensors"] and done.ui["curve"]
    after = small.model.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in weights.items())
    loaded, told = run("AAI_LoadSoundAdapter", file="yard.safetensors")
    assert "4 sounds of 2 labels, with pictures" in told and "licence: CC0" in told
    inputs = dict(model=small.model, clip=small.clip, embedding=sound, name="wet")
    (token,) = run("AAI_InstantSoundToken", adapter=adapter, **inputs)
    (same,) = run("AAI_InstantSoundToken", adapter=loaded, **inputs)
    assert torch.equal(token.vectors["clip_l"], same.vectors["clip_l"])
    assert token.name == "wet" and token.loudness == sound.loudness and token.provenance["licence"] == "CC0"
    (prompt,) = run("AAI_SoundTokenConditioning", clip=small.clip, token=token, prompt="a city under *")
    with torch.inference_mode():
        (empty,) = core.CLIPTextEncode().encode(small.clip, "")
        latent = {"samples": torch.zeros(1, 32, 8, 8)}
        (drawn,) = core.KSampler().sample(small.model, 1, 2, 1.0, "euler", "normal", prompt, empty, latent)
    assert torch.isfinite(drawn["samples"]).all()


def test_a_cancelled_run_is_kept_and_goes_on(trained, run, monkeypatch, pack):
    whole = trained(name="whole").args[0]
    progress = pack.part("nodes.comfy.progress").LossCurve
    call = progress.__call__

    def stop_at_two(self, step, total, loss):
        call(self, step, total, loss)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "__call__", stop_at_two)
        with pytest.raises(KeyboardInterrupt):
            trained(name="cut")
    adapter, _ = run("AAI_LoadSoundAdapter", file="cut-step2.safetensors")
    done = trained(name="cut", resume=adapter)
    assert done.args[0].losses == whole.losses
    assert done.ui["curve"][0] == trained(name="cut2", resume=adapter).ui["curve"][0]


def test_a_model_that_cannot_be_trained_is_told_before_anything_is_encoded(trained, small, comfy, dataset):
    broken = comfy / "input" / "broken"
    shutil.copytree(comfy / "input" / dataset, broken)
    for sound in broken.rglob("*.wav"):
        sound.write_bytes(b"no sound")
    model = small.model.clone()
    model.model_options["transformer_options"]["wrappers"] = {"apply_model": {"torch.compile": [None]}}
    with pytest.raises(ValueError, match="The model is compiled"):
        trained(dataset="broken", model=model)
    with pytest.raises(ValueError, match="cannot be"):
        trained(dataset="broken")


def test_samples_are_shown_and_change_nothing(trained, monkeypatch, pack):
    shown, progress = [], pack.part("nodes.comfy.progress").LossCurve
    plain = trained().args[0]
    monkeypatch.setattr(progress, "show", lambda self, picture: shown.append(picture))
    sampled = trained(sample_every=2).args[0]
    assert [picture.shape for picture in shown] == [(3, 64, 64)] * 2
    assert not torch.equal(*shown) and sampled.losses == plain.losses


def test_sounds_without_pictures_teach_by_their_labels(trained, comfy, dataset):
    bare = comfy / "input" / "bare"
    shutil.copytree(comfy / "input" / dataset, bare, ignore=shutil.ignore_patterns("*.jpg"))
    adapter = trained(dataset="bare", name="bare", steps=20, sample_every=20).args[0]
    assert "labels alone" in adapter.data and adapter.losses[-1] < adapter.losses[0]


def test_the_same_data_gives_comfyuis_model_diffusers_adapter(trained, small, ear, given, comfy, pack):
    """The dataset's pictures as latents, the same words and the same loss."""
    diffusion = pack.part("aai.picture.diffusers")
    schedule = pack.part("aai.soundworld.models").SCHEDULER_CONFIG
    model = diffusion.DiffusersPictureModel(
        small.unet, small.tower, small.tokenizer, small.autoencoder, schedule
    )
    train = pack.part("aai.adapt.universal_train")
    settings = pack.part("aai.adapt.universal_settings").AdapterSettings(steps=4, rate=0.01, seed=5, batch=2)
    clips = pack.part("aai.data.clips").scan(comfy / "input" / given["dataset"])
    examples = pack.part("aai.adapt.examples").from_clips(clips, ear, model, settings, 64, name="yard")
    theirs = train.train_adapter(train.AdapterRun(model, examples, settings))
    assert_close(trained().args[0].losses, theirs.losses, atol=1e-4, rtol=1e-3)


def test_soundworlds_models_need_no_adapter(run, pack):
    model, clip, vae, ears = run("AAI_LoadSoundWorld")
    made = pack.part("aai.soundworld.sounds").synthesize("fire", 0.7, 1)
    audio = {"waveform": made.waveform[None], "sample_rate": made.rate}
    heard, *_ = run("AAI_EncodeSound", sound_encoder=ears, audio=audio, count=1)
    (token,) = run("AAI_InstantSoundToken", model=model, clip=clip, embedding=heard, name="fire")
    assert token.provenance["base"] == "SoundWorld's U-Net that reads clip_l of 192"
    # The command's model is the same, though it is diffusers'.
    loaders = pack.part("aai.soundworld.loaders")
    loaders.load_adapter(loaders.load_picture_model()).check(heard, loaders.load_picture_model())


def test_a_sound_that_is_not_known_is_drawn_and_said(pack, run, small, trained, sound):
    adapter = trained().args[0]
    strange = replace(sound, sound="a.wav", known=0.04, is_known=False)
    node = pack.nodes["AAI_InstantSoundToken"].PREPARE_CLASS_CLONE(None)
    with torch.inference_mode():
        done = node.EXECUTE_NORMALIZED(
            model=small.model, clip=small.clip, embedding=strange, name="odd", adapter=adapter
        )
    assert "does not know 'a.wav' (unknown by 96%)" in done.ui["text"][0] and done.args[0].name == "odd"


def test_what_does_not_fit_is_refused(run, pack, small, sound, trained, monkeypatch):
    refused, adapter = pack.part("aai.errors").InputError, trained().args[0]
    inputs = dict(model=small.model, clip=small.clip, embedding=sound, name="wet")
    with pytest.raises(refused, match="another one .* heard this sound"):
        run("AAI_InstantSoundToken", adapter=replace(adapter, encoder="beef"), **inputs)
    with pytest.raises(refused, match="another picture model .*Flux"):
        run("AAI_InstantSoundToken", adapter=replace(adapter, base="Flux that reads t5xxl of 4096"), **inputs)
    monkeypatch.setattr(type(small.model.model.model_config), "family", "")
    with pytest.raises(refused, match="no sound adapter for this model .*Train Sound Token"):
        run("AAI_InstantSoundToken", **inputs)


def test_names_and_files_are_checked_before_the_training(trained, pack, run):
    refused = pack.part("aai.errors").InputError
    with pytest.raises(refused, match="cannot name a sound adapter"):
        trained(name="../up")
    load = pack.nodes["AAI_LoadSoundAdapter"]
    assert "There is no sound adapter 'none.safetensors'" in load.validate_inputs(file="none.safetensors")
    assert "There is no sound adapter" in load.validate_inputs(file="../../x.safetensors")
    with pytest.raises(refused, match="There is no sound adapter"):
        run("AAI_LoadSoundAdapter", file="none.safetensors")
    assert "make it and fill it" in pack.nodes["AAI_TrainSoundAdapter"].validate_inputs(dataset="nowhere")


def test_what_cannot_be_saved_is_told_and_not_lost(trained, pack, monkeypatch):
    InputError = pack.part("aai.errors").InputError

    def full(*_):
        raise InputError("No space is left: free some.")

    monkeypatch.setattr(pack.part("nodes.adapters"), "save", full)
    done = trained(name="kept")
    assert done.ui["text"] == ["No space is left: free some."] and len(done.args[0].losses) == 4


def test_a_folder_that_cannot_be_made_is_told_before_the_training(trained, pack, monkeypatch):
    def refused(path, *_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pack.part("aai.data.clips"), "scan", pytest.fail)
    monkeypatch.setattr(type(pack.part("nodes.folders").root_of("embeddings")), "mkdir", refused)
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot be made .*Read-only"):
        trained(name="new/place")


def test_others_folders_of_adapters_are_kept(pack, monkeypatch):
    folders = pack.part("nodes.folders")
    known = {"sound_adapters": (["/elsewhere"], set())}
    monkeypatch.setattr(folders.folder_paths, "folder_names_and_paths", known)
    folders.register()
    folders.register()
    paths, endings = known["sound_adapters"]
    assert paths[0] == "/elsewhere" and len(paths) == 2 and endings == {".safetensors"}
