"""Prompts with sound tokens, and plain texts, through ComfyUI's CLIP."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...aai.embedding import CLIPS, in_order, is_encoder
from ...aai.errors import InputError, logger
from ...aai.picture.model import Conditioning, Vectors
from ...aai.prompt import Prompt, TokenIds, token_positions
from ...aai.token import SoundToken
from . import families, tokenizer

log = logger(__name__)

TOKEN_IDS = "aai_token_ids"
"""The key of a CONDITIONING's options that holds the token ids of each of its rows, a tuple of TokenIds."""
PROMPTS = "aai_prompts"
"""The key of a CONDITIONING's options that holds its Written."""


@dataclass(frozen=True)
class Written:
    """The prompts of a CONDITIONING's rows, the CLIP that they were encoded with, with which a prompt without
    one of its words is encoded again, and what it gave, [B, n, d]."""

    clip: object
    prompts: tuple[Prompt, ...]
    cross: Tensor | None = None

    def is_of(self, cross: Tensor) -> bool:
        """Whether a CONDITIONING still begins with what the CLIP gave."""
        return self.cross is None or torch.equal(cross[:, : self.cross.shape[1]], self.cross)

    def __deepcopy__(self, memo: dict) -> Written:
        # Other packs copy a CONDITIONING whole, and a text encoder is gigabytes.
        return self


def tokenize(clip, prompt: Prompt, vectors: Vectors | None = None) -> tuple[dict, TokenIds]:
    """The prompt in core's token weight pairs, and the token ids of what its conditioning is made from.

    Weights "(a photo of *:1.2)", other embeddings and prompts of any length work as everywhere in ComfyUI.
    `vectors` {token name: {encoder: [n, d]}} stand in for the tokens' own and may require grad. Raises
    InputError where a token does not fit this CLIP, or stands behind what one of its encoders reads.
    """
    used, names = prompt.used(), encoders(clip)
    text = "".join(p if isinstance(p, str) else tokenizer.mark(used.index(p)) for p in prompt.pieces())
    rows = {name: _rows(clip, name, used, vectors or {}) for name in names}
    # What no encoder reads, such as the other half of XL's tokenizer in its refiner, is without the sound.
    nowhere = [(token.name, torch.zeros(0, 1)) for token in used]
    family = copy.copy(clip.tokenizer)
    for place, part in list(vars(family).items()):
        if hasattr(part, "tokenize_with_weights") and hasattr(part, "embedding_identifier"):
            # Core keeps T5's under clip_t5xxl in some families, under t5xxl in others.
            name = place if place in CLIPS else place.removeprefix("clip_")
            wrapped = tokenizer.for_clip if name in CLIPS else tokenizer.for_words
            setattr(family, place, wrapped(part, rows.get(name, nowhere)))
    options = getattr(clip, "tokenizer_options", None)
    pairs = family.tokenize_with_weights(text, **({"tokenizer_options": options} if options else {}))
    token_ids: dict[str, TokenIds] = {}
    for name in names:
        key, own = name if name in pairs else name.removeprefix("clip_"), tokenizer_of(clip, name)
        if key not in pairs:
            raise InputError(f"This CLIP's tokenizer gives nothing to its {name}: load another text encoder.")
        if name in CLIPS:
            token_ids[name] = tokenizer.token_ids_of_clip(pairs[key], rows[name], own.end_token)
        else:
            ends = own.pad_token, own.end_token
            token_ids[name] = tokenizer.token_ids_of_words(pairs[key], rows[name], *ends)
            pairs[key] = tokenizer.filled(pairs[key], rows[name])
        _check_whole(prompt, name, rows[name], token_ids[name])
    return pairs, tuple(piece for name in context_encoders(clip) for piece in token_ids[name])


def encode(clip, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
    """The prompt's conditioning, as CLIP Text Encode makes it; `vectors` as in `tokenize`."""
    pairs, token_ids = tokenize(clip, prompt, vectors)
    with torch.no_grad():
        extra = clip.encode_from_tokens(pairs, return_dict=True)
    return conditioning(clip, token_ids, extra.pop("cond"), extra.pop("pooled_output"), extra)


def conditioning(
    clip, token_ids: TokenIds, cross: Tensor, pooled: Tensor | None, extra: Mapping
) -> Conditioning:
    """What a CLIP's text model gives for a prompt of these token ids. Some families cut their template off:
    the conditioning's rows are the last ones of the prompt, or end at a token of their own."""
    return Conditioning(cross, pooled, (placed(clip, token_ids, cross.shape[1]),), dict(extra))


def placed(clip, token_ids: TokenIds, length: int) -> TokenIds:
    """The token ids of a conditioning's `length` rows, of those of the whole prompt. Raises InputError where
    a sound token is not among them."""
    cut = len(token_ids) - length
    if not has_rows(clip):
        # Those of its other prompts, which say whose conditioning it is.
        return token_ids[-length:] + (None,) * -cut
    if cut <= 0:
        return token_ids
    last, there = families.find(families.CUT_OFF, clip.cond_stage_model) or (None, 0)
    if last in token_ids:
        cut = len(token_ids) - 1 - token_ids[::-1].index(last) + there - length
    left = token_ids[cut : cut + length]
    before, after = token_positions(token_ids), token_positions(left)
    for name, positions in before.items():
        if len(after.get(name, ())) != len(positions):
            raise InputError(
                f"The sound token '{name}' stands in a part of the prompt that this CLIP cuts off again: "
                "write it into the description itself, not into the template around it."
            )
    return left


def as_core(cond: Conditioning) -> list:
    """A Conditioning as core's CONDITIONING, which carries its token ids."""
    return [[cond.cross, {**cond.extra, "pooled_output": cond.pooled, TOKEN_IDS: cond.token_ids}]]


def as_written(cond: Conditioning, clip, prompts: Sequence[Prompt]) -> list:
    """A Conditioning as core's CONDITIONING, which carries what it was written with, and the CLIP's hooks."""
    (cross, options), *_ = as_core(cond)
    return [[cross, clip.add_hooks_to_dict({**options, PROMPTS: Written(clip, tuple(prompts), cross)})]]


def has_rows(clip) -> bool:
    """Whether the rows of a CLIP's conditioning are of its prompt's words: HiDream's are T5's, and empty
    without it."""
    only = families.find(families.CONTEXT, clip.cond_stage_model)
    return only is None or not set(only).isdisjoint(encoders(clip))


def check_rows(clip, what: str) -> None:
    """Raises InputError where `what` needs the words' rows in a CLIP's conditioning, and they are empty."""
    if not has_rows(clip):
        names = " and ".join(families.find(families.CONTEXT, clip.cond_stage_model))
        raise InputError(
            f"Without {names} this CLIP's conditioning has no rows of the prompt's words, which {what} "
            "needs: load that text encoder beside the others."
        )


def check_seen(conditioning: list) -> None:
    """Raises InputError for a CONDITIONING in whose rows no word can be watched."""
    for _, options in conditioning:
        if PROMPTS in options:
            check_rows(options[PROMPTS].clip, "a heat map")


def check_unscheduled(clip) -> None:
    """Raises InputError for a CLIP whose weights change in the course of sampling."""
    if getattr(clip, "use_clip_schedule", False) and clip.patcher.forced_hooks is not None:
        raise InputError(
            "This CLIP's LoRA changes in the course of sampling, and here a prompt is encoded once: turn "
            "schedule_clip of Set CLIP Hooks off."
        )


def token_ids_of(conditioning: list) -> list[tuple[TokenIds, ...]]:
    """The token ids of each part of a core CONDITIONING that was made here, a tuple for each row."""
    return [options[TOKEN_IDS] for _, options in conditioning if TOKEN_IDS in options]


def encoders(clip) -> list[str]:
    """The text encoders inside a CLIP object, CLIP's first: "clip_l", "clip_g", "t5xxl", "qwen3_4b" ...

    Raises InputError where there are none that a word's vector can enter.
    """
    model = clip.cond_stage_model
    towers = {k: m for k, m in model.named_children() if hasattr(m, "transformer")}
    names = [
        k
        for k, m in towers.items()
        if is_encoder(k) and k not in families.UNSEEN and hasattr(m.transformer, "get_input_embeddings")
    ]
    reason = families.find(families.WORDLESS, model)
    if reason or not names:
        reason = reason or (
            f"This CLIP has {', '.join(towers) or 'none'} for a text encoder, which takes no word's vector"
        )
        raise InputError(
            f"{reason}: load a CLIP, T5 or language model encoder, or write Encode Sound's nearest words."
        )
    return in_order(names)


def clip_encoders(clip) -> list[str]:
    """The encoders of a CLIP object that are CLIP's own, whose texts and pictures share a space.

    Raises InputError where there are none.
    """
    names = [name for name in encoders(clip) if name in CLIPS]
    if not names:
        raise InputError(
            f"This needs a CLIP text encoder, such as Stable Diffusion's; this one has "
            f"{', '.join(encoders(clip))}: connect the CLIP that the sound encoder is for."
        )
    return names


def context_encoders(clip) -> list[str]:
    """The encoders whose rows follow one another in a CLIP object's conditioning; those of several CLIP
    encoders stand side by side, and the first stands for them."""
    only = families.find(families.CONTEXT, clip.cond_stage_model)
    pooled = families.find(families.POOLED, clip.cond_stage_model) or ()
    names = [k for k in encoders(clip) if (k in only if only else k not in pooled)] or encoders(clip)
    return [k for k in names if k not in CLIPS or k == names[0]]


def vocabulary(clip, encoder: str) -> nn.Embedding:
    """The embedding of every token id that a text encoder knows [vocabulary, d]."""
    return getattr(clip.cond_stage_model, encoder).transformer.get_input_embeddings()


def tokenizer_of(clip, encoder: str):
    """The tokenizer of one of a CLIP object's text encoders. Raises InputError where there is none."""
    for place in (encoder, f"clip_{encoder}"):
        if hasattr(clip.tokenizer, place):
            return getattr(clip.tokenizer, place)
    raise InputError(f"This CLIP has no tokenizer for its {encoder}: load another text encoder.")


def vectors_for(
    token: SoundToken, encoder: str, width: int, instead: Mapping[str, Tensor] | None = None
) -> Tensor:
    """A token's vectors [n, width] for a text encoder, or those given {encoder: [n, width]}.

    Raises InputError where there are none of that width.
    """
    vectors = token.vectors if instead is None else instead
    rows = vectors.get(encoder)
    if rows is None and token.f_a is None and len(vectors) == 1:
        # Others' files of one tensor do not say whose it is.
        (rows,) = vectors.values()
    if rows is None or rows.shape[-1] != width:
        widths = ", ".join(f"{k} {tuple(v.shape)[-1]}" for k, v in vectors.items())
        raise InputError(
            f"The sound token '{token.name}' is of width {widths}, but this CLIP reads {encoder} {width}: "
            "train the token with this model, or load the checkpoint that it was trained with."
        )
    return rows


def _rows(clip, encoder: str, tokens: Sequence[SoundToken], vectors: Vectors) -> tokenizer.Rows:
    """Each token's name and vectors for an encoder. One that the picture model sees pooled only may lack
    them: the word is then in the other encoders' prompts alone."""
    width = vocabulary(clip, encoder).embedding_dim
    pooled = encoder in (families.find(families.POOLED, clip.cond_stage_model) or ())
    rows = []
    for token in tokens:
        instead = vectors.get(token.name)
        if pooled and encoder not in (token.vectors if instead is None else instead):
            log.info("The sound token '%s' has no word for %s, of which little is seen.", token.name, encoder)
            rows.append((token.name, torch.zeros(0, width)))
        else:
            rows.append((token.name, vectors_for(token, encoder, width, instead)))
    return rows


def _check_whole(prompt: Prompt, encoder: str, rows: tokenizer.Rows, token_ids: TokenIds) -> None:
    """Raises InputError where a word of the prompt has not come as far as the encoder's input."""
    found = token_positions(token_ids)
    for name, vectors in rows:
        wanted = sum(not isinstance(p, str) and p.name == name for p in prompt.pieces()) * len(vectors)
        if len(found.get(name, ())) != wanted:
            raise InputError(
                f"The sound token '{name}' stands behind what the text encoder {encoder} reads of a prompt: "
                "shorten the prompt or move the token forward."
            )


def word_rows(clip, encoder: str, texts: Sequence[str]) -> Tensor:
    """Texts' places among a text encoder's words: the mean of their pieces' rows [N, d], as they enter it,
    float32, on the CPU."""
    table, tower = vocabulary(clip, encoder), tokenizer_of(clip, encoder)
    device = table.weight.device
    with torch.no_grad():
        ids = [torch.tensor(tokenizer.word_ids(tower, text), device=device) for text in texts]
        # Through the module: some scale their rows after the look-up, and a table may be quantised.
        return torch.stack([table(row, out_dtype=torch.float32).mean(0).float().cpu() for row in ids])


def end_states(clip, encoder: str, texts: Sequence[str]) -> Tensor:
    """Texts' states at the end token after the final LayerNorm, unprojected [N, d], float32, on the CPU.

    Stable Diffusion 2 knows its text encoder without its last layer, and so it is here.
    """
    model, tokenizer = getattr(clip.cond_stage_model, encoder), getattr(clip.tokenizer, encoder)
    chunks = [tokenizer.tokenize_with_weights(text)[0] for text in texts]
    ids = [[piece for piece, *_ in chunk] for chunk in chunks]
    model.reset_clip_options()
    model.set_clip_options({"execution_device": clip.patcher.load_device, "projected_pooled": False})
    states = []
    with torch.no_grad():
        for start in range(0, len(ids), 16):
            batch = ids[start : start + 16]
            hidden, pooled = model.encode(batch)[:2]
            if encoder == "clip_h":
                ends = [row.index(tokenizer.end_token) for row in batch]
                pooled = hidden[torch.arange(len(batch)), torch.tensor(ends)]
            states.append(pooled.float().cpu())
    model.reset_clip_options()
    return torch.cat(states)


class ClipTower:
    """The first CLIP text encoder of a CLIP (clip_l; clip_h of Stable Diffusion 2) as a TextTower, whatever
    CLIP Set Last Layer says.

    Raises InputError for text encoders that are not CLIP.
    """

    def __init__(self, clip):
        self.clip, self.encoder = clip, clip_encoders(clip)[0]
        self.dim = vocabulary(clip, self.encoder).embedding_dim
        self.name = f"{self.encoder} {self.dim}"

    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, dim], float32, on the CPU."""
        if not texts:
            return torch.zeros(0, self.dim)
        with torch.inference_mode():
            self.clip.load_model()
            states = end_states(self.clip, self.encoder, texts)
        # A copy: outside inference mode it is an ordinary tensor, which training may use.
        return states.clone()
