"""The hearing nodes, in process: good sounds, and a sentence for each bad one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close


@pytest.fixture
def rain(pack):
    return pack.part("aai.soundworld.sounds").synthesize("rain", 0.6, seed=3, seconds=2.0)


def core_audio(sound) -> dict:
    return {"waveform": sound.waveform[None], "sample_rate": sound.rate}


def test_a_file_becomes_a_sound(run, pack, comfy, rain):
    audio = pack.part("aai.audio")
    audio.save(rain, comfy / "input" / "rain.wav")
    sound, loudness = run("AAI_LoadAudio", audio="rain.wav", start=0.5, length=1.0)
    assert sound["sample_rate"] == 16000 and sound["waveform"].shape == (1, 1, 16000)
    assert_close(sound["waveform"][0, 0], rain.waveform[0, 8000:24000], atol=1e-4, rtol=0)
    assert math.isclose(loudness, audio.loudness(rain.cut(0.5, 1.0)), abs_tol=0.1)


def test_six_channels_are_5_1_unless_their_file_says_otherwise(pack, run, comfy):
    """Core's AUDIO does not say where channels stand; ours does, where the file has."""
    audio, nodes = pack.part("aai.audio"), pack.part("nodes.sound")
    noise = 0.05 * torch.randn(6, 32000, generator=torch.Generator().manual_seed(0))
    noise[3] *= 10
    low, plain = audio.Sound(noise, 16000, audio.SURROUND_5_1), audio.Sound(noise, 16000)
    loudness_5_1 = audio.loudness(nodes.sound_of(core_audio(plain)))
    assert math.isclose(loudness_5_1, audio.loudness(low)) and loudness_5_1 < audio.loudness(plain) - 8
    audio.save(audio.Sound(noise, 16000, ("FL", "FR", "FC", "BC", "SL", "SR")), comfy / "input" / "6.wav")
    sound, loudness = run("AAI_LoadAudio", audio="6.wav", start=0.0, length=0.0)
    assert math.isclose(audio.loudness(nodes.sound_of(sound)), loudness) and loudness > loudness_5_1 + 8
    two = {**core_audio(plain), "waveform": noise[None, :2]}
    assert math.isclose(
        audio.loudness(nodes.sound_of(two)), audio.loudness(audio.Sound(noise[:2], 16000)), abs_tol=1e-6
    )


def test_the_list_of_sounds_holds_audio_and_video(pack, comfy):
    for name in ("a.wav", "b.mp4", "c.png"):
        (comfy / "input" / name).touch()
    options = pack.nodes["AAI_LoadAudio"].define_schema().inputs[0].options
    assert {"a.wav", "b.mp4"} <= set(options) and "c.png" not in options


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "is empty"), (b"no sound " * 50, "cannot be read as sound")]
)
def test_bad_files_get_a_sentence(run, pack, comfy, content, sentence):
    (comfy / "input" / "bad.wav").write_bytes(content)
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        run("AAI_LoadAudio", audio="bad.wav", start=0.0, length=0.0)


def test_a_missing_file_is_refused_before_anything_runs(pack, comfy):
    (comfy / "secret.wav").touch()
    answer = pack.nodes["AAI_LoadAudio"].validate_inputs(audio="nowhere.wav")
    assert "nowhere.wav" in answer and "upload" in answer
    for name in ("../secret.wav", "/etc/hostname", "a/../../secret.wav [input]", "caf\udce9.wav"):
        answer = pack.nodes["AAI_LoadAudio"].validate_inputs(audio=name)
        assert answer.startswith("There is no sound") and answer.encode("utf-8")
    answer = pack.nodes["AAI_LoadSoundEncoder"].validate_inputs(encoder="nothing.safetensors")
    assert "nothing.safetensors" in answer


def test_a_linked_choice_is_judged_when_it_is_known(run, pack, ear):
    """ComfyUI gives a link's value as None until the node that makes it has run."""
    chosen = {
        "AAI_LoadAudio": {"audio": None},
        "AAI_LoadSoundEncoder": {"encoder": None},
        "AAI_AlignAudioEncoder": {"dataset": None},
        "AAI_BridgeSoundEncoder": {"clap": None},
        "AAI_RetrieveReferenceImages": {"library": None},
        "AAI_LoadSoundToken": {"file": None},
    }
    others = {
        "AAI_LoadAudio": {"start": 0.0, "length": 0.0},
        "AAI_BridgeSoundEncoder": {"sounds": "none", "labels": "", "kind": "ridge"},
        "AAI_RetrieveReferenceImages": {"k": 4},
    }
    for name, choice in chosen.items():
        assert pack.nodes[name].validate_inputs(**choice) is True, name
        pack.nodes[name].fingerprint_inputs(**choice, **others.get(name, {}))
    InputError = pack.part("aai.errors").InputError
    with pytest.raises(InputError, match="no sound encoder 'nowhere'"):
        run("AAI_LoadSoundEncoder", encoder="nowhere")
    with pytest.raises(InputError, match="no sound encoder 'nowhere'"):
        run("AAI_BridgeSoundEncoder", clap="nowhere", clip=None, sounds="none", labels="", kind="ridge")
    for name in ("nowhere", ".."):
        with pytest.raises(InputError, match=f"no folder '{name}'"):
            run("AAI_RetrieveReferenceImages", embedding=object(), sound_encoder=ear, library=name, k=4)


def test_encoding_gives_an_embedding_and_words(run, pack, ear, rain):
    embedding, words, scores, *more = run(
        "AAI_EncodeSound", sound_encoder=ear, audio=core_audio(rain), count=2
    )
    assert more == [None, None, ""]
    assert_close(embedding.f_a, ear.embed([rain], own_length=True)[0])
    assert embedding.encoder == "small" and math.isfinite(embedding.loudness)
    ranked = pack.part("aai.encoders.base").nearest_words(ear, embedding.f_a[None], 5)[0].words
    assert words == f"{ranked[0][0]}, {ranked[1][0]}"
    assert [line.rsplit(" ", 2)[0] for line in scores.splitlines()] == [word for word, _ in ranked]


def test_a_sound_that_the_encoder_does_not_know_is_said_to_be_so(run, pack):
    encoder = pack.part("aai.soundworld.loaders").load_sound_encoder()
    stranger = pack.part("aai.soundworld.outside").synthesize_outside("strings", 77)
    embedding, words, scores, *_ = run(
        "AAI_EncodeSound", sound_encoder=encoder, audio=core_audio(stranger), count=1
    )
    assert embedding.is_known is False and words in encoder.labels
    assert scores.startswith("outside of what this encoder knows\nunknown ")
    assert pack.part("nodes.tokens").provenance_of(embedding)["known"].startswith("no (")


def test_a_recording_of_two_sounds_gives_both(run, pack):
    encoder = pack.part("aai.soundworld.loaders").load_sound_encoder()
    sound, _ = pack.part("aai.soundworld.evaluate.hearing").mixed("rain", "rooster", 5.0, 3)
    given = dict(sound_encoder=encoder, audio={**core_audio(sound), "name": "yard.wav"}, count=1)
    first, words, _, second, third, parts = run("AAI_EncodeSound", **given, sounds=2)
    told = pack.part("aai.encoders.apart").take_apart(encoder, sound, 2)
    assert third is None and {part.word for part in told} == {"rain", "a rooster"}
    assert_close(first.f_a, told[0].embedding.f_a)
    assert_close(second.f_a, told[1].embedding.f_a)
    assert first.sound == f"yard.wav, {told[0].word}"
    share = f"{100 * told[1].share:.0f} %"
    assert parts.splitlines()[1] == f"{told[1].word}: {told[1].embedding.loudness:.1f} LUFS, {share}"


def test_fewer_sounds_than_asked_for_get_a_sentence(run, pack):
    alone = pack.part("aai.soundworld.sounds").unseen_sound("helicopter", 5, 0.7)
    encoder = pack.part("aai.soundworld.loaders").load_sound_encoder()
    InputError = pack.part("aai.errors").InputError
    with pytest.raises(
        InputError, match=r"3 sounds were asked for, but only 1 .*\(a helicopter\): set sounds to 1"
    ):
        run("AAI_EncodeSound", sound_encoder=encoder, audio=core_audio(alone), count=1, sounds=3)
    with pytest.raises(InputError, match="got no sound: Encode Sound's second and third"):
        run("AAI_RetrieveReferenceImages", embedding=None, sound_encoder=encoder, library="SoundWorld", k=1)


def test_a_token_knows_its_sounds_file(run, comfy, pack, ear, rain):
    pack.part("aai.audio").save(rain, comfy / "input" / "by the window.wav")
    sound, _ = run("AAI_LoadAudio", audio="by the window.wav", start=0.0, length=0.0)
    embedding, *_ = run("AAI_EncodeSound", sound_encoder=ear, audio=sound, count=1)
    assert pack.part("nodes.tokens").provenance_of(embedding)["sound"] == "by the window.wav"


def test_no_sound_at_all_gets_a_sentence(run, pack, ear):
    """Core gives None for a video without a sound track."""
    with pytest.raises(pack.part("aai.errors").InputError, match="No sound came in"):
        run("AAI_EncodeSound", sound_encoder=ear, audio=None, count=1)


def test_channels_that_cancel_each_other_are_told(run, pack, ear, rain):
    both = torch.cat([rain.waveform, -rain.waveform])[None]
    with pytest.raises(pack.part("aai.errors").InputError, match="cancel each other out"):
        run(
            "AAI_EncodeSound",
            sound_encoder=ear,
            audio={"waveform": both, "sample_rate": rain.rate},
            count=1,
        )


def test_an_encoder_without_words_says_so(run, pack, ear, rain):
    encoder = pack.part("aai.encoders.cavmae_encoder").CAVMAEEncoder(
        ear.model, [], torch.zeros(0, 192), name="raw"
    )
    embedding, words, scores, *_ = run(
        "AAI_EncodeSound", sound_encoder=encoder, audio=core_audio(rain), count=2
    )
    assert embedding.labels == [] and words == "" and "no words" in scores


@pytest.mark.parametrize(
    ("waveform", "rate"),
    [
        (torch.rand(1, 8, 8000) - 0.5, 8000),
        (torch.rand(1, 2, 192000) - 0.5, 192000),
        (torch.rand(1, 1, 2000) - 0.5, 16000),
    ],
)
def test_odd_sounds_are_heard(run, ear, waveform, rate):
    embedding, *_ = run(
        "AAI_EncodeSound", sound_encoder=ear, audio={"waveform": waveform, "sample_rate": rate}, count=1
    )
    assert embedding.f_a.shape == (192,) and torch.isfinite(embedding.f_a).all()


@pytest.mark.parametrize(
    ("waveform", "sentence"),
    [
        (torch.full((1, 1, 16000), float("nan")), "not numbers"),
        (torch.zeros(1, 1, 0), "no samples"),
        (torch.rand(1, 1, 800) - 0.5, "too short"),
        (torch.rand(2, 1, 16000), "batch of 2"),
    ],
)
def test_bad_sounds_get_a_sentence(run, pack, ear, waveform, sentence):
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        run("AAI_EncodeSound", sound_encoder=ear, audio={"waveform": waveform, "sample_rate": 16000}, count=1)


def test_an_encoder_comes_from_its_folder(run, pack, comfy, ear, rain):
    pack.part("aai.encoders.loaders").save(
        ear, comfy / "models" / "audio_encoders" / "small.safetensors", torch.float32
    )
    (loaded,) = run("AAI_LoadSoundEncoder", encoder="small.safetensors")
    assert_close(loaded.embed([rain]), ear.embed([rain]), atol=1e-5, rtol=0)
    (comfy / "models" / "audio_encoders" / "fake.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(pack.part("aai.errors").InputError, match="fake.safetensors"):
        run("AAI_LoadSoundEncoder", encoder="fake.safetensors")
