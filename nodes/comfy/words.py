"""Sound tokens among ComfyUI's words: what CLIP encodes, and where in it a token stands."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from ...aai.errors import InputError
from ...aai.picture.model import Vectors
from ...aai.prompt import Prompt
from ...aai.token import SoundToken

PLACE = "aai-sound-token-"
POSITIONS = "aai_token_positions"
"""The key of a CONDITIONING's options that holds {token name: [its positions in the conditioning]}."""


def tokenize(clip, prompt: Prompt, vectors: Vectors | None = None) -> tuple[dict, dict[str, list[int]]]:
    """The prompt in core's token weight pairs, and each token's positions in the conditioning.

    A sound token takes the way of `embedding:name`, so weights "(a photo of *:1.2)", other embeddings and
    prompts of more than 77 tokens work as everywhere in ComfyUI. `vectors` {token name: {encoder: [n, d]}}
    stand in for the tokens' own and may require grad. Raises InputError where a token does not fit this CLIP.
    """
    used = prompt.used()
    # Spaces: core finds an embedding only as a word of its own.
    text = "".join(
        p if isinstance(p, str) else f" embedding:{PLACE}{used.index(p)} " for p in prompt.pieces()
    )
    rows: dict[str, dict[str, Tensor]] = {}
    tokenizer = copy.copy(clip.tokenizer)
    for key in encoders(clip):
        width = word_embeddings(clip, key).shape[1]
        rows[key] = {t.name: vectors_for(t, key, width, (vectors or {}).get(t.name)) for t in used}
        setattr(tokenizer, key, _with_tokens(getattr(tokenizer, key), [rows[key][t.name] for t in used]))
    options = getattr(clip, "tokenizer_options", None)
    pairs = tokenizer.tokenize_with_weights(text, **({"tokenizer_options": options} if options else {}))
    key = encoders(clip)[0]
    return pairs, _positions(pairs[key.removeprefix("clip_")], rows[key])


def encoders(clip) -> list[str]:
    """The CLIP text encoders inside a CLIP object: "clip_l", "clip_g", "clip_h".

    Raises InputError for text encoders that are not CLIP (T5 and the language models of newer families).
    """
    names = [k for k in ("clip_l", "clip_g", "clip_h") if hasattr(clip.cond_stage_model, k)]
    others = [
        k for k, m in clip.cond_stage_model.named_children() if k not in names and hasattr(m, "transformer")
    ]
    if not names or others:
        raise InputError(
            "Sound tokens need a Stable Diffusion 1, 2 or XL text encoder; this CLIP has "
            f"{', '.join(others) or 'none'}: load a checkpoint of one of these families."
        )
    return names


def word_embeddings(clip, encoder: str) -> Tensor:
    """The vocabulary's vectors [words, width] of one text encoder."""
    return getattr(clip.cond_stage_model, encoder).transformer.get_input_embeddings().weight


def vectors_for(
    token: SoundToken, encoder: str, width: int, instead: Mapping[str, Tensor] | None = None
) -> Tensor:
    """A token's vectors [n, width] for a text encoder. Raises InputError where it has none of that width."""
    held = token.vectors if instead is None else instead
    found = held.get(encoder)
    if found is None or found.shape[-1] != width:
        widths = ", ".join(f"{k} {tuple(v.shape)[-1]}" for k, v in held.items())
        raise InputError(
            f"The sound token '{token.name}' is of width {widths}, but this CLIP reads {encoder} {width}: "
            "train the token with this model, or load the checkpoint that it was trained with."
        )
    return found


def _with_tokens(words, vectors: list[Tensor]):
    """A copy of one encoder's tokenizer that also knows `embedding:<PLACE><number>`."""
    words, nowhere = copy.copy(words), copy.copy(words)
    nowhere.embedding_directory = []
    core = words._try_get_embedding
    if words.embedding_directory is None:
        words.embedding_directory = []

    def find(name: str):
        if not name.split()[0].startswith(PLACE):
            return core(name)
        # Core's answer begins with the vectors in every version; what follows them differs.
        return (vectors[int(name.split()[0].removeprefix(PLACE))], *nowhere._try_get_embedding(name)[1:])

    words._try_get_embedding = find
    return words


def _positions(chunks: list, rows: Mapping[str, Tensor]) -> dict[str, list[int]]:
    owners = {v.untyped_storage().data_ptr(): name for name, v in rows.items()}
    positions: dict[str, list[int]] = {name: [] for name in rows}
    start = 0
    for chunk in chunks:
        for i, (entry, *_) in enumerate(chunk):
            if isinstance(entry, Tensor) and entry.untyped_storage().data_ptr() in owners:
                positions[owners[entry.untyped_storage().data_ptr()]].append(start + i)
        start += len(chunk)
    return positions
