"""Edits and loudness in joint attention (Flux, SD3, Qwen-Image, Z-Image ...), as tensor functions.

There one attention call has the text's and the picture's queries, keys and values one after another: q, k, v
[B, ..., S, d], of which `text` is a slice at the beginning or at the end. No map is formed.

Structure (Shin et al., ICCV 2025, arXiv 2508.07519): in the early steps the edited picture's image queries
and keys are the source's, its own text and all of its values stay:

    softmax([q_text_e; q_image_s] [k_text_e; k_image_s]^T / sqrt(d)) v_e

Scale (eq. 8): the encoder and the layers before spread a word over all of the text, so that scaling its own
value row alone does little, and the source's values under the edited text's keys still show the word. What
the image's queries find goes from where the text is the source's to where it is the edited one's, o_s + s
(o_e - o_s), so that 0 is the source picture and 1 the edit; the text's own queries find o_e. Any word's
weight does the same from the text of the prompt without it, which a row beside the batch's own carries
through all layers. Where s is not 1 that takes a second call, of these rows' image queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..picture.control import Groups
from .attention import borrow, rows_of

STRUCTURE_WINDOW, STYLE_STRUCTURE_WINDOW = (0.0, 0.2), (0.0, 0.1)
"""When the structure is borrowed, as shares of the sampler's steps. A transformer borrows in all its layers,
at full resolution, and has drawn its scene early: beyond a fifth of the steps events are lost."""

AttendQueries = Callable[[Tensor, Tensor, Tensor, slice, "Sequence[int]"], Tensor]
"""Any attention of q [B, ..., n, d], the queries at places `slice` of the sequence, with k and v
[B, ..., S, d] of all of it, to [B, ..., n, d]; every layout that keeps the batch first and the places last
but one will do. Last, for each batch row the one whose text, and so whose padding, its keys have."""


@dataclass(frozen=True)
class TextMix:
    """How a picture's image queries see its text: `own` [T] weighs the value rows of its places, and what is
    found is shared from a source's text (0) to its own (1) and beyond. `changes` says whether any weight is
    not 1."""

    own: Tensor
    changes: bool
    share: float = 1.0

    def to(self, like: Tensor) -> TextMix:
        """With its tensors on a tensor's device and of its dtype."""
        return replace(self, own=self.own.to(like))

    def fitted(self, before: int, length: int) -> TextMix:
        """For a text of `length` places, of which `before` stand in front of the prompt's."""
        count = min(len(self.own), length - before)
        own = torch.ones(length).to(self.own)
        own[before : before + count] = self.own[:count]
        return replace(self, own=own)


@dataclass(frozen=True)
class JointInjection:
    """What one step of the sampler injects in joint attention: a mix for each edited row of a group, and
    whether the structure is borrowed."""

    mixes: tuple[TextMix, ...]
    borrows: bool = False

    def joint_attention(
        self, attend: AttendQueries, q: Tensor, k: Tensor, v: Tensor, groups: Groups, text: slice
    ) -> Tensor:
        """Joint attention [B, ..., S, d] in which each group's edited rows borrow from its source. A group is
        the batch rows of a source and its edited pictures, in `mixes`' order."""
        return grouped_attention(attend, q, k, v, text, [(self, groups)])

    def pairs(self, groups: Groups) -> list[Pair]:
        """Each edited row with its source and its mix."""
        return [(source, row, mix) for source, *edited in groups for row, mix in zip(edited, self.mixes)]

    def fitted(self, before: int, length: int) -> JointInjection:
        """For a text of `length` places, of which `before` stand in front of the prompt's."""
        return replace(self, mixes=tuple(mix.fitted(before, length) for mix in self.mixes))

    def to(self, like: Tensor) -> JointInjection:
        """With its tensors on a tensor's device and of its dtype, so that no layer has to move them."""
        return replace(self, mixes=tuple(mix.to(like) for mix in self.mixes))


@dataclass(frozen=True)
class WordedInjection:
    """A JointInjection with words' weights: rows beside the batch's own stand in groups of their own."""

    own: JointInjection
    beside: tuple[tuple[JointInjection, Groups], ...]
    words: tuple[Word, ...]

    def joint_attention(
        self, attend: AttendQueries, q: Tensor, k: Tensor, v: Tensor, groups: Groups, text: slice
    ) -> Tensor:
        """As `JointInjection.joint_attention`."""
        return grouped_attention(attend, q, k, v, text, [(self.own, groups), *self.beside], self.words)

    def to(self, like: Tensor) -> WordedInjection:
        """With its tensors on a tensor's device and of its dtype."""
        beside = tuple((injection.to(like), groups) for injection, groups in self.beside)
        return replace(self, own=self.own.to(like), beside=beside)


Pair = tuple[int, int, TextMix]
"""A batch row whose text is the source, the one that shares it, and how."""
Word = tuple[int, int, float]
"""A batch row whose text lacks some words, the one of the whole prompt, and the words' weight."""


def image_of(text: slice, length: int) -> slice:
    """The picture's places of a sequence of `length` whose text stands at the beginning or at the end."""
    return slice(text.stop, length) if text.start == 0 else slice(0, text.start)


def borrowed_image(x: Tensor, groups: Groups, text: slice) -> Tensor:
    """Queries or keys [B, ..., S, d], the edited rows' image places the source's (Shin et al. 2025)."""
    image = image_of(text, x.shape[-2])
    return _in_order(x[..., text, :], borrow(x[..., image, :], groups), text)


def weighted_values(v: Tensor, text: slice, pairs: Sequence[Pair]) -> Tensor | None:
    """The values [B, ..., S, d] that the image's queries see; None where they are `v` itself."""
    pairs = [(source, row, mix) for source, row, mix in pairs if mix.changes]
    if not pairs:
        return None
    weighted = v.clone()
    for _, row, mix in pairs:
        weighted[row, ..., text, :] *= mix.own.to(v)[:, None]
    return weighted


def grouped_attention(
    attend: AttendQueries,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: slice,
    parts: Sequence[tuple[JointInjection, Groups]],
    words: Sequence[Word] = (),
) -> Tensor:
    """Joint attention [B, ..., S, d] of a batch of several groups, each with its injection, and of words.

    What a row's image queries find in its own text moves by each word's weight from what they find in the
    text without it, o + sum (s - 1) (o - o_without), and then by its mix's share from its source's.
    """
    borrowing = [group for injection, groups in parts if injection.borrows for group in groups]
    if borrowing:
        q, k = (borrowed_image(x, borrowing, text) for x in (q, k))
    pairs = [pair for injection, groups in parts for pair in injection.pairs(groups)]
    weighted = weighted_values(v, text, pairs)
    image, rows = image_of(text, q.shape[-2]), list(range(len(q)))
    if weighted is None:
        out = attend(q, k, v, slice(0, q.shape[-2]), rows)
        of_text, of_image = out[..., text, :], out[..., image, :]
    else:
        of_text = attend(q[..., text, :], k, v, text, rows)
        of_image = attend(q[..., image, :], k, weighted, image, rows)
    words = [word for word in words if word[2] != 1.0]
    shares = [(source, row, mix.share) for source, row, mix in pairs if mix.share != 1.0]
    if not words and not shares:
        return _in_order(of_text, of_image, text)
    beside = _found_beside(attend, q, k, v if weighted is None else weighted, text, [*words, *shares])
    found = of_image.clone()
    for (_, row, weight), without in zip(words, beside):
        found[row] += (weight - 1) * (of_image[row] - without)
    for (_, row, share), of_source in zip(shares, beside[len(words) :]):
        found[row] = torch.lerp(of_source, found[row], share)
    return _in_order(of_text, found, text)


def _found_beside(
    attend: AttendQueries, q: Tensor, k: Tensor, v: Tensor, text: slice, others: Sequence[Word]
) -> Tensor:
    """What the image's queries of rows find where the text is another row's, [N, ..., n, d]."""
    texts, rows = [other for other, *_ in others], [row for _, row, _ in others]
    image = image_of(text, q.shape[-2])

    def exchanged(x: Tensor) -> Tensor:
        return _in_order(rows_of(x, texts)[..., text, :], rows_of(x, rows)[..., image, :], text)

    return attend(rows_of(q, rows)[..., image, :], exchanged(k), exchanged(v), image, texts)


def shared(length: int, share: float) -> TextMix:
    """What is found in a text of so many places, from the other's (0) to its own (1) and beyond."""
    return TextMix(torch.ones(length), changes=False, share=share)


def own_rows(weights: Sequence[float]) -> TextMix:
    """A prompt's own value rows, weighted: eq. 8 to the letter."""
    own = torch.tensor([float(weight) for weight in weights])
    return TextMix(own, changes=any(weight != 1.0 for weight in weights))


def _in_order(of_text: Tensor, of_image: Tensor, text: slice) -> Tensor:
    return torch.cat([of_text, of_image] if text.start == 0 else [of_image, of_text], -2)
