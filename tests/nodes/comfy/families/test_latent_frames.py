"""A sound in time inside video models: every latent frame reads its own word at its own loudness."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

STEPS, SEED, FRAMES = 3, 7, 7
SOURCE, EDITED = "a photo of a city", "a photo of a city under * at night"
VIDEO = {"Wan 2.x": 4, "LTX": 8, "Cosmos": 8, "Cosmos-Predict2": 4}
"""Pictures of a latent frame."""
IMAGE_TO_VIDEO = tiny_models.Family(
    **{
        **vars(tiny_models.FAMILIES["Wan 2.x"]),
        "name": "Wan 2.x from a picture",
        "config": "WAN21_I2V",
        "unet": {**tiny_models.FAMILIES["Wan 2.x"].unet, "model_type": "i2v", "in_dim": 36},
    }
)
NOTHING_BORROWED = dict(windows="as set below", cross_end=0.0, self_end=0.0)
EDIT = dict(scale="1", self_downscale=4, silence="full", source_prompt=SOURCE, edited_prompt=EDITED)


@pytest.fixture
def video(tiny):
    if tiny.name not in VIDEO:
        pytest.skip(f"{tiny.name} draws no film by cross-attention")
    return tiny


@pytest.fixture
def word(pack, video):
    """A trained token: its adapter takes every sound."""
    ((key, width),) = video.widths.items()
    generator = torch.Generator().manual_seed(5)
    f_a, adapter = torch.randn(width, generator=generator), torch.randn(2, width, generator=generator)
    vectors = {key: 4 * f_a / f_a.norm() + adapter}
    return pack.part("aai.token").SoundToken("rain", vectors, f_a, {key: adapter}, {key: 4.0})


@pytest.fixture
def line(pack, video, word):
    """line(stretches, scales): a timeline of latent frames, each as many equal pictures as the family has;
    stretch 0 is the token's own sound."""
    audio, windows = pack.part("aai.audio"), pack.part("aai.inject.windows")
    meter = pack.part("aai.meter").LoudnessMeter()
    meter.add(audio.Sound(torch.randn(1, 16000, generator=torch.Generator().manual_seed(1)), 16000))
    others = torch.randn(3, len(word.f_a), generator=torch.Generator().manual_seed(2))
    f_a = torch.cat([word.f_a[None], others])
    count = len(f_a)
    heard = windows.SoundWindows(
        f_a, torch.zeros(count, dtype=torch.bool), torch.eye(count), torch.ones(count), 0.5, 0.25, 2.0, meter,
        ("rain", "fire", "wind", "dog"), "ear",
    )  # fmt: skip

    def make(stretches, scales):
        each = np.repeat(np.arange(len(stretches)), [1, *[VIDEO[video.name]] * (len(stretches) - 1)])
        stretch = np.array(stretches)[each]
        return pack.part("aai.inject.timeline").Timeline(
            16.0, ("",) * len(each), stretch, f_a, np.zeros(len(each)), np.array(scales, dtype=float)[each],
            heard,
        )  # fmt: skip

    return make


@pytest.fixture
def empty(video):
    def make(frames=FRAMES, rows=1):
        channels, _, *sides = video.latents.shape[1:]
        return {"samples": torch.zeros(rows, channels, frames, *sides)}

    return make


@pytest.fixture
def draw(core, video):
    def sample(model, positive, latent, cfg=4.0, negative=None):
        with torch.inference_mode():
            text = video.clip.encode_from_tokens_scheduled(video.clip.tokenize("blurry"))
            (made,) = core.common_ksampler(
                model, SEED, STEPS, cfg, "euler", "simple", positive, negative or text, latent
            )
        return made["samples"]

    return sample


@pytest.fixture
def prompt(run, video, word):
    return run("AAI_SoundTokenConditioning", clip=video.clip, token=word, prompt=EDITED)[0]


@pytest.fixture
def loud(run, video, prompt):
    """loud(timeline) -> the MODEL whose frames have its scales."""

    def make(timeline, model=None, conditioning=None, **changes):
        given = {"tokens": "", "scale": "", "reference": -23.0, "timeline": timeline, **changes}
        return run(
            "AAI_LoudnessReweight", model=model or video.model, conditioning=conditioning or prompt, **given
        )[0]

    return make


@pytest.fixture
def edit(run, video, word, empty):
    def make(timeline=None, **changes):
        given = {**EDIT, **NOTHING_BORROWED, "model": video.model, "token": word, "latent": empty()}
        return run("AAI_PromptToPromptEdit", clip=video.clip, timeline=timeline, **{**given, **changes})

    return make


@pytest.fixture
def calls(draw):
    """calls(model, positive, latent) -> what the first cross-attention gives, call by call, [rows, places,
    width]."""

    def look(model, positive, latent):
        inner, seen = model.model.diffusion_model, []
        ends = ("0.cross_attn", "0.attn2", "block0.blocks.1.block.attn")
        name = next(name for name, _ in inner.named_modules() if name.endswith(ends))
        hook = inner.get_submodule(name).register_forward_hook(lambda *call: seen.append(call[2].clone()))
        try:
            draw(model, positive, latent, cfg=1.0)
        finally:
            hook.remove()
        rows = len(latent["samples"])
        # Cosmos keeps its places first.
        return [out if len(out) == rows else out.transpose(0, 1) for out in seen]

    return look


@pytest.fixture
def outputs(calls):
    """outputs(model, positive, latent) -> the same of the first call, [rows, frames, places, width]."""
    return lambda *given: calls(*given)[0].unflatten(1, (FRAMES, -1))


def test_a_flat_envelope_is_plain_sampling(video, loud, edit, line, prompt, draw, empty):
    plain = draw(video.model, prompt, empty())
    flat = line([0] * FRAMES, [1.0] * FRAMES)
    assert_close(draw(loud(flat), prompt, empty()), plain, atol=1e-6, rtol=1e-6)
    model, positive, latent = edit(flat)
    source, edited = draw(model, positive, latent)
    pair = draw(*edit())
    assert_close(torch.stack([source, edited]), pair, atol=1e-6, rtol=1e-6)


def test_silence_is_the_prompt_without_the_sound(video, loud, edit, line, prompt, draw, empty, run, word):
    silent = line([-1] * FRAMES, [0.0] * FRAMES)
    shorter = run("AAI_SoundTokenConditioning", clip=video.clip, token=word, prompt=EDITED.replace(" *", ""))
    plain = draw(video.model, shorter[0], empty())
    assert_close(draw(loud(silent), prompt, empty()), plain, atol=1e-5, rtol=1e-5)
    source, edited = draw(*edit(silent))
    assert_close(edited, source, atol=2e-5, rtol=2e-5)


def test_a_token_in_some_frames_changes_their_attention_alone(
    video, loud, edit, line, prompt, outputs, empty
):
    before = line([0] * FRAMES, [1.0] * FRAMES)
    there = range(2, 5)
    after = line([1 if i in there else 0 for i in range(FRAMES)], [1.0] * FRAMES)
    louder = line([0] * FRAMES, [2.0 if i in there else 1.0 for i in range(FRAMES)])
    for changed in (after, louder):
        edits = [edit(timeline) for timeline in (before, changed)]
        plain, found = (outputs(*each) for each in edits)
        assert torch.equal(found[0], plain[0])
        apart = (found[1] - plain[1]).abs().flatten(1).amax(1)
        assert [i for i in range(FRAMES) if apart[i] > 1e-4] == list(there)
        assert all(apart[i] < 1e-6 for i in range(FRAMES) if i not in there)
    plain, found = (outputs(loud(timeline), prompt, empty())[0] for timeline in (before, louder))
    apart = (found - plain).abs().flatten(1).amax(1)
    assert [i for i in range(FRAMES) if apart[i] > 1e-4] == list(there)
    assert all(apart[i] < 1e-6 for i in range(FRAMES) if i not in there)


def test_an_adapter_makes_each_frame_s_word(pack, video, loud, edit, line, prompt, outputs, empty, word):
    """What a frame reads is what a prompt with that sound's word would give it."""
    if video.name not in ("Wan 2.x", "LTX"):
        pytest.skip(f"no word is trained with {video.name}")
    universal = pack.part("aai.adapt.universal")
    ((key, width),) = video.widths.items()
    torch.manual_seed(3)
    g = universal.Adapter(len(word.f_a), {key: width}, {key: 4.0}, None, 2)
    picture = pack.part("nodes.comfy.picture").ComfyPictureModel(video.model, video.clip, None)
    base = pack.part("aai.adapt.base").base_of(picture)
    adapter = universal.SoundAdapter(g, "", "ear", picture.fingerprint, base, "noise")
    timeline = line([0, 0, 1, 1, -1, 2, 2], [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    found = outputs(loud(timeline, adapter=adapter), prompt, empty())[0]
    for stretch, frames in ((0, [0, 1]), (1, [2, 3]), (2, [5, 6])):
        same = line([stretch] * FRAMES, [1.0] * FRAMES)
        alone = outputs(loud(same, adapter=adapter), prompt, empty())[0]
        assert_close(found[frames], alone[frames], atol=1e-6, rtol=1e-6)
    assert (found[0] - found[2]).abs().max() > 1e-4
    by_edit = outputs(*edit(timeline, adapter=adapter))[1]
    assert (by_edit[0] - by_edit[2]).abs().max() > 1e-4


def test_a_window_s_frames_are_the_film_s(video, loud, edit, line, prompt, draw, calls, empty):
    windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    if not hasattr(windows, "ContextWindowsManualNode"):
        pytest.skip("this ComfyUI has no context windows")

    takes = inspect.signature(windows.ContextWindowsManualNode.execute).parameters
    newer = {"freenoise": False} if "freenoise" in takes else {}

    def windowed(model, **changes):
        given = (model, 4, 1, "standard_static", 1, False, "pyramid", 2)
        return windows.ContextWindowsManualNode.execute(*given, **newer, **changes).args[0]

    def changed(before, after):
        """Of the second window of the first step, the places that are not the same."""
        apart = (after[1] - before[1]).abs().amax(2)[0]
        frames = apart.unflatten(0, (-1, before[0].shape[1] // 4)).amax(1)
        return len(frames), [number for number, value in enumerate(frames) if value > 1e-4]

    flat = line([0] * FRAMES, [1.0] * FRAMES)
    plain = draw(windowed(video.model), prompt, empty())
    assert_close(draw(windowed(loud(flat)), prompt, empty()), plain, atol=1e-6, rtol=1e-6)
    last = line([0] * FRAMES, [1.0] * (FRAMES - 1) + [2.0])
    before, after = (calls(windowed(loud(timeline)), prompt, empty()) for timeline in (flat, last))
    # Frames 0 to 3, then 3 to 6, in newer versions behind the frame before: the last is the film's last.
    assert torch.equal(before[0], after[0])
    count, places = changed(before, after)
    assert count in (4, 5) and places == [count - 1]
    if "latent_retain_index_list" in takes:
        first, keeping = line([0] * FRAMES, [2.0, *[1.0] * (FRAMES - 1)]), {"latent_retain_index_list": "0"}
        held = [calls(windowed(loud(timeline), **keeping), prompt, empty()) for timeline in (flat, first)]
        # Here each window begins with the film's first frame.
        assert changed(*held) == (count, [0])
    model, positive, latent = edit(last)
    pair = calls(windowed(model), positive, latent)
    assert torch.isfinite(pair[0]).all() and not torch.equal(pair[1][0], pair[1][1])


def test_ltx_s_guides_read_the_prompt_itself(video, loud, line, prompt, calls, draw, empty):
    if video.name != "LTX":
        pytest.skip("LTX alone puts guides behind its frames")
    places = 16
    # Newer versions tell where a place begins and where it ends.
    newer = getattr(video.model.model.diffusion_model.patchifier, "start_end", False)
    guide = {"keyframe_idxs": torch.zeros(1, 3, places, 2) if newer else torch.zeros(1, 3, places)}
    given = [[cross, {**options, **guide}] for cross, options in prompt]
    latent = {**empty(FRAMES + 1), "noise_mask": torch.ones(1, 1, FRAMES + 1, 4, 4)}
    outputs = [
        calls(loud(line([0] * FRAMES, [scale] * FRAMES)), given, latent)[0].unflatten(1, (FRAMES + 1, places))
        for scale in (1.0, 2.0)
    ]
    apart = (outputs[1] - outputs[0]).abs().flatten(2).amax(2)[0]
    assert apart[:FRAMES].min() > 1e-4 and apart[FRAMES] < 1e-6


def test_what_does_not_fit_gets_a_sentence(pack, video, run, loud, edit, line, prompt, draw, empty, word):
    refused = pack.part("aai.errors").InputError
    short, flat = line([0] * 3, [1.0] * 3), line([0] * FRAMES, [1.0] * FRAMES)
    with pytest.raises(refused, match="take a longer sound"):
        edit(short)
    with pytest.raises(refused, match="take a longer sound"):
        draw(loud(short), prompt, empty())
    with pytest.raises(refused, match="a single picture"):
        draw(loud(flat), prompt, empty(1, rows=2))
    with pytest.raises(refused, match="of one latent"):
        edit(flat, latent=empty(rows=2))
    model, positive, _ = edit(flat)
    with pytest.raises(refused, match="goes into Prompt To Prompt Edit itself"):
        loud(flat, model=model, conditioning=positive)
    given = dict(tokens="night", reference=-23.0)
    with pytest.raises(refused, match="follows a timeline"):
        run("AAI_LoudnessReweight", model=model, conditioning=positive, scale="1", **given)
    with pytest.raises(refused, match="leave scale empty"):
        run("AAI_LoudnessReweight", model=video.model, conditioning=prompt, scale="1", timeline=flat, **given)
    with pytest.raises(refused, match="nor the word 'sea'"):
        loud(flat, tokens="sea")


def test_wan_s_picture_keys_are_not_touched(pack, comfy, core, run, draw, video, word, line, request):
    """Image-to-video: the keys of the first picture are the whole clip's, and the frames' texts beside
    them."""
    if video.name != "Wan 2.x":
        pytest.skip("Wan alone has keys of a picture")
    held = tiny_models.build(IMAGE_TO_VIDEO)
    shape = (1, 16, FRAMES, *held.latents.shape[-2:])
    picture = {
        "concat_latent_image": torch.randn(shape, generator=torch.Generator().manual_seed(1)),
        "concat_mask": torch.zeros(1, 1, *shape[2:]),
        "clip_vision_output": SimpleNamespace(
            penultimate_hidden_states=torch.randn(1, 5, 1280, generator=torch.Generator().manual_seed(2))
        ),
    }

    def given(conditioning):
        return [[cross, {**options, **picture}] for cross, options in conditioning]

    with torch.inference_mode():
        negative = given(held.clip.encode_from_tokens_scheduled(held.clip.tokenize("blurry")))
    text = run("AAI_SoundTokenConditioning", clip=held.clip, token=word, prompt=EDITED)[0]

    def loud(timeline):
        return run("AAI_LoudnessReweight", model=held.model, conditioning=text, tokens="", scale="",
                   reference=-23.0, timeline=timeline)[0]  # fmt: skip

    empty = {"samples": torch.zeros(shape)}
    flat = line([0] * FRAMES, [1.0] * FRAMES)
    plain = draw(held.model, given(text), empty, negative=negative)
    assert_close(draw(loud(flat), given(text), empty, negative=negative), plain, atol=1e-6, rtol=1e-6)
    seen: list[list] = []

    def recorded(function, q, k, v, *args, **named):
        seen[-1].append((q.shape, k.clone()))
        return function(q, k, v, *args, **named)

    for timeline in (flat, line([0] * FRAMES, [1.0, 1.0, 0.5, 0.0, 2.0, 1.0, 1.0])):
        model = loud(timeline).clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = recorded
        seen.append([])
        draw(model, given(text), empty, cfg=1.0, negative=negative)
    # The second call of the first block is the picture's: all queries, its five keys.
    for calls in seen:
        assert calls[1][0][1] == FRAMES * 16 and calls[1][1].shape[1] == 5
    assert torch.equal(seen[0][1][1], seen[1][1][1])
    assert len(seen[1]) > len(seen[0])
    latent = run("AAI_PromptToPromptEdit", model=held.model, clip=held.clip, token=word, latent=empty,
                 timeline=flat, **EDIT, **NOTHING_BORROWED)  # fmt: skip
    pair = draw(latent[0], given(latent[1]), latent[2], negative=negative)
    alone = run("AAI_PromptToPromptEdit", model=held.model, clip=held.clip, token=word, latent=empty,
                **EDIT, **NOTHING_BORROWED)  # fmt: skip
    assert_close(pair, draw(alone[0], given(alone[1]), alone[2], negative=negative), atol=1e-6, rtol=1e-6)


def test_without_a_picture_wan_s_first_call_sees_the_prompt_alone(pack, comfy, run, draw, video, word, line):
    """Where there is no picture, an image-to-video model looks at the text twice."""
    if video.name != "Wan 2.x":
        pytest.skip("Wan alone looks twice")
    held = tiny_models.build(IMAGE_TO_VIDEO)
    shape = (1, 16, FRAMES, *held.latents.shape[-2:])

    def given(conditioning):
        concat = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        picture = {"concat_latent_image": concat, "concat_mask": torch.zeros(1, 1, *shape[2:])}
        return [[cross, {**options, **picture}] for cross, options in conditioning]

    def prompted(prompt):
        return given(run("AAI_SoundTokenConditioning", clip=held.clip, token=word, prompt=prompt)[0])

    with torch.inference_mode():
        negative = given(held.clip.encode_from_tokens_scheduled(held.clip.tokenize("blurry")))
    empty, scene = {"samples": torch.zeros(shape)}, prompted(SOURCE)
    alone = draw(held.model, scene, empty, negative=negative)
    flat = line([0] * FRAMES, [1.0] * FRAMES)
    text = run("AAI_SoundTokenConditioning", clip=held.clip, token=word, prompt=EDITED)[0]
    loud = run("AAI_LoudnessReweight", model=held.model, conditioning=text, tokens="", scale="",
               reference=-23.0, timeline=flat)[0]  # fmt: skip
    plain = draw(held.model, prompted(EDITED), empty, negative=negative)
    assert_close(draw(loud, given(text), empty, negative=negative), plain, atol=1e-6, rtol=1e-6)
    for stretches in ([0] * FRAMES, [0, 0, 1, 1, 1, 2, 2]):
        timeline = line(stretches, [1.0] * FRAMES)
        model, positive, latent = run(
            "AAI_PromptToPromptEdit", model=held.model, clip=held.clip, token=word, latent=empty,
            timeline=timeline, **EDIT, **NOTHING_BORROWED,
        )  # fmt: skip
        source, edited = draw(model, given(positive), latent, negative=negative)
        assert_close(source[None], alone, atol=2e-5, rtol=1e-5)
        assert (edited - source).abs().max() > 1e-3
