"""What may steer a picture model's attention and latents while it samples.

A model knows these protocols alone; edits and loudness, which keep to them, are in `aai/inject`. Once a
sampling, a model has a Control `begin` a ControlRun and takes its `initial_noise`. At every step it calls
`before_model`, `injection` and `unconditional`, runs with these (each cross-attention layer calls `observe`
first), calls `after_model`, and adds its guidance. Whoever samples refuses what it does not follow of it: a
flow transformer asks for `worded_injection` and `after_model` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from ..errors import InputError
from ..prompt import TokenIds

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Any attention: q [B, ..., N, d], k and v [B, ..., L, d] to [B, ..., N, d]."""
Groups = Sequence[Sequence[int]]
"""Batch rows that belong together: a source first, then its edited pictures."""


class Injection(Protocol):
    """What attention does in one step of the sampler."""

    def cross_attention(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        groups: Groups,
        attend_rest: Attend | None = None,
    ) -> Tensor:
        """A layer's cross-attention [B, ..., N, d] of q [B, ..., N, d], k and v [B, ..., L, d], which may be
        written over. `attend_rest` serves calls on some of the rows, where `attend` must see all of them."""

    def self_attention(self, x: Tensor, groups: Groups, size: tuple[int, int]) -> Tensor:
        """A layer's queries or keys, or what they are made from, [B, N, C], for latents of `size` (h, w)."""

    def to(self, like: Tensor) -> Injection:
        """The same on a tensor's device and of its dtype."""


class JointInjection(Protocol):
    """What joint attention, of text and picture in one sequence, does in one step of the sampler."""

    def joint_attention(
        self,
        attend: Callable[[Tensor, Tensor, Tensor, slice, Sequence[int]], Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        groups: Groups,
        text: slice,
    ) -> Tensor:
        """A layer's attention [B, ..., S, d] of q, k, v [B, ..., S, d], of which `text` is the text's;
        `attend` takes the queries of some places with all keys and values, and for each batch row the one
        whose padding its text has."""

    def to(self, like: Tensor) -> JointInjection:
        """The same on a tensor's device and of its dtype."""


class RowBeside(Protocol):
    """A batch's row number `row` once more, with another prompt: a `beside.Beside`."""

    row: int


class ControlRun(Protocol):
    """A control during one sampling. Latents [B, C, h, w] come in groups of `rows`; `sigma` is noise over
    signal, and `progress` the share in [0, 1) of the sampler's steps that are done."""

    rows: int

    def initial_noise(self, noise: Tensor, sigma: float) -> Tensor:
        """The noise [B, C, h, w] of variance 1 that the sampler begins with at its first sigma, in place of
        `noise`."""

    def groups(self, rows: Sequence[int]) -> Groups:
        """Batch rows in groups. Raises InputError where they do not divide."""

    def injection(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection:
        """What attention does at `progress` of the sampler's `steps`. `token_ids` are each prompt's; `length`
        is the conditioning's, a multiple of each one's. Raises InputError for other prompts than the
        control's."""

    def joint_injection(self, progress: float, steps: int, token_ids: Sequence[TokenIds]) -> JointInjection:
        """`injection` for joint attention, whose prompts may differ in length."""

    def worded_injection(
        self, progress: float, steps: int, token_ids: Sequence[TokenIds], count: int, length: int
    ) -> tuple[JointInjection, Sequence[RowBeside]]:
        """`joint_injection` for a batch of `count` rows whose text has `length` places, and what has to run
        behind it."""

    def before_model(self, x: Tensor, sigma: float) -> Tensor:
        """The noisy latents [B, C, h, w] that the model sees in place of `x`."""

    def observe(self, attend: Attend, q: Tensor, k: Tensor, groups: Groups, size: tuple[int, int]) -> None:
        """Sees a layer's queries [B, heads, N, d] and keys [B, heads, L, d], for latents of `size` (h, w)."""

    def unconditional(self, sigma: float) -> Tensor | None:
        """The unconditional embedding [L, D] of the step from `sigma` on; None for the usual one."""

    def after_model(self, predictions: list[Tensor], prompted: int | None, progress: float) -> list[Tensor]:
        """The model's predictions of the clean latents, each [B, C, h, w], before guidance, corrected.
        `prompted` is the index of the prompt's own among them; None where it is not there."""


class WeighedWords(Protocol):
    """Words of a prompt and their weight."""

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""


class Control(Protocol):
    """What steers the samplings of a picture model."""

    @property
    def scales(self) -> Sequence[Mapping[str, float]]:
        """{sound token's name: its scale} for each picture that is not another's source."""

    @property
    def words(self) -> Sequence[WeighedWords]:
        """Other words' weights."""

    @property
    def film(self) -> object | None:
        """What each latent frame of a clip reads; None for pictures."""

    @property
    def rows(self) -> int:
        """How many latents are sampled together."""

    @property
    def latent_size(self) -> tuple[int, ...] | None:
        """The size (C, h, w) that latents must have; None for any."""

    def check_model(self, fingerprint: str) -> None:
        """Raises InputError for a model that this control is not for."""

    def begin(self, size: Sequence[int], steps: int | None, guidance: float | None) -> ControlRun:
        """A sampling of latents of `size` (C, h, w), in so many steps and at this guidance, None where they
        are not known. Raises InputError for latents of another size than `latent_size`."""


def check_no_film(control: Control) -> None:
    """Raises InputError for a control of a clip's latent frames, where a model draws pictures."""
    if control.film is not None:
        raise InputError(
            "What each latent frame reads is for a video model, and this one draws pictures: leave the film "
            "out, or draw the clip in ComfyUI."
        )


def check_no_words(control: Control) -> None:
    """Raises InputError for words' weights, where sound tokens alone have some."""
    word = next((word for word in control.words if word.changes), None)
    if word is not None:
        raise InputError(
            f"The weight of '{', '.join(word.words)}' does nothing in a U-Net here: scale a sound token, or "
            "weigh words in ComfyUI (Loudness Reweight) or with a flow transformer."
        )


def check_beside_sources(control: Control, family: str) -> None:
    """Raises InputError for sound tokens' scales in pictures without a source, or an inverted picture as the
    source, neither of which joint attention follows."""
    scaled = any(scale != 1.0 for scales in control.scales for scale in scales.values())
    if scaled and len(control.scales) == control.rows:
        raise InputError(
            f"The scale of a sound token alone does nothing in the attention of {family}: scale it in an "
            "edit of a source, or weigh it as a word (WordScale)."
        )
    if control.latent_size is not None:
        raise InputError(
            f"{family} edits a picture without inverting it: give the picture to `aai edit` with --picture, "
            "or its latents to edit_picture."
        )
