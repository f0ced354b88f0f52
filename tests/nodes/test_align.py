"""The aligning nodes, in process: an encoder is taught, a CLAP bridged, both saved and loaded again."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch.testing import assert_close

from bench.cavmae_decoder import towers_file

TINY = dict(dim=16, depth_a=1, depth_v=1, heads=2, frames=96, image_size=32, seconds=0.96)


@pytest.fixture(scope="module")
def sounds(pack):
    return [pack.part("aai.soundworld.sounds").synthesize(e, 0.6, 3, 2.0) for e in ("rain", "dog")]


@pytest.fixture(scope="module")
def dataset(pack, comfy):
    """A folder of three classes in the input folder."""
    examples = pack.part("aai.soundworld.dataset")
    whole = examples.write(comfy / "examples", each=3, seconds=1.0)
    for label in ("light rain", "strong rain", "a light dog"):
        shutil.copytree(whole / label, comfy / "input" / "garden" / label)
    return "garden"


def settings(**changed):
    kept = dict(
        dataset="garden", steps=8, batch=4, rate=1e-3, held_out=0.3, momentum="audio", alpha=0.4, tau=0.05,
        augment="noise", seed=0, name="garden",
    )  # fmt: skip
    return kept | changed


@pytest.mark.parametrize("momentum", ["audio", "literal_shared"])
def test_an_encoder_is_taught_a_folder(run, pack, small, ear, sounds, dataset, momentum):
    if momentum == "literal_shared":
        model = copy.deepcopy(ear.model)
        model.blocks_u_v.load_state_dict(model.blocks_u.state_dict())
        kind = pack.part("aai.encoders.cavmae_encoder").CAVMAEEncoder
        ear = kind(model, ear.labels, ear.label_vectors, name="as published")
    before = ear.embed(sounds), list(ear.labels)
    inputs = settings(momentum=momentum)
    aligned, curve, report = run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **inputs)
    assert torch.equal(ear.embed(sounds), before[0]) and ear.labels == before[1]
    assert aligned.labels == ["a light dog", "light rain", "strong rain"] and aligned.name == "garden"
    assert aligned.space == "clip_l 192" and curve.shape == (1, 256, 512, 3)
    assert aligned.notes["made_by"] == "Align Audio Encoder"
    assert "8 steps on 6 clips of 3 labels" in report and "held-out" in report
    assert not torch.allclose(aligned.embed(sounds), before[0], atol=1e-3)
    tower = pack.part("nodes.comfy.clip").ClipTower(small.clip)
    expected = torch.nn.functional.normalize(tower.embed(aligned.labels), dim=-1)
    assert_close(aligned.label_vectors, expected)
    again, *_ = run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **inputs)
    assert torch.equal(again.embed(sounds), aligned.embed(sounds))


def test_the_test_split_of_a_folder_is_not_learned(run, pack, comfy, small, ear, dataset):
    for name, labels in (("train", ("light rain", "strong rain")), ("test", ("light rain", "a light dog"))):
        for label in labels:
            shutil.copytree(comfy / "input" / "garden" / label, comfy / "input" / "split" / name / label)
    inputs = settings(dataset="split", steps=2, held_out=0.0)
    aligned, _, report = run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **inputs)
    assert "2 steps on 6 clips of 2 labels" in report and aligned.labels == ["light rain", "strong rain"]


def test_a_raw_encoder_learns_words(run, pack, small, ear, sounds, dataset):
    raw = pack.part("aai.encoders.cavmae_encoder").CAVMAEEncoder(
        ear.model, [], torch.zeros(0, 192), name="raw"
    )
    inputs = settings(held_out=0.0, augment="none", steps=10)
    aligned, _, report = run("AAI_AlignAudioEncoder", sound_encoder=raw, clip=small.clip, **inputs)
    assert "held-out" not in report and raw.labels == []
    embedding, words, *_ = run("AAI_EncodeSound", sound_encoder=aligned, audio=core_audio(sounds[1]), count=1)
    assert words in aligned.labels and embedding.labels == aligned.labels


def core_audio(sound) -> dict:
    return {"waveform": sound.waveform[None], "sample_rate": sound.rate}


def test_cancel_keeps_the_best_so_far(run, pack, comfy, small, ear, dataset, monkeypatch):
    progress = pack.part("nodes.comfy.progress")
    stop = progress.comfy.model_management.InterruptProcessingException
    tick = progress.LossCurve.__call__

    def cancelled(self, step, total, loss):
        tick(self, step, total, loss)
        if step == 7:
            raise stop

    monkeypatch.setattr(progress.LossCurve, "__call__", cancelled)
    with pytest.raises(stop):
        run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **settings())
    (kept,) = run("AAI_LoadSoundEncoder", encoder="garden-step7.safetensors")
    assert kept.labels == ["a light dog", "light rain", "strong rain"]


def test_a_rate_that_diverges_is_said_and_the_best_so_far_kept(run, pack, small, ear, sounds, dataset):
    inputs = settings(rate=1e30, held_out=0.0, name="wild")
    with pytest.raises(pack.part("aai.errors").InputError, match="diverged at step 2: lower the rate"):
        run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **inputs)
    (kept,) = run("AAI_LoadSoundEncoder", encoder="wild-step1.safetensors")
    assert torch.isfinite(kept.embed(sounds)).all()


def test_a_name_that_is_none_is_said_before_the_training(run, pack, small, ear, dataset):
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot name a sound encoder"):
        run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **{**settings(), "name": "a:b"})


def test_cancel_is_cancel_where_the_encoder_cannot_be_kept(run, pack, small, ear, dataset, monkeypatch):
    progress = pack.part("nodes.comfy.progress")
    stop = progress.comfy.model_management.InterruptProcessingException

    def cancelled(self, step, total, loss):
        raise stop

    def full_disk(*_):
        raise pack.part("aai.errors").InputError("The disk is full.")

    monkeypatch.setattr(progress.LossCurve, "__call__", cancelled)
    monkeypatch.setattr(pack.part("nodes.encoders"), "save", full_disk)
    with pytest.raises(stop):
        run("AAI_AlignAudioEncoder", sound_encoder=ear, clip=small.clip, **settings())


def test_a_librarys_index_changes_no_dataset(pack, dataset):
    datasets = pack.part("nodes.datasets")
    folder = datasets.folders.input_folder(settings()["dataset"])
    before = datasets.stamp(settings()["dataset"])
    (folder / ".aai-library-x.safetensors").write_bytes(b"index")
    assert before and datasets.stamp(settings()["dataset"]) == before
    # It goes into every picture that the graph saves.
    assert str(folder) not in str(pack.nodes["AAI_AlignAudioEncoder"].fingerprint_inputs(**settings()))
    (folder / "new.txt").write_text("a picture more", encoding="utf-8")
    assert datasets.stamp(settings()["dataset"]) != before
    for name in (".aai-library-x.safetensors", "new.txt"):
        (folder / name).unlink()


def test_soundworlds_own_dataset_is_made_once(pack):
    part = pack.part("nodes.datasets")
    first = part.place_of("SoundWorld")
    stamp = sorted((p, p.stat().st_mtime_ns) for p in first.rglob("*"))
    assert len(list(first.glob("*/*.wav"))) == len(list(first.glob("*/*.jpg"))) == 120
    assert part.place_of("SoundWorld") == first
    assert stamp == sorted((p, p.stat().st_mtime_ns) for p in first.rglob("*"))


def test_a_clap_is_bridged_saved_and_loaded(run, pack, comfy, small, sounds, clap, caplog):
    inputs = dict(clap=clap, clip=small.clip, sounds="none", labels="my garden gate", kind="mlp")
    encoder, report = run("AAI_BridgeSoundEncoder", **inputs)
    assert encoder.dim == 192 and encoder.labels[-1] == "my garden gate" and "391 labels" in report
    embedding, words, *_ = run("AAI_EncodeSound", sound_encoder=encoder, audio=core_audio(sounds[0]), count=1)
    assert embedding.f_a.shape == (192,) and words in encoder.labels
    assert encoder.notes["made_by"] == "Bridge Sound Encoder" and encoder.bridge.mlp is None
    assert "no longer fitted: this is the ridge" in caplog.text
    (file,) = run("AAI_SaveSoundEncoder", sound_encoder=encoder, name="", overwrite=False)
    assert file == "tiny-clap.safetensors"
    (loaded,) = run("AAI_LoadSoundEncoder", encoder=file)
    assert_close(loaded.embed(sounds), encoder.embed(sounds), atol=5e-3, rtol=0)
    (second,) = run("AAI_SaveSoundEncoder", sound_encoder=loaded, name="mine/clap", overwrite=False)
    (third,) = run("AAI_SaveSoundEncoder", sound_encoder=loaded, name="mine/clap", overwrite=False)
    assert (second, third) == ("mine/clap.safetensors", "mine/clap_2.safetensors")
    (third,) = run("AAI_SaveSoundEncoder", sound_encoder=loaded, name="mine/clap", overwrite=True)
    assert third == "mine/clap.safetensors"


def test_a_clap_as_it_comes_says_what_it_lacks(run, pack, small, sounds, clap, dataset):
    InputError = pack.part("aai.errors").InputError
    (raw,) = run("AAI_LoadSoundEncoder", encoder=clap)
    _, words, scores, *_ = run("AAI_EncodeSound", sound_encoder=raw, audio=core_audio(sounds[0]), count=1)
    assert words == "" and "no words" in scores
    with pytest.raises(InputError, match="bridge it"):
        run("AAI_SaveSoundEncoder", sound_encoder=raw, name="raw", overwrite=False)
    with pytest.raises(InputError, match="no CAV-MAE.*bridge a CLAP"):
        run("AAI_AlignAudioEncoder", sound_encoder=raw, clip=small.clip, **settings())


def test_a_public_cavmae_is_loaded_and_named(run, pack, comfy, monkeypatch):
    """In the published layout, at a tiny size: the loader's own config stands in for the full one."""
    cavmae, checkpoint = pack.part("aai.encoders.cavmae"), pack.part("aai.encoders.cavmae_checkpoint")
    config = cavmae.CAVMAEConfig(
        dim=16, depth_a=1, depth_v=1, heads=2, frames=96, image_size=32, seconds=0.96
    )
    tensors = towers_file(cavmae.CAVMAE(config))
    torch.save(tensors, comfy / "models" / "audio_encoders" / "audio_model.21.pth")
    monkeypatch.setattr(checkpoint, "CAVMAEConfig", lambda: config)
    (encoder,) = run("AAI_LoadSoundEncoder", encoder="audio_model.21.pth")
    assert encoder.labels == [] and "audio_model.21" in encoder.name


def test_widths_must_agree(run, pack, small, dataset):
    cavmae, encoders = pack.part("aai.encoders.cavmae"), pack.part("aai.encoders.cavmae_encoder")
    config = cavmae.CAVMAEConfig(
        dim=16, depth_a=1, depth_v=1, heads=2, frames=96, image_size=32, seconds=0.96
    )
    narrow = encoders.CAVMAEEncoder(cavmae.CAVMAE(config), [], torch.zeros(0, 16), name="narrow")
    with pytest.raises(pack.part("aai.errors").InputError, match="gives 16 numbers.*clip_l 192"):
        run("AAI_AlignAudioEncoder", sound_encoder=narrow, clip=small.clip, **settings())
