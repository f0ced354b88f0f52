"""transformers' CLIP text encoders, with sound tokens in place of words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..prompt import SLOT, Layout


@dataclass(frozen=True)
class TextEncoder:
    """A CLIPTokenizer and a CLIPTextModel, with a projection or without."""

    tokenizer: Callable
    model: nn.Module

    @property
    def vocabulary(self) -> nn.Embedding:
        """The embedding of every token id it knows."""
        return self.model.get_input_embeddings()

    @property
    def length(self) -> int:
        """How many positions it reads, begin and end among them."""
        return self.model.config.max_position_embeddings

    def tokenize(self, text: str) -> list[int]:
        """A text's ids between a begin and an end id, of any length."""
        # Without a length there is no cut, and no warning of transformers': the prompt's layout does both.
        return self.tokenizer(text, truncation=False, verbose=False)["input_ids"]

    def end_state(self, text: str) -> Tensor:
        """A text's state at its end token after the final LayerNorm [d]; the text is cut to the length."""
        begin, *pieces, end = self.tokenize(text)
        ids = [begin, *pieces[: self.length - 2], end]
        # Nothing that follows is seen from here, so no padding.
        output = self.model(torch.tensor([ids], device=self.vocabulary.weight.device))
        return output.last_hidden_state[0, -1]

    def word(self, text: str) -> Tensor:
        """The mean of a text's pieces' word embeddings [d]; an empty text is its begin's and end's."""
        ids = self.tokenize(text)
        device = self.vocabulary.weight.device
        return self.vocabulary(torch.tensor(ids[1:-1] or ids, device=device)).mean(0)

    def run(self, layout: Layout, vectors: Mapping[str, Tensor]):
        """The text model's output on a layout, with `vectors` {token name: [n, d]} in its slots."""
        # The begin id stands in for a slot: pooling, by the highest or the first end id, still finds the end.
        ids = [layout.ids[0] if i == SLOT else i for i in layout.ids]
        ids = torch.tensor([ids], device=self.vocabulary.weight.device)
        slots = [s.position for s in layout.slots]

        def place(_module, _inputs, embedded: Tensor) -> Tensor:
            rows = torch.stack([vectors[s.name][s.row] for s in layout.slots]).to(embedded)
            where = torch.tensor(slots, device=embedded.device)
            return embedded.index_copy(1, where, rows[None])

        # A hook on the word embeddings leaves all else (positions, mask, pooling) to the model itself.
        hook = self.vocabulary.register_forward_hook(place) if slots else contextlib.nullcontext()
        with hook:
            return self.model(ids, output_hidden_states=True)
