"""transformers' T5 and language models as text encoders, with sound tokens in place of words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..prompt import SLOT, Layout, Prompt, following
from .text_encoder import placed

LENGTH = 512
"""The word pieces that picture models were trained to read of a prompt, at most."""


@dataclass(frozen=True)
class WordEncoder:
    """A tokenizer and a text model whose words are rows of one table.

    frame: what stands before and after a prompt, a chat's template. least: the places that a prompt has at
    least; the rest is padding, which is read like words. layer: which hidden states are the conditioning, by
    transformers' numbers; None for the last, after the final norm.
    """

    tokenizer: Callable
    model: nn.Module
    frame: tuple[str, str] = ("", "")
    least: int = 1
    layer: int | None = None

    @property
    def vocabulary(self) -> nn.Embedding:
        """The embedding of every token id it knows."""
        return self.model.get_input_embeddings()

    def split(self, text: str) -> list[int]:
        """A text's ids, without those that begin and end one, of any length."""
        ids = self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        return list(ids["input_ids"])

    def layout(self, prompt: Prompt, key: str) -> Layout:
        """The prompt as it reads it under its key (`Prompt.word_layout`)."""
        # Some tokenizers end a text, others do not.
        ends = self.tokenizer("", truncation=False, verbose=False)["input_ids"]
        pad = getattr(self.tokenizer, "pad_token_id", None) or 0
        return prompt.word_layout(self.split, key, self.frame, ends, LENGTH, self.least, pad)

    def embed(self, text: str) -> Tensor:
        """The mean of the rows of a text's pieces, as they stand in the middle of a sentence [d]."""
        ids = following(self.split, f" {text}")
        return self.vocabulary(torch.tensor(ids, device=self.vocabulary.weight.device)).float().mean(0)

    def word(self, text: str) -> Tensor:
        """The same: its words are the space in which it is addressed."""
        return self.embed(text)

    def states(self, layout: Layout, vectors: Mapping[str, Tensor]) -> Tensor:
        """The hidden states [1, L, d] of a layout, with `vectors` {token name: [n, d]} in its slots."""
        ids = [0 if i == SLOT else i for i in layout.ids]
        embedded = self.vocabulary(torch.tensor([ids], device=self.vocabulary.weight.device))
        embedded = placed(embedded, layout, vectors)
        if self.layer is None:
            return self.model(inputs_embeds=embedded).last_hidden_state
        output = self.model(inputs_embeds=embedded, output_hidden_states=True, use_cache=False)
        return output.hidden_states[self.layer]
