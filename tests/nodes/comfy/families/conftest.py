"""Families that this ComfyUI has, at a tiny size, and a sound's word in them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bench import tiny_models

STEPS, SEED = 4, 7
EDIT = dict(
    scale="1", windows="keep the scene", cross_end=0.8, self_end=0.4, self_downscale=4, silence="full",
    source_prompt="a photo of a city", edited_prompt="a photo of a city under * at night",
)  # fmt: skip
LABELS = ["rain", "thunder", "fire", "a dog", "a clock", "wind", "sea waves", "a rooster"]


@pytest.fixture(scope="module")
def hold(pack, comfy):
    """hold(build, ...) -> the family that `build(..., embeddings)` gives: its MODEL, CLIP, latents, and the
    widths of its text encoders' words; a skip, with the reason, where this ComfyUI has none."""

    def made(build, family, *given):
        try:
            held = build(family, *given, [str(comfy / "models" / "embeddings")])
        except tiny_models.Absent as absent:
            pytest.skip(str(absent))
        clip = pack.part("nodes.comfy.clip")
        try:
            widths = {key: clip.vocabulary(held.clip, key).embedding_dim for key in clip.encoders(held.clip)}
        except pack.part("aai.errors").InputError:
            widths = {}
        return SimpleNamespace(model=held.model, clip=held.clip, latents=held.latents, widths=widths)

    return made


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def tiny(request, hold):
    """One family."""
    held = hold(tiny_models.build, tiny_models.FAMILIES[request.param])
    held.name = request.param
    return held


@pytest.fixture
def family(tiny):
    """family("Flux.1", "Wan 2.x") skips the others."""

    def only(*names):
        if tiny.name not in names:
            pytest.skip(f"tried on {' and '.join(names)}")
        return tiny

    return only


@pytest.fixture
def picture(tiny, pack):
    """The family as a picture model; a skip, with the reason, where no word can be trained with it."""
    refused = pack.part("aai.errors").InputError
    try:
        model = pack.part("nodes.comfy.picture").ComfyPictureModel(tiny.model, tiny.clip, None)
        pack.part("nodes.comfy.training").check_trainable(tiny.model, tiny.clip)
        assert model.text_encoders
    except refused as error:
        assert tiny.name in ("Cosmos", "Cosmos-Predict2", "Anima"), error
        pytest.skip(str(error))
    return model


@pytest.fixture(scope="module")
def table():
    """A sound encoder's words and their vectors, in a space of 48 that no text encoder shares."""
    vectors = torch.randn(len(LABELS), 48, generator=torch.Generator().manual_seed(3))
    return LABELS, torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture
def token(pack, tiny):
    """A word of two vectors as long as the family's own, for each of its text encoders."""
    if not tiny.widths:
        pytest.skip(f"no sound can be a word of {tiny.name}")
    generator = torch.Generator().manual_seed(5)
    vectors = {key: torch.randn(2, width, generator=generator) for key, width in tiny.widths.items()}
    return pack.part("aai.token").SoundToken("rain", vectors)


@pytest.fixture
def encode(pack, tiny):
    """encode(text, *tokens) -> the text's Conditioning, and what each text encoder got {key: [L, d]}."""

    def run(text, *tokens, by_core=False):
        seen, hooks = {}, []
        for key in tiny.widths:

            def look(module, given, named, key=key):
                # Where a prompt has weights an empty one follows it.
                seen[key] = named["embeds"].detach().clone().flatten(0, 1)

            tower = getattr(tiny.clip.cond_stage_model, key).transformer
            hooks.append(tower.register_forward_pre_hook(look, with_kwargs=True))
        try:
            with torch.inference_mode():
                if by_core:
                    return tiny.clip.encode_from_tokens(tiny.clip.tokenize(text), return_dict=True), seen
                prompt = pack.part("aai.prompt").Prompt(text, tokens)
                return pack.part("nodes.comfy.clip").encode(tiny.clip, prompt), seen
        finally:
            for hook in hooks:
                hook.remove()

    return run


@pytest.fixture
def hooked(pack, tiny):
    """Skips a family that no edit reaches."""
    if not tiny.widths:
        pytest.skip(f"no sound can be a word of {tiny.name}")
    return tiny


@pytest.fixture
def empty(tiny):
    def make(rows=1):
        return {"samples": torch.zeros(rows, *tiny.latents.shape[1:])}

    return make


@pytest.fixture
def text(tiny):
    """text("a city") -> its conditioning by core."""

    def encode(prompt):
        with torch.inference_mode():
            return tiny.clip.encode_from_tokens_scheduled(tiny.clip.tokenize(prompt))

    return encode


@pytest.fixture
def draw(core, text):
    """draw(model, positive, latent) -> latents by core's KSampler."""

    def sample(model, positive, latent, sampler="euler", cfg=4.0):
        with torch.inference_mode():
            (made,) = core.common_ksampler(
                model, SEED, STEPS, cfg, sampler, "simple", positive, text("blurry"), latent
            )
        return made["samples"]

    return sample


@pytest.fixture
def edit(run, hooked, token, empty):
    """edit(scale="0") -> the MODEL, CONDITIONING and LATENT of an edit."""

    def make(model=None, **changes):
        given = {**EDIT, "latent": empty(), **changes}
        return run(
            "AAI_PromptToPromptEdit", model=model or hooked.model, clip=hooked.clip, token=token, **given
        )

    return make
