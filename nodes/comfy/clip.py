"""Sound tokens among ComfyUI's words: what CLIP encodes, and where in it a token stands."""

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

PLACE = "aai-sound-token-"
TOKEN_IDS = "aai_token_ids"
"""The key of a CONDITIONING's options that holds what was read at each position, a tuple for each row."""


def tokenize(clip, prompt: Prompt, vectors: Vectors | None = None) -> tuple[dict, TokenIds]:
    """The prompt in core's token weight pairs, and what the first text encoder reads at each
    position.

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
    read_by = encoders(clip)
    for key in ENCODERS:
        if key in read_by:
            width = word_embeddings(clip, key).embedding_dim
            rows[key] = {t.name: vectors_for(t, key, width, (vectors or {}).get(t.name)) for t in used}
            known = [rows[key][t.name] for t in used]
        elif hasattr(tokenizer, key):
            # XL's refiner has XL's tokenizer, whose other half would warn that it finds no such embedding.
            known = [torch.zeros(0, 1) for _ in used]
        else:
            continue
        setattr(tokenizer, key, _with_tokens(getattr(tokenizer, key), known))
    options = getattr(clip, "tokenizer_options", None)
    pairs = tokenizer.tokenize_with_weights(text, **({"tokenizer_options": options} if options else {}))
    key = read_by[0]
    return pairs, _token_ids(
        pairs[key.removeprefix("clip_")], rows[key], getattr(clip.tokenizer, key).end_token
    )


def encode(clip, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
    """The prompt's conditioning, as CLIP Text Encode makes it."""
    pairs, token_ids = tokenize(clip, prompt, vectors)
    with torch.no_grad():
        return Conditioning(*clip.encode_from_tokens(pairs, return_pooled=True), (token_ids,))


def core(cond: Conditioning) -> list:
    """As core's CONDITIONING, which carries what was read."""
    return [[cond.cross, {"pooled_output": cond.pooled, TOKEN_IDS: cond.token_ids}]]


def token_ids_of(conditioning: list) -> list[tuple[TokenIds, ...]]:
    """What was read by each part of a core CONDITIONING that is ours, a tuple for each row."""
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


def word_embeddings(clip, encoder: str) -> nn.Embedding:
    """The vocabulary of one text encoder."""
    return getattr(clip.cond_stage_model, encoder).transformer.get_input_embeddings()


def end_states(clip, encoder: str, texts: Sequence[str]) -> Tensor:
    """Texts' states at the end token after the final LayerNorm, unprojected [N, d].

    Stable Diffusion 2 knows its text encoder without its last layer, and so it is here.
    """
    model, words = getattr(clip.cond_stage_model, encoder), getattr(clip.tokenizer, encoder)
    chunks = [words.tokenize_with_weights(text)[0] for text in texts]
    ids = [[piece for piece, *_ in chunk] for chunk in chunks]
    model.reset_clip_options()
    model.set_clip_options({"execution_device": clip.patcher.load_device, "projected_pooled": False})
    found = []
    with torch.no_grad():
        for start in range(0, len(ids), 16):
            part = ids[start : start + 16]
            states, pooled = model.encode(part)[:2]
            if encoder == "clip_h":
                ends = [row.index(words.end_token) for row in part]
                pooled = states[torch.arange(len(part)), torch.tensor(ends)]
            found.append(pooled.float().cpu())
    model.reset_clip_options()
    return torch.cat(found)


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


def _token_ids(chunks: list, rows: Mapping[str, Tensor], end: int) -> TokenIds:
    owners = {v.untyped_storage().data_ptr(): (name, v) for name, v in rows.items()}
    found: list = []
    for chunk in chunks:
        pieces = [entry for entry, *_ in chunk]
        read = len(pieces)
        for i, piece in enumerate(pieces):
            if not isinstance(piece, Tensor):
                found.append(int(piece))
                if piece == end:
                    read = i + 1
                    break
                continue
            name, vectors = owners.get(piece.untyped_storage().data_ptr(), (None, None))
            if name is None:
                found.append(f"embedding {hash(tuple(piece.flatten()[:8].tolist()))}")
            else:
                row = (piece.storage_offset() - vectors.storage_offset()) // vectors.shape[-1]
                found.append((name, row))
        found += [None] * (len(pieces) - read)
    return tuple(found)


class ClipTower:
    """The first CLIP text encoder of a CLIP (clip_l; clip_h of Stable Diffusion 2) as a TextTower, whatever
    CLIP Set Last Layer says.

    `encoder` names another one. Raises InputError for text encoders that are not CLIP.
    """

    def __init__(self, clip, encoder: str | None = None):
        self.clip, self.encoder = clip, encoder or encoders(clip)[0]
        self.dim = word_embeddings(clip, self.encoder).embedding_dim
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
