"""Injecting: sound tokens in prompts, and edits beside their source."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai.errors import InputError, logger
from . import film
from .types import (
    CATEGORY,
    Node,
    SoundTokenType,
    fold,
    search_aliases,
)

log = logger(__name__)

WINDOWS = {"keep the scene": "scene", "change the style": "style", "as set below": "own"}


def _token_inputs() -> list:
    return [
        SoundTokenType.Input("token", tooltip="The sound that * stands for."),
        SoundTokenType.Input("token_2", optional=True, tooltip="A second sound; call it <name>."),
        SoundTokenType.Input("token_3", optional=True, tooltip="A third sound; call it <name>."),
    ]


def _share(name: str, default: float, tooltip: str, optional: bool = False) -> io.Float.Input:
    return io.Float.Input(
        name, default=default, min=0.0, max=1.0, step=0.05, tooltip=tooltip, optional=optional
    )


class SoundTokenConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        token, *more = _token_inputs()
        return io.Schema(
            node_id="AAI_SoundTokenConditioning",
            display_name="Sound Token Conditioning",
            category=CATEGORY,
            **search_aliases("clip text encode", "prompt with sound", "embedding"),
            description="A prompt with sound tokens in it: * or <name> stands for the sound.",
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that the token was trained with."
                ),
                token,
                io.String.Input(
                    "prompt",
                    default="a photo of *",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="* is the first token; <name> is the token of that name. Weights (words:1.2) and "
                    "embedding:name work as in CLIP Text Encode.",
                ),
                *more,
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="For KSampler; knows where the tokens stand.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip, token, prompt, token_2=None, token_3=None) -> io.NodeOutput:
        from ..aai.prompt import Prompt, token_names
        from .comfy.clip import PROMPTS, TOKEN_IDS, Written, placed, tokenize

        tokens = tuple(t for t in (token, token_2, token_3) if t is not None)
        written = Prompt(prompt, tokens)
        pairs, token_ids = tokenize(clip, written)
        if not token_names([(token_ids,)]):
            # Not refused: a dynamic prompt may leave the sound out now and then.
            log.warning("The prompt '%s' names no sound token: write * or <name> for the sound.", prompt)
        made = clip.encode_from_tokens_scheduled(pairs)
        for cross, options in made:
            options[TOKEN_IDS] = (placed(clip, token_ids, cross.shape[1]),)
            options[PROMPTS] = Written(clip, (written,), cross)
        return io.NodeOutput(made)


class PromptToPromptEdit(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        token, *more = _token_inputs()
        schema = io.Schema(
            node_id="AAI_PromptToPromptEdit",
            display_name="Prompt To Prompt Edit",
            category=CATEGORY,
            **search_aliases("p2p", "edit with sound", "attention control", "stylize"),
            description=(
                "A sound changes a picture and leaves the rest of it alone. The sampler draws the source and "
                "the edited pictures side by side, of one noise; the first picture is the source."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model: Stable Diffusion, Flux, Z-Image, Qwen-Image, Wan and others."
                ),
                io.Clip.Input("clip", tooltip="The text encoder of the model."),
                token,
                io.Latent.Input(
                    "latent", tooltip="An empty latent; or Invert Image's, to edit a photograph."
                ),
                io.String.Input(
                    "source_prompt",
                    default="a city",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The picture before the edit; with its seed, the one that KSampler draws alone.",
                ),
                io.String.Input(
                    "edited_prompt",
                    default="a city under *",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The picture after it, with * or <name> in it; each line a picture of its own.",
                ),
                io.String.Input(
                    "scale",
                    default="1",
                    tooltip="How much of the sound, 0 to 2 (0: the source picture; 1: as it is; 2: as far "
                    "again). Several, '0, 0.5, 1, 1.5, 2', draw as many edited pictures.",
                ),
                io.Combo.Input(
                    "windows",
                    options=list(WINDOWS),
                    default="keep the scene",
                    tooltip="How long the edited picture borrows the source's attention: most of the "
                    "steps, so that the scene stays; fewer, so that a style can change all; or as below.",
                ),
                _share(
                    "cross_end",
                    0.8,
                    "Until which share of the steps words look where the source's do. Only with windows: as "
                    "set below.",
                ),
                _share(
                    "self_end",
                    0.4,
                    "Until which share of the steps shapes follow the source's. Only with windows: as set "
                    "below.",
                ),
                io.Int.Input(
                    "self_downscale",
                    default=4,
                    min=1,
                    max=8,
                    tooltip="Shapes follow the source's in layers this many times coarser than the latent, "
                    "or more. Smaller holds finer shapes.",
                ),
                io.Combo.Input(
                    "silence",
                    options=["full", "literal"],
                    default="full",
                    tooltip="What a scale means. full: from the source picture at 0 to the edit at 1 and "
                    "beyond. literal: the paper's eq. 8 alone; the words after the token still carry it.",
                ),
                io.String.Input(
                    "blend_words",
                    default="",
                    tooltip="Only where these words look may the picture change: * or words of either "
                    "prompt, with commas between. Empty: everywhere. Stable Diffusion only.",
                ),
                *more,
                io.Mask.Input(
                    "mask", optional=True, tooltip="Only here may the picture change; of any size."
                ),
                # Optional, so that graphs saved before they were there go on running.
                _share(
                    "blend_start",
                    0.2,
                    "From which share of the steps on the places of blend_words and blend_changes are used: "
                    "before, no one can say where they are.",
                    optional=True,
                ),
                _share(
                    "blend_threshold",
                    0.3,
                    "How much of its most a blend word must look at a place for it to change, or the edit "
                    "change it: less lets more of the picture change.",
                    optional=True,
                ),
                io.Boolean.Input(
                    "blend_changes",
                    default=False,
                    optional=True,
                    tooltip="Only where the edit changes the picture most may it change: for a sound that no "
                    "word's look finds. With the same start and threshold.",
                ),
                io.Boolean.Input(
                    "source_pooled",
                    default=True,
                    optional=True,
                    tooltip="SDXL only: the edited pictures keep the source prompt's pooled embedding, and "
                    "with it the composition. Off: each its own, which changes more.",
                ),
                *film.timeline_inputs(),
            ],
            outputs=[
                # Lists, of one each without a timeline: core's KSampler then runs once for each.
                io.Model.Output(
                    "edit_model", display_name="model", tooltip="For KSampler.", is_output_list=True
                ),
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="For KSampler's positive input.",
                    is_output_list=True,
                ),
                io.Latent.Output(
                    "pairs",
                    display_name="latent",
                    tooltip="For KSampler: the source and the edited pictures as one batch.",
                    is_output_list=True,
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )
        return fold(schema, in_sight=["source_prompt", "edited_prompt", "scale", "windows"])

    @classmethod
    def execute(
        cls, model, clip, token, latent, source_prompt, edited_prompt, scale, windows, cross_end, self_end,
        blend_words="", token_2=None, token_3=None, mask=None, blend_start=0.2, blend_threshold=0.3,
        blend_changes=False, timeline=None, chunk=8, adapter=None, **settings,
    ) -> io.NodeOutput:  # fmt: skip
        from functools import partial

        from ..aai.inject.edit import Edit, blended, encode, sweep
        from ..aai.inject.edit import windows as windows_of
        from ..aai.inject.film import encoding_once
        from ..aai.inject.loudness import read_scales
        from ..aai.prompt import Prompt
        from .comfy import film as films
        from .comfy import patch
        from .comfy.clip import as_written, check_rows, check_unscheduled
        from .comfy.clip import encode as encode_with
        from .comfy.kept import film_of
        from .comfy.latent import paired, trajectory_of

        patch.check_blend(model, blend_words)
        check_unscheduled(clip)
        if settings["silence"] == "literal":
            check_rows(clip, "silence literal")
        chosen = WINDOWS[windows]
        if chosen == "own":
            settings |= {"cross_window": (0.0, cross_end), "self_window": (0.0, self_end)}
        else:
            settings |= windows_of(chosen == "style", transformer=not patch.is_unet(model))
        tokens = tuple(t for t in (token, token_2, token_3) if t is not None)
        lines = [line.strip() for line in edited_prompt.splitlines() if line.strip()]
        encode_prompt, trajectory = partial(encode_with, clip), trajectory_of(latent)
        settings |= {"trajectory": trajectory}

        def finished(edit: Edit, encode_prompt, latent=latent, kept=None) -> tuple:
            edit = blended(
                edit, encode_prompt, blend_words, mask, blend_start, blend_threshold, blend_changes
            )
            prepared = patch.attach(model, edit, kept=kept)
            cond = encode(encode_prompt, edit, patch.stack_of(prepared))
            positive = as_written(cond, clip, (edit.source, *edit.edited))
            return prepared, positive, paired(latent, edit.rows)

        if timeline is not None:
            films.check_film(model, latent, lines, scale)
            word_of, others = films.word_of(model, clip, token, timeline, adapter), tokens[1:]
            given = films.Film(timeline, latent, source_prompt, lines[0], word_of, others, settings)
            if films.is_clip(latent):
                once = encoding_once(encode_prompt)
                edit = films.clip_edit(model, given, once)
                return io.NodeOutput(*([value] for value in finished(edit, once)))
            drawn = films.chunk_edits(given, chunk)
            kept = film_of(cls.hidden)
            made = (finished(edit, encoding_once(encode_prompt), scene, kept) for edit, scene in drawn)
            return io.NodeOutput(*map(list, zip(*made)))
        if len(lines) > 1:
            log.info("The edited prompt has %d lines: each is a picture of its own.", len(lines))
        edited, scales = sweep([Prompt(line, tokens) for line in lines], read_scales(scale))
        edit = Edit(Prompt(source_prompt, tokens), edited, scales=scales, **settings)
        return io.NodeOutput(*([value] for value in finished(edit, encode_prompt)))


class InvertImage(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_InvertImage",
            display_name="Invert Image (AAI)",
            category=CATEGORY,
            **search_aliases("ddim inversion", "null-text inversion", "edit photograph"),
            description=(
                "Finds the noise that a photograph would come from, so that Prompt To Prompt Edit can change "
                "it. The source picture of the pair is then the photograph itself."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model that will edit it."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its autoencoder."),
                io.Image.Input("image", tooltip="One picture; best of the size that the model draws."),
                io.String.Input(
                    "prompt",
                    default="a city",
                    multiline=True,
                    tooltip="What the picture shows; use the same as Prompt To Prompt Edit's source prompt.",
                ),
                io.Int.Input(
                    "steps", default=50, min=1, max=1000, tooltip="More follow the picture more closely."
                ),
                io.Boolean.Input(
                    "null_text",
                    default=False,
                    tooltip="Null-text optimisation: guidance follows the picture too. Takes minutes; give "
                    "KSampler the same steps and cfg, and an empty negative prompt.",
                ),
                io.Float.Input(
                    "guidance",
                    default=7.5,
                    min=1.0,
                    max=30.0,
                    step=0.5,
                    tooltip="The cfg that null-text optimisation is for.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="For Prompt To Prompt Edit; carries the way."
                )
            ],
        )

    @classmethod
    def execute(cls, model, clip, vae, image, prompt, steps, null_text, guidance) -> io.NodeOutput:
        from ..aai.inject import invert
        from ..aai.prompt import Prompt
        from .comfy.latent import TRAJECTORY
        from .comfy.picture import ComfyPictureModel
        from .comfy.prediction import is_flow
        from .comfy.progress import Bar
        from .comfy.training import room

        if is_flow(model):
            raise InputError(
                "Invert Image is for Stable Diffusion's models, and this one predicts a flow: take Flow "
                "Edit, which needs no inversion."
            )
        picture = ComfyPictureModel(model, clip, vae)
        pixels = invert.reduced(image[..., :3].movedim(-1, 1), picture.native_size)
        latents = picture.encode_images(pixels)
        cond, uncond = picture.encode_prompt(Prompt(prompt)), picture.encode_prompt(Prompt(""))
        trajectory = invert.invert(picture, latents, cond, steps, Bar(steps))
        if null_text:
            with picture.training(room(latents, 1)) as inner:
                trajectory = invert.null_text(inner, trajectory, cond, uncond, guidance, callback=Bar(steps))
        samples = model.model.process_latent_out(trajectory.clean[None]).cpu()
        return io.NodeOutput({"samples": samples, TRAJECTORY: (trajectory, samples)})


NODES = [SoundTokenConditioning, PromptToPromptEdit, InvertImage]
