"""Edits and loudness in joint attention (Flux, SD3, Qwen-Image, Z-Image ...), as tensor functions.

There one attention call has the text's and the picture's queries, keys and values one after another: q, k, v
[B, ..., S, d], of which `text` is a slice at the beginning or at the end. No map is formed.

Structure (Shin et al., ICCV 2025, arXiv 2508.07519): in the early steps the edited picture's image queries
and keys are the source's, its own text and all of its values stay:

    softmax([q_text_e; q_image_s] [k_text_e; k_image_s]^T / sqrt(d)) v_e

Scale (eq. 8): the encoder and the layers before spread a word over all of the text, so that scaling its own
value row alone does little, and the source's values under the edited text's keys still show the word. What
the image's queries find goes from where the text is the source's to where it is the edited one's, o_s + s
(o_e - o_s), so that 0 is the source picture and 1 the edit; the text's own queries find o_e. Where s is not 1
that takes a second call, of the image's queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..picture.control import Groups
from ..prompt import TokenIds, index_projection
from .attention import borrow

STRUCTURE_WINDOW, STYLE_STRUCTURE_WINDOW = (0.0, 0.2), (0.0, 0.1)
"""When the structure is borrowed, as shares of the sampler's steps. A transformer borrows in all its layers,
at full resolution, and has drawn its scene early: beyond a fifth of the steps events are lost."""

AttendQueries = Callable[[Tensor, Tensor, Tensor, slice, "Sequence[int]"], Tensor]
"""Any attention of q [B, ..., n, d], the queries at places `slice` of the sequence, with k and v
[B, ..., S, d] of all of it, to [B, ..., n, d]; every layout that keeps the batch first and the places last
but one will do. Last, for each batch row the one whose text, and so whose padding, its keys have."""


@dataclass(frozen=True)
class TextMix:
    """The value rows [T, d] of one prompt's text as its image's queries see them: `own` [T] of its own rows,
    and `given` [T] of rows number `place` [T] of another batch row's text. `changes` says whether that is
    anything but its own. `elsewhere` is the weight of its own rows at places of the sequence's text that no
    prompt tells of (registers, another encoder's rows); the rest is the other's row at the same place. With a
    `share`, the values are the prompt's own, and what is found is shared instead: from the other's text (0)
    to its own (1) and beyond."""

    own: Tensor
    given: Tensor
    place: Tensor
    changes: bool
    elsewhere: float = 1.0
    share: float = 1.0

    def of(self, v: Tensor, others: Tensor) -> Tensor:
        """[..., T, d] of a row's text values and another's, both [..., T, d]."""
        own, given = self.own.to(v)[:, None], self.given.to(v)[:, None]
        return v * own + others.index_select(-2, self.place.to(v.device)) * given

    def to(self, like: Tensor) -> TextMix:
        """With its tensors on a tensor's device and of its dtype."""
        place = self.place.to(like.device)
        return replace(self, own=self.own.to(like), given=self.given.to(like), place=place)

    def fitted(self, before: int, length: int) -> TextMix:
        """For a text of `length` places, of which `before` stand in front of the prompt's."""
        count = min(len(self.own), length - before)
        own = torch.full((length,), self.elsewhere).to(self.own)
        given, place = 1 - own, torch.arange(length, device=self.place.device)
        inside = slice(before, before + count)
        own[inside], given[inside] = self.own[:count], self.given[:count]
        place[inside] = self.place[:count] + before
        return replace(self, own=own, given=given, place=place)


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
        if self.borrows:
            q, k = (borrowed_image(x, groups, text) for x in (q, k))
        return mixed_attention(attend, q, k, v, text, self.pairs(groups))

    def pairs(self, groups: Groups) -> list[Pair]:
        """Each edited row with its source and its mix."""
        return [(source, row, mix) for source, *edited in groups for row, mix in zip(edited, self.mixes)]

    def to(self, like: Tensor) -> JointInjection:
        """With its tensors on a tensor's device and of its dtype, so that no layer has to move them."""
        return replace(self, mixes=tuple(mix.to(like) for mix in self.mixes))


Pair = tuple[int, int, TextMix]
"""A batch row whose values are taken, the one that takes them, and how."""


def image_of(text: slice, length: int) -> slice:
    """The picture's places of a sequence of `length` whose text stands at the beginning or at the end."""
    return slice(text.stop, length) if text.start == 0 else slice(0, text.start)


def borrowed_image(x: Tensor, groups: Groups, text: slice) -> Tensor:
    """Queries or keys [B, ..., S, d], the edited rows' image places the source's (Shin et al. 2025)."""
    image = image_of(text, x.shape[-2])
    return _in_order(x[..., text, :], borrow(x[..., image, :], groups), text)


def mixed_values(
    v: Tensor, text: slice, pairs: Sequence[Pair] = (), words: Sequence[Pair] = ()
) -> Tensor | None:
    """The values [B, ..., S, d] that the image's queries see; None where they are `v` itself.

    `words` are scaled first: each adds (own - 1) of a row's own values and `given` of another's, so that
    several do not depend on their order. `pairs` then mix the outcome with their sources' values.
    """
    words = [(source, row, mix) for source, row, mix in words if mix.changes]
    pairs = [(source, row, mix) for source, row, mix in pairs if mix.changes]
    if not words and not pairs:
        return None
    mixed = v.clone()
    for source, row, mix in words:
        mixed[row, ..., text, :] += mix.of(v[row, ..., text, :], v[source, ..., text, :])
        mixed[row, ..., text, :] -= v[row, ..., text, :]
    for source, row, mix in pairs:
        mixed[row, ..., text, :] = mix.of(mixed[row, ..., text, :], v[source, ..., text, :])
    return mixed


def mixed_attention(
    attend: AttendQueries,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: slice,
    pairs: Sequence[Pair] = (),
    words: Sequence[Pair] = (),
) -> Tensor:
    """Joint attention [B, ..., S, d] whose image's queries see `mixed_values`, or find a share of another's
    text, and whose text's queries see the values."""
    mixed = mixed_values(v, text, pairs, words)
    image, rows = image_of(text, q.shape[-2]), list(range(len(q)))
    if mixed is None:
        out = attend(q, k, v, slice(0, q.shape[-2]), rows)
        of_text, of_image = out[..., text, :], out[..., image, :]
    else:
        of_text = attend(q[..., text, :], k, v, text, rows)
        of_image = attend(q[..., image, :], k, mixed, image, rows)
    shared = [(source, row, mix.share) for source, row, mix in pairs if mix.share != 1.0]
    if shared:
        k, others = k.clone(), (v if mixed is None else mixed).clone()
        for source, row, _ in shared:
            for values, texts in ((k, k), (others, v)):
                values[row, ..., text, :] = texts[source, ..., text, :]
            rows[row] = source
        of_image, beside = of_image.clone(), attend(q[..., image, :], k, others, image, rows)
        for _, row, share in shared:
            of_image[row] = torch.lerp(beside[row], of_image[row], share)
    return _in_order(of_text, of_image, text)


def aligned(source: TokenIds, edited: TokenIds) -> tuple[int, ...]:
    """IndexProj (eq. 7), and beyond it the pieces that stand between the same neighbours in both prompts, in
    order: for each place of `edited` that of the value row that stood there in `source`, or -1."""
    projection = list(index_projection(source, edited))
    stop = next((i for i in range(len(source), 0, -1) if source[i - 1] is not None), 0)
    before = next((i for i, piece in enumerate(source) if piece is not None), 0) - 1
    for j, i in enumerate(projection):
        if i >= 0:
            before = i
            continue
        if edited[j] is None:
            continue
        following = next((p for p in projection[j + 1 :] if p >= 0), stop)
        if before + 1 < min(following, stop):
            before += 1
            projection[j] = before
    return tuple(projection)


def text_mix(source: TokenIds, edited: TokenIds, weights: Sequence[float], elsewhere: float = 1.0) -> TextMix:
    """The values of a prompt's text from another's (0) to its own (1) and beyond, by a weight for each place,
    and one for places that no prompt tells of. What the other does not have is scaled alone; padding that it
    does not have stays."""
    places = aligned(source, edited)
    own = [
        1.0 if i < 0 and piece is None else float(weight) for piece, i, weight in zip(edited, places, weights)
    ]
    given = [1.0 - weight if i >= 0 else 0.0 for weight, i in zip(own, places)]
    return TextMix(
        torch.tensor(own),
        torch.tensor(given),
        torch.tensor([max(i, 0) for i in places]),
        changes=elsewhere != 1.0 or any(weight != 1.0 for weight in own),
        elsewhere=elsewhere,
    )


def shared(length: int, share: float) -> TextMix:
    """What is found in a text of so many places, from the other's (0) to its own (1) and beyond."""
    own = torch.ones(length)
    return TextMix(own, 0 * own, torch.arange(length), changes=False, share=share)


def own_rows(weights: Sequence[float]) -> TextMix:
    """A prompt's own value rows, weighted: eq. 8 to the letter."""
    own = torch.tensor([float(weight) for weight in weights])
    changes = any(weight != 1.0 for weight in weights)
    return TextMix(own, torch.zeros(len(own)), torch.zeros(len(own), dtype=torch.long), changes)


def _in_order(of_text: Tensor, of_image: Tensor, text: slice) -> Tensor:
    return torch.cat([of_text, of_image] if text.start == 0 else [of_image, of_text], -2)
