"""SoundWorld's text tower and tokenizer; build/text.py makes them.

The tower learns from captions alone what they mean (which event, how strong, where), and to take its own
output as a word: "a photo of *" with the embedding of "heavy rain" at the star means "a photo of heavy rain".
Stable Diffusion's CLIP has no such training; here it gives a sound's embedding f_a a meaning before eq. 6
adapts it.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .captions import phrase
from .models import DIM, TEXT_CONFIG
from .world import EVENTS

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def load_tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def text_config(tokenizer):
    """The tower's transformers config: TEXT_CONFIG with this tokenizer's vocabulary."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **TEXT_CONFIG,
    )


def build_text_tower(tokenizer) -> nn.Module:
    from transformers import CLIPTextModel

    model = CLIPTextModel(text_config(tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=0.03)
    return model


def hidden_states(model: nn.Module, embeddings: Tensor) -> Tensor:
    """Word embeddings [B, L, D] (no positions yet) to last hidden states [B, L, D] after the final
    LayerNorm."""
    tower = getattr(model, "text_model", model)
    x = embeddings + tower.embeddings.position_embedding.weight[: embeddings.shape[1]]
    length = x.shape[1]
    mask = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)[None, None]
    return tower.final_layer_norm(tower.encoder(inputs_embeds=x, attention_mask=mask).last_hidden_state)


def scale_of(model: nn.Module) -> float:
    """s: the mean norm of the vocabulary's embeddings (method: e = s f/|f| + f_adapter)."""
    return float(model.get_input_embeddings().weight.detach().norm(dim=-1).mean())


class CaptionEncoder:
    """Encodes captions with a tokenizer and a tower; every `*` of a caption takes a word vector [D]. Also a
    TextTower (encoders/text.py)."""

    name, dim = "SoundWorld", DIM

    def __init__(self, tokenizer, model: nn.Module):
        self.tokenizer, self.model = tokenizer, model
        self.star = tokenizer("*", add_special_tokens=False)["input_ids"][0]

    def ids(self, texts: list[str], length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids [B, L] padded with the end token, and each text's end position [B]."""
        rows = [self.tokenizer(t)["input_ids"] for t in texts]
        length = length or max(map(len, rows))
        ends = torch.tensor([len(r) - 1 for r in rows])
        pad = self.tokenizer.eos_token_id
        return torch.tensor([(r + [pad] * length)[:length] for r in rows]), ends

    def states(
        self, texts: list[str], words: Tensor | None = None, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [B, L, D] and sentence embeddings [B, D]; `words` [N, D] stand at the `*` of all
        texts, in reading order."""
        ids, ends = self.ids(texts, length)
        embeddings = self.model.get_input_embeddings()(ids)
        if words is not None:
            stars = (ids == self.star)[..., None].expand_as(embeddings)
            embeddings = embeddings.masked_scatter(stars, words)
        states = hidden_states(self.model, embeddings)
        return states, states[torch.arange(len(texts)), ends]

    def sentence(self, texts: list[str]) -> Tensor:
        return self.states(texts)[1]

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, DIM], without gradient."""
        return self.sentence(texts) if texts else torch.zeros(0, DIM)


def as_word(f: Tensor, s: float) -> Tensor:
    """A sentence or sound embedding [..., D] as a word of the vocabulary's size: s f/|f|."""
    return s * F.normalize(f, dim=-1)


def label_phrases() -> list[str]:
    """The words that "nearest words" chooses from: the events, without a level."""
    return [phrase(event, None) for event in EVENTS]
