"""A MODEL that samples with an injection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from comfy.patcher_extension import WrappersMP

from ...aai.errors import InputError
from ...aai.inject.edit import Edit, reweighted, worded
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.loudness import Reweight
from ...aai.inject.words import WordScale, check_words, without_words
from ...aai.picture.model import Conditioning, fingerprint, padded, stacked
from ...aai.prompt import token_names
from ...aai.token import SoundToken
from . import attention, families, sampling, transformer
from .clip import PROMPTS, TOKEN_IDS, check_unscheduled, token_ids_of
from .clip import encode as clip_encode
from .kept import KeptFilm
from .state import KEY, Attachment


def attach(model, injection: Edit | Reweight, heatmap: Heatmap | None = None, kept: KeptFilm | None = None):
    """A clone of a MODEL that samples with the injection, in place of one that it carried before, and fills
    the heat map, or without one, the MODEL's own; what it samples is kept for a film.

    Raises InputError for a model whose attention nothing reaches, or an inverted picture of another model.
    """
    check_editable(model)
    unet = is_unet(model)
    if injection.latent_size is not None:
        # Only an inverted picture is bound to a model; the weights of others need not be readable.
        injection.check_model(fingerprint_of(model))
    model = model.clone()
    options = model.model_options["transformer_options"]
    if heatmap is None and KEY in options:
        heatmap = options[KEY].heatmap
    if heatmap is not None and injection.film is not None:
        raise InputError(
            "Each latent frame of a video reads a text of its own here, and where words look is not seen: "
            "take Attention Heatmap off, or the timeline."
        )
    options[KEY] = Attachment(injection, heatmap, unet, kept)
    for kind, wrapper in (
        (WrappersMP.SAMPLER_SAMPLE, sampling.prepared),
        (WrappersMP.PREDICT_NOISE, sampling.guided_to_source),
        (WrappersMP.CALC_COND_BATCH, sampling.kept_to_source),
        (WrappersMP.DIFFUSION_MODEL, attention.injected if unet else None),
        (WrappersMP.APPLY_MODEL, None if unet else transformer.injected),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        if wrapper is not None:
            model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def check_editable(model) -> None:
    """Raises InputError for a MODEL whose attention nothing reaches."""
    if not is_unet(model):
        transformer.attention_of(model.model.diffusion_model)


def is_unet(model) -> bool:
    """Whether a MODEL is a U-Net with cross-attention; else a transformer, or what nothing here knows."""
    return bool(attention.blocks_of(model.model.diffusion_model))


def stack_of(model) -> Callable[[Sequence[Conditioning], int | None], Conditioning]:
    """How a MODEL's prompts of different length become rows of one conditioning."""
    if is_unet(model):
        return stacked
    return partial(padded, left=families.is_one(families.LEFT, model.model))


def check_blend(model, words: str) -> None:
    """Raises InputError for words that decide where a transformer's picture changes."""
    if words.strip() and not is_unet(model):
        raise InputError(
            "Where words look is known of Stable Diffusion's models only: leave blend_words empty, and "
            "connect a mask or turn blend_changes on."
        )


def fingerprint_of(model) -> str:
    """The `fingerprint` of a MODEL's U-Net without its patches (LoRAs, merges), which lie in its weights only
    while it is loaded."""
    unet = model.model.diffusion_model
    key = f"diffusion_model.{next(unet.named_parameters())[0]}"
    (weight, _), *_ = model.get_key_patches(key)[key]
    return fingerprint(unet, weight)


def attached(model) -> Edit | Reweight | None:
    """What a MODEL samples with, if anything."""
    attachment: Attachment | None = model.model_options["transformer_options"].get(KEY)
    return attachment and attachment.injection


def with_scales(
    model, conditioning: list, scales: Sequence[float], names: Sequence[str] = ()
) -> Edit | Reweight:
    """What a MODEL samples with, and eq. 8's scales, one or one for each picture, for the tokens of these
    names (all, where none is named) in a CONDITIONING, or any words of its prompt.

    Raises InputError where the CONDITIONING has no such token or word, or is an edit's and the MODEL is not,
    or the scales are not as many as the pictures.
    """
    token_ids, before = token_ids_of(conditioning), attached(model)
    if before is not None and before.film is not None:
        raise InputError(
            "This model follows a timeline, in which each frame has its own scale: connect the model from "
            "before, and set Sound Timeline's gain."
        )
    known = token_names(token_ids)
    if not known and not names:
        raise InputError(
            "The conditioning has no sound token: connect Sound Token Conditioning or Prompt To Prompt Edit, "
            "or name words of its prompt."
        )
    tokens = [name for name in names or known if name in known]
    words = [name for name in names if name not in known]
    if not isinstance(before, Edit) and not is_unet(model):
        # In joint attention a word's own value row does next to nothing.
        tokens, words = [], list(names or known)
    without = _without(conditioning, words, set(scales) != {1.0}, known) if words else {}
    if not isinstance(before, Edit) and any(len(rows) > 1 for rows in token_ids):
        raise InputError(
            "The conditioning is an edit's, but the model is not: connect Prompt To Prompt Edit's model "
            "as well."
        )
    injection = reweighted(before, tokens, scales)
    return worded(injection, WordScale(tuple(words), tuple(scales), without)) if words else injection


def _without(conditioning: list, words: list[str], encode: bool, known: list[str]) -> dict:
    """{token ids: the conditioning of a prompt without the words} of a CONDITIONING's prompts that have them;
    none where they need not be encoded. Raises InputError for a word that no prompt has."""
    told = [(cross, options, options[PROMPTS]) for cross, options in conditioning if PROMPTS in options]
    if not all(written.is_of(cross) for cross, _, written in told):
        raise InputError(
            "The conditioning is no longer its prompt's own, as after Conditioning Average, so no word can "
            "be taken out of it: take that node out, or take Loudness Reweight out."
        )
    rows = [
        (written.clip, prompt, ids)
        for _, options, written in told
        for prompt, ids in list(zip(written.prompts, options[TOKEN_IDS]))[len(written.prompts) > 1 :]
    ]
    if not rows:
        raise InputError(
            "The conditioning does not say what its prompt is: connect Sound Token Conditioning or Prompt To "
            "Prompt Edit."
        )
    without, found, seen = {}, set(), {}
    for clip, prompt, ids in rows:
        first = seen.setdefault(ids, prompt)
        if first.letters != prompt.letters:
            raise InputError(
                f"'{first.text}' and '{prompt.text}' differ in their weights alone, beside which no other "
                "word is weighed: give these words their weight in Loudness Reweight too."
            )
        if not all(map(_are_one, first.used(), prompt.used())):
            raise InputError(
                "The pictures of a film have words of different sounds, beside which no other word is "
                "weighed: take Loudness Reweight off, or set Prompt To Prompt Edit's chunk to 1."
            )
        shorter, has = without_words(prompt, words)
        found |= has
        if has and encode and ids not in without:
            check_unscheduled(clip)
            without[ids] = clip_encode(clip, shorter)
    check_words(found, words, known)
    return without


def _are_one(token: SoundToken, other: SoundToken) -> bool:
    """Whether two tokens have the same vectors."""
    return token is other or all(
        torch.equal(vectors, other.vectors.get(key, vectors[:0])) for key, vectors in token.vectors.items()
    )
