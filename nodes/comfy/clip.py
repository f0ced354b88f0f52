"""Prompts with sound tokens, and plain texts, through ComfyUI's CLIP."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...aai.embedding import ENCODERS
from ...aai.errors import InputError
from ...aai.picture.model import Conditioning, Vectors
from ...aai.prompt import Prompt, TokenIds
from ...aai.token import SoundToken

PLACEHOLDER = "aai-sound-token-"
"""With its number, what a sound token is called in the text that core's tokenizer reads."""
TOKEN_IDS = "aai_token_ids"
"""The key of a CONDITIONING's options that holds the token ids of each of its rows, a tuple of TokenIds."""


def tokenize(clip, prompt: Prompt, vectors: Vectors | None = None) -> tuple[dict, TokenIds]:
    """The prompt in core's token weight pairs, and the first text encoder's token ids.

    A sound token goes the way of `embedding:name`, so weights "(a photo of *:1.2)", other embeddings and
    prompts of more than 77 tokens work as everywhere in ComfyUI. `vectors` {token name: {encoder: [n, d]}}
    stand in for the tokens' own and may require grad. Raises InputError where a token does not fit this CLIP.
    """
    used = prompt.used()
    # Spaces: core knows an embedding only as a word of its own.
    text = "".join(
        p if isinstance(p, str) else f" embedding:{PLACEHOLDER}{used.index(p)} " for p in prompt.pieces()
    )
    rows: dict[str, dict[str, Tensor]] = {}
    tokenizer = copy.copy(clip.tokenizer)
    names = encoders(clip)
    for name in ENCODERS:
        if name in names:
            width = vocabulary(clip, name).embedding_dim
            rows[name] = {t.name: vectors_for(t, name, width, (vectors or {}).get(t.name)) for t in used}
            embeddings = [rows[name][t.name] for t in used]
        elif hasattr(tokenizer, name):
            # XL's refiner has XL's tokenizer, whose other half would warn of an embedding that it lacks.
            embeddings = [torch.zeros(0, 1) for _ in used]
        else:
            continue
        setattr(tokenizer, name, _with_embeddings(getattr(tokenizer, name), embeddings))
    options = getattr(clip, "tokenizer_options", None)
    pairs = tokenizer.tokenize_with_weights(text, **({"tokenizer_options": options} if options else {}))
    first = names[0]
    end = getattr(clip.tokenizer, first).end_token
    return pairs, _token_ids(pairs[first.removeprefix("clip_")], rows[first], end)


def encode(clip, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
    """The prompt's conditioning, as CLIP Text Encode makes it; `vectors` as in `tokenize`."""
    pairs, token_ids = tokenize(clip, prompt, vectors)
    with torch.no_grad():
        return Conditioning(*clip.encode_from_tokens(pairs, return_pooled=True), (token_ids,))


def as_core(cond: Conditioning) -> list:
    """A Conditioning as core's CONDITIONING, which carries its token ids."""
    return [[cond.cross, {"pooled_output": cond.pooled, TOKEN_IDS: cond.token_ids}]]


def token_ids_of(conditioning: list) -> list[tuple[TokenIds, ...]]:
    """The token ids of each part of a core CONDITIONING that was made here, a tuple for each row."""
    return [options[TOKEN_IDS] for _, options in conditioning if TOKEN_IDS in options]


def encoders(clip) -> list[str]:
    """The CLIP text encoders inside a CLIP object: "clip_l", "clip_g", "clip_h".

    Raises InputError for text encoders that are not CLIP (T5 and the language models of newer families).
    """
    names = [k for k in ENCODERS if hasattr(clip.cond_stage_model, k)]
    others = [
        k for k, m in clip.cond_stage_model.named_children() if k not in names and hasattr(m, "transformer")
    ]
    if not names or others:
        raise InputError(
            "Sound tokens need a Stable Diffusion 1, 2 or XL text encoder; this CLIP has "
            f"{', '.join(others) or 'none'}: load a checkpoint of one of these families."
        )
    return names


def vocabulary(clip, encoder: str) -> nn.Embedding:
    """The embedding of every token id that a text encoder knows [vocabulary, d]."""
    return getattr(clip.cond_stage_model, encoder).transformer.get_input_embeddings()


def vectors_for(
    token: SoundToken, encoder: str, width: int, instead: Mapping[str, Tensor] | None = None
) -> Tensor:
    """A token's vectors [n, width] for a text encoder, or those given {encoder: [n, width]}.

    Raises InputError where there are none of that width.
    """
    vectors = token.vectors if instead is None else instead
    rows = vectors.get(encoder)
    if rows is None or rows.shape[-1] != width:
        widths = ", ".join(f"{k} {tuple(v.shape)[-1]}" for k, v in vectors.items())
        raise InputError(
            f"The sound token '{token.name}' is of width {widths}, but this CLIP reads {encoder} {width}: "
            "train the token with this model, or load the checkpoint that it was trained with."
        )
    return rows


def _with_embeddings(tokenizer, embeddings: list[Tensor]):
    """A copy of one encoder's tokenizer that also knows `embedding:<PLACEHOLDER><number>`."""
    tokenizer, without_files = copy.copy(tokenizer), copy.copy(tokenizer)
    without_files.embedding_directory = []
    core_lookup = tokenizer._try_get_embedding
    if tokenizer.embedding_directory is None:
        tokenizer.embedding_directory = []

    def lookup(name: str):
        word = name.split()[0]
        if not word.startswith(PLACEHOLDER):
            return core_lookup(name)
        # Core's answer begins with the vectors in every version; what follows them differs.
        embedding = embeddings[int(word.removeprefix(PLACEHOLDER))]
        return (embedding, *without_files._try_get_embedding(name)[1:])

    tokenizer._try_get_embedding = lookup
    return tokenizer


def _token_ids(chunks: list, rows: Mapping[str, Tensor], end: int) -> TokenIds:
    """The token ids in core's chunks of (id or vector, weight, ...), whose sound tokens' vectors are views of
    `rows` {token name: [n, d]}; what follows a chunk's end token is padding."""
    owners = {v.untyped_storage().data_ptr(): (name, v) for name, v in rows.items()}
    token_ids: list = []
    for chunk in chunks:
        pieces = [entry for entry, *_ in chunk]
        read = len(pieces)
        for i, piece in enumerate(pieces):
            if not isinstance(piece, Tensor):
                token_ids.append(int(piece))
                if piece == end:
                    read = i + 1
                    break
                continue
            name, vectors = owners.get(piece.untyped_storage().data_ptr(), (None, None))
            if name is None:
                token_ids.append(f"embedding {hash(tuple(piece.flatten()[:8].tolist()))}")
            else:
                row = (piece.storage_offset() - vectors.storage_offset()) // vectors.shape[-1]
                token_ids.append((name, row))
        token_ids += [None] * (len(pieces) - read)
    return tuple(token_ids)


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
        self.clip, self.encoder = clip, encoders(clip)[0]
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
