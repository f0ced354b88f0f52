"""What the attention of one call of a transformer does, in which rows of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...aai.inject.attention import Injection
from ...aai.inject.heatmap import Heatmap
from ...aai.inject.joint import JointInjection, Word
from ...aai.inject.latent_frames import LatentFilm
from ...aai.picture.control import Groups
from ...aai.picture.schedule import progress
from ...aai.prompt import TokenIds
from . import families
from .latent_frames import FilmCall, frames_of
from .mask import Padding
from .places import patch_of, places_ahead, text_places

Watcher = Callable[[Tensor, Tensor, "Tensor | None", int], None]
"""Sees queries and keys [rows, heads, n, d], a mask, and the place of the keys where the prompts begin."""


@dataclass
class Plan:
    """One call of a transformer: what its attention does in the batch's rows.

    text: how many places the text has in a joint sequence. ahead: how many of references stand in front of
    the picture's own. joint, cross: what is injected in which groups. words: which rows find a share of what
    they would find in another's text. watched: who sees the queries and the keys of which rows. film: what
    the latent frames read, each its own.
    """

    layout: families.Attention
    text: int
    ahead: int
    joint: list[tuple[JointInjection, Groups]]
    cross: list[tuple[Injection, Groups]]
    words: list[Word]
    padding: Padding
    watched: list[tuple[Sequence[int], Watcher]]
    film: FilmCall | None = None

    def to(self, like: Tensor) -> Plan:
        """With its tensors on a tensor's device and of its dtype."""
        joint = [(injection.to(like), groups) for injection, groups in self.joint]
        cross = [(injection.to(like), groups) for injection, groups in self.cross]
        film = None if self.film is None else self.film.to(like)
        return replace(self, joint=joint, cross=cross, film=film)

    def text_of(self, length: int) -> slice:
        """The text's places of a joint sequence of `length`."""
        return slice(0, self.text) if self.layout.first else slice(length - self.text, length)

    @property
    def borrowing(self) -> Groups:
        """The groups whose edited rows follow their source's shapes now."""
        return [group for injection, groups in self.joint if injection.borrows for group in groups]


def plan_of(run, layout, transformer, options, uuids, count, length, named, hidden, x, left) -> Plan:
    """What one call does: `count` rows of each of the conditionings `uuids`, whose text has `length` places,
    and behind them the `hidden`."""
    rows, size = len(x), tuple(x.shape[2:])
    sigma, sigmas = float(options["sigmas"][0]), options["sample_sigmas"].tolist()
    share, steps = progress(sigma, sigmas), max(len(sigmas) - 1, 1)
    before, text = text_places(layout, transformer, length, named)
    joint, cross, words, watched = [], [], [], []
    lengths, own = [length] * (rows + len(hidden) * count), length
    for chunk, uid in enumerate(uuids):
        if uid not in run.token_ids:
            continue
        token_ids = run.token_ids[uid]
        own = max(map(len, token_ids))
        chunk_rows = range(chunk * count, (chunk + 1) * count)
        for row in chunk_rows:
            lengths[row] = length if left else len(token_ids[(row - chunk_rows[0]) % len(token_ids)])
        ids, groups = tuple(_lengthened(i, length, left) for i in token_ids), run.edit.groups(chunk_rows)
        joint.append((run.edit.joint_injection(share, steps, ids).fitted(before, text), groups))
        if layout.cross:
            cross.append((run.edit.injection(share, steps, ids, length), groups))
        if run.heatmap is not None and run.observing and uid in run.prompted:
            watched.append((chunk_rows, partial(_watch, run.heatmap, ids, size, patch_of(transformer)[-1])))
    for number, part in enumerate(hidden):
        ids = tuple(_lengthened(i, length, left) for i in part.token_ids)
        for i, row in enumerate(part.rows):
            at, without = rows + number * count + i, part.conditioning(i)
            if without is None:
                continue
            lengths[at] = length if left else min(without.cross.shape[1], length)
            if part.scale(i) == 1.0:
                continue
            words.append((at, row, part.scale(i)))
            group = [[part.rows[run.edit.source_of(i)], at]]
            other = _lengthened(without.token_ids[0], length, left)
            joint.append((run.edit.joint_beside(share, steps, ids, i, other).fitted(before, text), group))
            if layout.cross:
                cross.append((run.edit.injection_beside(share, steps, ids, length, i, other), group))
    filled = bool(layout.filler[0] and getattr(transformer, layout.filler[2], None))
    padding, ahead = Padding(lengths, own, before, filled), places_ahead(transformer, named)
    return Plan(layout, text, ahead, joint, cross, words, padding, watched)


def _watch(heatmap: Heatmap, token_ids, size, patch: int, q: Tensor, k: Tensor, mask, first: int) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask)

    heatmap.observe_patches(attend, q, k, token_ids, first, size, patch)


def film_call(
    run, film: LatentFilm, plan: Plan, transformer, x, length: int, named: dict, options: dict, left: bool
) -> FilmCall | None:
    """What the latent's frames read in one call; None where none of its conditionings is the film's."""
    sigma, sigmas = float(options["sigmas"][0]), options["sample_sigmas"].tolist()
    share, steps = progress(sigma, sigmas), max(len(sigmas) - 1, 1)
    uuids = options["uuids"]
    count, rows = len(x) // len(uuids), []
    injections: list[list] = [[] for _ in film.takes]
    for chunk, uid in enumerate(uuids):
        if run.token_ids.get(uid) != film.token_ids:
            continue
        chunk_rows = range(chunk * count, (chunk + 1) * count)
        groups = run.edit.groups(chunk_rows)
        rows += chunk_rows if film.takes[0].plan is None else [row for _, *edited in groups for row in edited]
        ids = tuple(_lengthened(i, length, left) for i in film.token_ids)
        for injected_here, take in zip(injections, film.takes):
            if take.plan is not None:
                injected_here.append((take.plan.at(share, steps, ids, length), groups))
    if not rows:
        return None
    takes, each = frames_of(film, transformer, x, named, options, run.retained)
    pictured = named.get("clip_fea") is not None
    return FilmCall(film, length, takes, plan.ahead, each, rows, injections, plan.cross, pictured)


def _lengthened(token_ids: TokenIds, length: int, left: bool) -> TokenIds:
    padding = (None,) * (length - len(token_ids))
    return padding + tuple(token_ids) if left else tuple(token_ids)[:length] + padding
