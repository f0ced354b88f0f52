"""The frames of a clip's latent in one call of a video transformer: where their queries stand, which frames
of the film they are, and the texts that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...aai.errors import InputError
from ...aai.inject.attention import Injection
from ...aai.inject.latent_frames import LatentFilm, chosen, heard, runs
from ...aai.picture.control import Groups
from ...aai.picture.model import Conditioning, lengthened
from . import families
from .mask import Padding, of_queries
from .places import patch_of

Cross = list[tuple[Injection, Groups]]


@dataclass(frozen=True)
class FilmCall:
    """A film in one call of a transformer.

    length: how many places each text has. takes: the number of each latent frame's, None where it is no frame
    of the film. ahead: how many queries stand in front of the frames', and each: how many a frame has.
    rows: the batch's rows that read their frame's text. injections: what each take injects, and rest: what is
    injected where no frame of the film stands. pictured: whether the keys of a picture stand in front of the
    texts'.
    """

    film: LatentFilm
    length: int
    takes: Sequence[int | None]
    ahead: int
    each: int
    rows: Sequence[int]
    injections: Sequence[Cross]
    rest: Cross
    pictured: bool = False

    def to(self, like: Tensor) -> FilmCall:
        """With its tensors on a tensor's device and of its dtype."""
        rest, *moved = (
            [(injection.to(like), groups) for injection, groups in cross]
            for cross in (self.rest, *self.injections)
        )
        return replace(self, injections=moved, rest=rest)

    def attention(self, cross: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, mask) -> Tensor:
        """Cross-attention in which every latent frame's queries read their own text. `cross(injections,
        texts, q, k, v, mask)` is attention to one text for each row, {row: its number} where it is not the
        conditioning's own."""
        count = q.shape[-2]
        whole = [(0, self.ahead, None)] if self.ahead else []
        whole += [
            (self.ahead + begin * self.each, min(self.ahead + end * self.each, count), take)
            for begin, end, take in runs(self.takes)
        ]
        if whole[-1][1] < count:
            # References and guides behind the film.
            whole.append((whole[-1][1], count, None))
        return torch.cat([self._part(cross, q, k, v, mask, *part) for part in whole if part[0] < count], -2)

    def first_keys(self, x: Tensor) -> Tensor:
        """The keys or values [B, ..., S, d] of the call that looks at a picture before the text. Without a
        picture core looks at all of the text there, which the frames' texts are no part of."""
        return x if self.pictured else x.narrow(-2, 0, self.length)

    def _part(self, cross, q, k, v, mask, begin: int, end: int, number: int | None) -> Tensor:
        part = q if end - begin == q.shape[-2] else q[..., begin:end, :]

        def read(text: int, injections: Cross = ()) -> Tensor:
            texts = dict.fromkeys(self.rows, text)
            keys, values = (chosen(x, self.length, texts) for x in (k, v))
            own = None
            if mask is not None:
                own = chosen(_each_row(mask, len(k)), self.length, texts, -1)
                own = of_queries(own, slice(begin, end), q.shape[-2])
            return cross(injections, texts if text else {}, part, keys, values, own)

        if number is None:
            return read(0, self.rest)
        take = self.film.takes[number]
        if take.plan is not None:
            return read(take.text, self.injections[number])
        return heard(read, take, self.film.without)

    def padding(self, padding: Padding, texts: Mapping[int, int]) -> Padding:
        """How long each row's text is, where some read another: {row: its number}."""
        if not texts:
            return padding
        lengths = [self.length if length >= padding.own else length for length in padding.lengths]
        for row, text in texts.items():
            lengths[row] = min(self.film.texts[text - 1].cross.shape[1], self.length)
        return replace(padding, lengths=lengths, own=self.length)

    def with_texts(self, context: Tensor, named: dict, texts: Tensor) -> tuple[Tensor, dict]:
        """The conditioning [B, L, D] and a call's other arguments with the frames' texts [n * L, D] behind
        the batch's own."""
        # Kept by the run, which several devices may share.
        context = torch.cat([context, texts.to(context).expand(len(context), -1, -1)], 1)
        mask = named.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2:
            others = (_mask_of(text, self.length).to(mask).expand(len(mask), -1) for text in self.film.texts)
            named = {**named, "attention_mask": torch.cat([mask, *others], 1)}
        return context, named


def texts_of(film: LatentFilm, like: Tensor) -> Tensor:
    """A film's texts one behind another [n * L, D], for a conditioning [B, L, D]. Raises InputError for one
    that is longer."""
    length, rows = like.shape[1], []
    for text in film.texts:
        own = text.cross.shape[1]
        if own > length:
            raise InputError(
                "A frame's text has more pieces than the prompt: give all sounds words of as many vectors."
            )
        rows.append(lengthened(text.cross.to(like), own, length)[0])
    return torch.cat(rows) if rows else like.new_zeros(0, like.shape[2])


def frames_of(
    film: LatentFilm,
    transformer: nn.Module,
    x: Tensor,
    named: dict,
    options: dict,
    retained: Sequence[int] = (),
) -> tuple[list[int | None], int]:
    """The takes of a latent's frames [B, C, T, h, w] in one call, None for those of no film, and how many
    queries a frame has. `retained` are places of a context window that hold the frame of their own number.

    Raises InputError for a latent that is no clip, or longer than the film.
    """
    if families.is_one(families.PIECEWISE, transformer):
        raise InputError(
            "This model draws its film piece by piece and does not say which piece it is at, so that a "
            "timeline has no frames: load another Wan model."
        )
    if x.ndim != 5 or (x.shape[2] == 1 and len(film.frames) > 1):
        raise InputError(
            f"The timeline is {len(film.frames)} latent frames long, but what is drawn is a single picture: "
            "give the empty latent of a video its length."
        )
    count, height, width = x.shape[2:]
    depth, *sides = patch_of(transformer)
    each = -(-height // sides[0]) * -(-width // sides[1])
    keyframes = named.get("keyframe_idxs")
    guides = 0 if keyframes is None else -(-keyframes.shape[2] // each)
    window = options.get("context_window")
    numbers = list(range(count - guides))
    if window is not None:
        # A latent frame's number is the film's, not the window's.
        anchor = getattr(window, "causal_anchor_index", None)
        numbers = [*([] if anchor is None or anchor < 0 else [anchor]), *window.index_list]
        numbers = [number if place not in retained else place for place, number in enumerate(numbers)]
    if not 0 < len(numbers) <= count:
        raise InputError(
            f"Of the {count} latent frames that are drawn, {len(numbers)} are the film's: take the node that "
            "adds frames off this model."
        )
    takes = [*film.of(numbers), *[None] * (count - len(numbers))]
    return takes[::depth], each


def _each_row(mask: Tensor, rows: int) -> Tensor:
    """A mask with a row for each of the batch."""
    if mask.ndim > 2 and len(mask) == rows:
        return mask
    return mask.expand(rows, *mask.shape[-2:] if mask.ndim == 2 else mask.shape[1:])


def _mask_of(text: Conditioning, length: int) -> Tensor:
    own = text.cross.shape[1]
    mask = text.extra.get("attention_mask")
    mask = torch.ones(1, own, dtype=torch.long) if mask is None else mask[:1].cpu()
    return lengthened(mask, own, length)
