"""The nodes of sound in time: a timeline of a sound or a file, the film that core's KSampler draws of it, and
its values."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

SETTINGS = dict(
    frame_rate=2.0, file="none", start=0.0, length=0.0, hold=0.5, attack=0.0, release=0.0, threshold=-60.0,
    gain=0.0, ratio=2.0, reference=0.0, window=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def story(pack):
    """Rain, then a fire, then silence, two seconds each."""
    sounds, audio = pack.part("aai.soundworld.sounds"), pack.part("aai.audio")
    parts = [sounds.synthesize(event, 0.8, seed=5).cut(1.0, 2.0).waveform for event in ("rain", "fire")]
    return audio.Sound(torch.cat([*parts, torch.zeros(1, 32000)], 1), 16000)


@pytest.fixture(scope="module")
def heard(pack, story):
    """heard(**settings) -> all that Sound Timeline gives of the story, heard by SoundWorld's encoder."""
    encoder = pack.part("aai.soundworld.loaders").load_sound_encoder()

    def call(**changes):
        audio = {"waveform": story.waveform[None], "sample_rate": story.rate}
        node = pack.nodes["AAI_SoundTimeline"].PREPARE_CLASS_CLONE(None)
        with torch.inference_mode():
            given = {"sound_encoder": encoder, "audio": audio, **SETTINGS, **changes}
            return node.EXECUTE_NORMALIZED(**{k: v for k, v in given.items() if v is not None})

    return call


@pytest.fixture(scope="module")
def timeline(heard):
    return heard().args[0]


@pytest.fixture
def adapter(pack, rain):
    """A token with an adapter, as training makes it."""
    (key, rows), *_ = rain.vectors.items()
    return pack.part("aai.token").SoundToken(
        "rain", {key: rows}, rows[0] / rows[0].norm(), {key: rows}, {key: 0.4}
    )


def test_a_sound_becomes_a_timeline_and_its_plot(heard):
    made = heard()
    (timeline,), (shown,) = made.args, made.ui["timeline"]
    assert len(timeline) == 12 and timeline.words[1] == "rain" and timeline.words[6] == "fire"
    assert shown["frames"] == 12 and shown["seconds"] == 6.0 and shown["words"] == list(timeline.words)
    assert shown["loudness"][-1] == -70.0 and shown["scales"][-1] == 0
    json.dumps(made.ui)
    assert len(heard(frame_rate=60.0, hold=0.0, gain=3.0).ui["timeline"][0]["words"]) <= 480


def test_a_file_is_heard_as_the_sound_is(pack, heard, story, comfy, timeline, monkeypatch):
    audio, errors = pack.part("aai.audio"), pack.part("aai.errors")
    audio.save(story, comfy / "input" / "story.wav")
    assert "story.wav" in pack.nodes["AAI_SoundTimeline"].define_schema().inputs[2].options
    # As long as no sound may be.
    monkeypatch.setattr(audio, "MOST_SAMPLES", 16000)
    filed = heard(file="story.wav", audio=None).args[0]
    assert filed.words == timeline.words and abs(filed.scale - timeline.scale).max() < 0.02
    assert len(heard(file="story.wav", start=1.0, length=2.5).args[0]) == 5
    with pytest.raises(errors.InputError, match="Sound Timeline reads it whole"):
        pack.nodes["AAI_LoadAudio"].execute(audio="story.wav", start=0.0, length=0.0)
    node = pack.nodes["AAI_SoundTimeline"]
    assert node.validate_inputs(file="story.wav") is True and "no sound" in node.validate_inputs(
        file="no.wav"
    )
    assert node.fingerprint_inputs(file="story.wav")[1] and node.fingerprint_inputs(file="none") == [
        "none",
        None,
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"frame_rate": 0.0}, "make no film"),
        ({"frame_rate": 240.0}, "make no film"),
        ({"audio": None}, "has no sound"),
        ({"file": "gone.wav", "audio": None}, "no sound 'gone.wav'"),
    ],
)
def test_what_is_no_timeline_gets_a_sentence(pack, heard, wrong, sentence):
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        heard(**wrong)


def test_core_draws_a_film_by_lists(pack, run, edit, sampled, pictures, adapter, timeline):
    drawn = edit(token=adapter, timeline=timeline, chunk=3)
    models, conds, latents = drawn
    plan = pack.part("aai.inject.film").plan(timeline)
    assert len(models) == len(conds) == len(latents) == -(-len(plan.shots) // 3) > 1
    chunks = [pictures(sampled(*each)) for each in zip(models, conds, latents)]
    images, fps = run("AAI_JoinFrames", images=chunks, timeline=[timeline])
    assert len(images) == 12 and fps == 2.0
    source = chunks[0][0]
    assert torch.equal(images[-1], source) and not torch.allclose(images[1], source, atol=0.01)
    assert all(torch.allclose(part[0], source, atol=1 / 255) for part in chunks)
    with pytest.raises(pack.part("aai.errors").InputError, match="different pictures"):
        run("AAI_JoinFrames", images=chunks[1:], timeline=[timeline])


def test_new_scenes_have_noises_and_sources_of_their_own(pack, run, edit, sampled, pictures, adapter, heard):
    timeline = heard(new_scenes=True).args[0]
    models, conds, latents = edit(token=adapter, timeline=timeline, chunk=4)
    plan = pack.part("aai.inject.film").plan(timeline)
    scenes = [latent["batch_index"] for latent in latents]
    assert all(len({*indices}) == 1 for indices in scenes) and {i[0] for i in scenes} == {0, 1}
    chunks = [pictures(sampled(*each)) for each in zip(models, conds, latents)]
    images, _ = run("AAI_JoinFrames", images=chunks, timeline=[timeline])
    assert len(images) == 12 and len({shot.scene for shot in plan.drawn}) == 2
    # The story ends in silence, in the second scene.
    last = next(part[0] for part, indices in zip(chunks, scenes) if indices[0] == 1)
    assert torch.equal(images[-1], last) and (chunks[0][0] - last).abs().max() > 0.05


@pytest.fixture
def prompt(run, small, adapter):
    return run("AAI_SoundTokenConditioning", clip=small.clip, token=adapter, prompt="a city under *")[0]


@pytest.fixture
def loud(run, small, prompt):
    """loud(timeline=...) -> the MODEL and the first scale of Loudness Reweight."""

    def make(**changes):
        given = dict(model=small.model, conditioning=prompt, tokens="", scale="", reference=-23.0)
        return run("AAI_LoudnessReweight", **{**given, **changes})

    return make


def test_each_picture_of_a_batch_has_the_loudness_of_its_moment(loud, prompt, sampled, timeline):
    latent = {"samples": torch.zeros(12, 32, 8, 8), "batch_index": [0] * 12}
    model, first = loud(timeline=timeline)
    drawn = sampled(model, prompt, latent)
    assert first == pytest.approx(float(timeline.scale[0]))
    scales = ", ".join(str(scale) for scale in timeline.scale.tolist())
    assert torch.equal(drawn, sampled(loud(scale=scales)[0], prompt, latent))
    # The story ends in silence, which shows nothing of the token.
    alone = {"samples": torch.zeros(1, 32, 8, 8)}
    torch.testing.assert_close(drawn[-1:], sampled(loud(scale="0")[0], prompt, alone), atol=1e-4, rtol=1e-4)


def test_what_is_no_loudness_in_time_gets_a_sentence(pack, loud, edit, prompt, sampled, timeline, adapter):
    refused = pack.part("aai.errors").InputError
    with pytest.raises(refused, match="leave scale empty"):
        loud(timeline=timeline, scale="1")
    with pytest.raises(refused, match="takes Prompt To Prompt Edit"):
        loud(timeline=timeline, adapter=object())
    with pytest.raises(refused, match="connect Sound Timeline's"):
        loud(adapter=object(), scale="1")
    model, positive, _ = edit(token=adapter)
    with pytest.raises(refused, match="goes into Prompt To Prompt Edit itself"):
        loud(timeline=timeline, model=model, conditioning=positive)
    with pytest.raises(refused, match="12 loudness scales were given for a batch of 5"):
        sampled(loud(timeline=timeline)[0], prompt, {"samples": torch.zeros(5, 32, 8, 8)})


def test_a_silent_timeline_is_its_source(pack, run, edit, sampled, pictures, adapter, heard, comfy):
    audio = pack.part("aai.audio")
    audio.save(audio.Sound(torch.zeros(1, 16000), 16000), comfy / "input" / "still.wav")
    still = heard(file="still.wav", audio=None).args[0]
    model, cond, latent = edit(token=adapter, timeline=still)
    chunk = pictures(sampled(model, cond, latent))
    images, _ = run("AAI_JoinFrames", images=[chunk], timeline=[still])
    assert torch.equal(images, chunk[:1].expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": "2"}, "Sound Timeline's gain"),
        ({"edited_prompt": "a city under *\na city with *"}, "one edited prompt"),
        ({"latent": {"samples": torch.zeros(2, 32, 8, 8)}}, "of one latent"),
        ({"edited_prompt": "a city"}, "no place for the sound"),
    ],
)
def test_what_is_no_film_gets_a_sentence(pack, edit, adapter, timeline, changes, sentence):
    with pytest.raises(pack.part("aai.errors").InputError, match=sentence):
        edit(token=adapter, timeline=timeline, **changes)


def test_a_token_of_another_encoder_gets_a_sentence(pack, edit, rain, adapter, timeline):
    errors = pack.part("aai.errors")
    with pytest.raises(errors.InputError, match="without an adapter"):
        edit(token=rain, timeline=timeline)
    with pytest.raises(errors.InputError, match="same encoder for both"):
        edit(token=replace(adapter, provenance={"encoder": "CLAP"}), timeline=timeline)


def test_an_adapter_makes_the_word_of_each_moment(pack, small, adapter, timeline, monkeypatch):
    """A token that an adapter has made takes SoundWorld's; a trained one its own; and any the one given."""
    film, made = pack.part("nodes.comfy.film"), {}

    class Given:
        def check(self, sound, model):
            made["heard"] = sound.encoder, sound.fingerprint, len(sound.f_a)

        def token(self, f_a, name):
            return replace(adapter, name=name, f_a=f_a)

    word = film.word_of(small.model, small.clip, adapter, timeline, Given())
    assert word(timeline.f_a[0]).name == "rain" and made["heard"][0] == timeline.windows.encoder
    instant = replace(adapter, provenance={"adapter": "SoundWorld"})
    monkeypatch.setattr(film, "load_adapter", lambda model: Given())
    assert torch.equal(
        film.word_of(small.model, small.clip, instant, timeline)(timeline.f_a[1]).f_a, timeline.f_a[1]
    )
    assert film.word_of(small.model, small.clip, adapter, timeline) == adapter.with_sound


def test_other_packs_get_numbers_and_a_schedule(run, timeline):
    given = dict(timeline=timeline, edited_prompt='a "city" under *', source_prompt="a city")
    loudness, scale, share, schedule = run("AAI_TimelineValues", word="", **given)
    assert len(loudness) == len(scale) == len(share) == 12 and min(loudness) == -70.0
    assert 0 <= min(share) <= max(share) <= 1 and share[1] > 0.5
    prompts = json.loads("{" + schedule + "}")
    assert prompts["0"] == 'a "city" under rain' and "fire" in list(prompts.values())[1]
    given |= dict(edited_prompt="a \\*shiny\\* city under \uff0a")
    *_, schedule = run("AAI_TimelineValues", word="", **given)
    assert json.loads("{" + schedule + "}")["0"] == "a *shiny* city under rain"
    rain = run("AAI_TimelineValues", word="rain", **given)[2]
    assert rain[1] > 0.5 > rain[6]
