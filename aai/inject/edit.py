"""Eq. 7: which attention of its source an edited picture borrows, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import InputError
from ..picture.model import Conditioning, PictureModel, padded, stacked
from ..prompt import Prompt, TokenIds, index_projection
from .attention import Injection, ValueMix, groups_of, tiled
from .blend import START, THRESHOLD, Blend, BlendRun, word_positions
from .edit_run import EditRun
from .invert import Trajectory
from .joint import (
    STRUCTURE_WINDOW,
    STYLE_STRUCTURE_WINDOW,
    JointInjection,
    TextMix,
    own_rows,
    shared,
)
from .latent_frames import LatentFilm
from .loudness import Reweight, check_scale, value_weights
from .words import WordScale

Window = tuple[float, float]

CROSS_WINDOW, SELF_WINDOW = (0.0, 0.8), (0.0, 0.4)
Stack = Callable[[Sequence[Conditioning], "int | None"], Conditioning]
"""Rows of a conditioning, and whose pooled embedding all take, as `encode`'s."""
STYLE_WINDOWS: dict[str, Window] = {"cross_window": (0.0, 0.5), "self_window": (0.0, 0.2)}
"""`Edit`'s windows for "... in the style of *": the whole picture must change, so borrowing ends earlier."""

SILENCES = ("full", "literal")


@dataclass(frozen=True)
class Edit:
    """What eq. 7 and 8 need to draw edited pictures beside their source.

    source, edited: the prompts, one picture each, of any lengths; every edited one names a sound token.
    cross_window, self_window: when the source's attention is borrowed, as shares of the sampler's steps.
    self_downscale: self-attention is borrowed in layers this much coarser than the latent, or more.
    scales: for each edited picture {token name: scale in [0, 2]} (eq. 8); none leaves every token at 1.
    silence: "full", every cross-attention's output goes from the source's (scale 0) to the edit's (1) and as
    far again beyond it (2), so that 0 gives the source picture and 2 exaggerates; of several tokens the
    loudest decides. "literal", eq. 8 alone: the words after a token still carry it at any scale, since CLIP's
    attention is causal.
    source_pooled: SDXL's pooled embedding is the source's in every row, which keeps the composition.
    blend: where the edited pictures may differ at all; None for everywhere.
    trajectory: the source's, where it is a given picture (`invert`). With `full`, edited pictures below scale
    1 keep to it in part, and at 0 are the given picture.
    words: other words' weights in the edited pictures.
    film: what each latent frame of an edited clip reads; None for the edited prompt throughout.

    In transformers shapes follow the source's in all layers during `self_window`. In joint attention there is
    no cross window, and `full` moves what the image finds in its text.

    Raises InputError for windows or scales out of range, an edited prompt without a sound token, or a scale
    for a token that its prompt does not name.
    """

    source: Prompt
    edited: tuple[Prompt, ...]
    cross_window: Window = CROSS_WINDOW
    self_window: Window = SELF_WINDOW
    self_downscale: int = 4
    scales: tuple[Mapping[str, float], ...] = ()
    silence: str = "full"
    source_pooled: bool = True
    blend: Blend | None = None
    trajectory: Trajectory | None = None
    words: tuple[WordScale, ...] = ()
    film: LatentFilm | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "edited", tuple(self.edited))
        object.__setattr__(self, "scales", tuple(self.scales) or ({},) * len(self.edited))
        if not self.edited:
            raise InputError("An edit needs an edited prompt beside the source prompt: write one.")
        for name, window in (("cross", self.cross_window), ("self", self.self_window)):
            _check_window(name, window)
        if self.silence not in SILENCES:
            raise InputError(f"There is no silence '{self.silence}': choose {' or '.join(SILENCES)}.")
        if len(self.scales) != len(self.edited):
            raise InputError(
                f"{len(self.scales)} loudness scales were given for {len(self.edited)} edited pictures: give "
                "one, or one for each."
            )
        for prompt, scales in zip(self.edited, self.scales):
            names = [token.name for token in prompt.used()]
            if not names:
                raise InputError(
                    f"The edited prompt '{prompt.text}' names no sound token: write * or <name> where the "
                    "sound belongs."
                )
            for name, scale in scales.items():
                check_scale(scale)
                if name not in names:
                    raise InputError(
                        f"There is a loudness scale for <{name}>, but the edited prompt '{prompt.text}' "
                        f"names {', '.join(f'<{n}>' for n in names)}: scale one of these."
                    )

    @property
    def rows(self) -> int:
        """How many pictures are drawn together: the source and the edited ones."""
        return 1 + len(self.edited)

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        """Batch rows in groups of a source and its edited pictures. Raises InputError where they do not
        divide."""
        return groups_of(rows, self.rows)

    @property
    def latent_size(self) -> tuple[int, ...] | None:
        """The size (C, h, w) of an inverted picture's latents; None for any."""
        return None if self.trajectory is None else tuple(self.trajectory.clean.shape)

    def check_model(self, fingerprint: str) -> None:
        """Raises InputError for another U-Net than the one that inverted the source."""
        if self.trajectory is not None:
            self.trajectory.check_model(fingerprint)

    def begin(self, size: Sequence[int], steps: int | None, guidance: float | None) -> EditRun:
        """One sampling of latents of `size` (C, h, w). Raises InputError where an inverted picture's latents
        have another; warns of other steps or guidance (None: not known) than its null embeddings are for."""
        if self.trajectory is not None:
            self.trajectory.check_size(size)
            self.trajectory.warn_of_others(steps, guidance)
        blending = self.blend and BlendRun(self.blend, self.rows, tuple(size[-2:]))
        return EditRun(self, self.trajectory, blending)

    def at(self, progress: float, steps: int, token_ids: Sequence[TokenIds], length: int) -> Injection:
        """What is injected at a share `progress` of the sampler's steps.

        `token_ids` are those of the source and of every edited prompt; `length` is the conditioning's, a
        multiple of each one's. The self window is counted in whole steps, int(share * steps), as in
        google/prompt-to-prompt.
        """
        begin, end = self.cross_window
        inside = begin <= progress < end
        self._check_rows(token_ids)
        source, *edited = token_ids
        mixes = (self._mix(source, row, number, inside, length) for number, row in enumerate(edited))
        first, last = (int(share * steps) for share in self.self_window)
        borrows_self = first <= round(progress * steps) < last
        return Injection(tuple(mixes), borrows_self, self.self_downscale)

    def structure_at(self, progress: float, steps: int) -> bool:
        """Whether a transformer's shapes follow the source's at a share `progress` of the sampler's steps.
        The window is counted in whole steps, the nearest: distilled models have few."""
        first, last = (round(share * steps) for share in self.self_window)
        return first <= round(progress * steps) < last

    def joint_at(self, progress: float, steps: int, token_ids: Sequence[TokenIds]) -> JointInjection:
        """What is injected in joint attention; as `at`, with prompts of any lengths."""
        self._check_rows(token_ids)
        source, *edited = token_ids
        mixes = (self._text_mix(source, row, number) for number, row in enumerate(edited))
        return JointInjection(tuple(mixes), self.structure_at(progress, steps))

    def word_scale(self, word: WordScale, row: int) -> float:
        """The scale of words in a row of the batch: the sources keep theirs."""
        picture = row % self.rows
        return word.of(picture - 1) if picture else 1.0

    def source_share(self, row: int) -> float:
        """How much of its source a row of the batch still is: all at scale 0, nothing from 1 on. `literal`
        scales say nothing of the source."""
        number = self.mix_of(row)
        if number < 0:
            return 1.0
        if self.silence == "literal":
            return 0.0
        scales = self.scales[number]
        loudest = max(scales.get(token.name, 1.0) for token in self.edited[number].used())
        return max(0.0, 1.0 - loudest)

    def mix_of(self, row: int) -> int:
        """Which mix of an injection is a batch row's; -1 for a source."""
        return row % self.rows - 1

    def _text_mix(self, source: TokenIds, edited: TokenIds, number: int) -> TextMix:
        weights = value_weights(edited, self.scales[number])
        if self.silence == "literal":
            return own_rows(weights)
        # Of the same prompt nothing differs; two calls would round differently from one.
        same = source == edited and self._is_source(number)
        return shared(len(edited), 1.0 if same else _loudest(weights, edited))

    def _is_source(self, number: int) -> bool:
        """Whether an edited prompt says what the source says, weights "(rain:1.3)" included, which token ids
        do not show."""
        edited = self.edited[number]
        return self.source.used() == edited.used() and self.source.letters == edited.letters

    def _check_rows(self, token_ids: Sequence[TokenIds]) -> None:
        if len(token_ids) != self.rows:
            raise InputError(
                f"The edit has {self.rows} pictures, but the conditioning has {len(token_ids)}: use the "
                "conditioning that was made with it."
            )

    def _mix(self, source: TokenIds, edited: TokenIds, number: int, inside: bool, length: int) -> ValueMix:
        projection = index_projection(source, edited)
        own = value_weights(edited, self.scales[number])
        sound = [isinstance(piece, tuple) for piece in edited]
        if source == edited and self._is_source(number) and set(own) == {1.0}:
            # Nothing is edited, so nothing at all may differ; two calls would round differently from one.
            own, share = [0.0] * len(own), 0.0
        else:
            share = _loudest(own, edited) if self.silence == "full" else 1.0
        given, inverse = [0.0] * len(source), [0] * len(source)
        for j, i in enumerate(projection):
            if sound[j]:
                continue
            own[j] = share
            if inside and i >= 0:
                own[j], given[i], inverse[i] = 0.0, share, j
        return ValueMix(
            inside=inside,
            kept=1.0 - share,
            given=tiled(given, length),
            inverse=tiled(inverse, length),
            own=tiled(own, length),
            gives=any(given),
            owns=any(own),
        )


def sweep(
    edited: Sequence[Prompt], scales: Sequence[float]
) -> tuple[tuple[Prompt, ...], tuple[dict[str, float], ...]]:
    """`Edit`'s prompts and scales where every token has its picture's scale: one scale for all prompts, one
    prompt for all scales, or as many of both.

    Raises InputError for other numbers.
    """
    count = max(len(edited), len(scales))
    if not edited or {len(edited), len(scales)} - {1, count}:
        raise InputError(
            f"{len(scales)} loudness scales do not go with {len(edited)} edited prompts: give one of either, "
            "or as many of both."
        )
    prompts = tuple(edited) * (count // len(edited))
    repeated = list(scales) * (count // len(scales))
    return prompts, tuple({t.name: scale for t in prompt.used()} for prompt, scale in zip(prompts, repeated))


def reweighted(
    before: Edit | Reweight | None, names: Sequence[str], scales: Sequence[float]
) -> Edit | Reweight:
    """Eq. 8 added to an edit, to other scales, or on its own: one scale, or one for each picture, for the
    tokens of these names. An edited prompt without a token of that name gets no scale for it.

    Raises InputError where the scales are not as many as the pictures.
    """
    added = [dict.fromkeys(names, scale) for scale in scales]
    existing = [] if before is None else list(before.scales)
    count = len(existing) if isinstance(before, Edit) else max(len(added), len(existing))
    if len(added) not in (1, count) or len(existing) not in (0, 1, count):
        raise InputError(
            f"{len(added)} loudness scales were given for {count} pictures: give one, or one for each."
        )
    existing = existing or [{}]
    added, existing = added * (count // len(added)), existing * (count // len(existing))
    if not isinstance(before, Edit):
        words = () if before is None else before.words
        return Reweight(tuple({**old, **new} for old, new in zip(existing, added)), words)
    used = [{token.name for token in prompt.used()} for prompt in before.edited]
    merged = (
        {**old, **{n: s for n, s in new.items() if n in row}} for old, new, row in zip(existing, added, used)
    )
    return replace(before, scales=tuple(merged))


def worded(injection: Edit | Reweight, added: WordScale) -> Edit | Reweight:
    """An edit or scales with other words' weights, in place of these words' own before."""
    others = tuple(word for word in injection.words if word.words != added.words)
    return replace(injection, words=(*others, added))


def blended(
    edit: Edit,
    encode_prompt: Callable[[Prompt], Conditioning],
    words: str = "",
    mask: Tensor | None = None,
    start: float = START,
    threshold: float = THRESHOLD,
    changes: bool = False,
) -> Edit:
    """The edit limited to where words attend ("*, fire": a prompt's own words, separated by commas), to a
    mask, to where it changes most, or to all of these; `start`, `threshold` and `changes` as `Blend`'s.

    Raises InputError for a word that stands in neither prompt, or a mask of another shape than `Blend`'s.
    """
    names = [name.strip() for name in words.split(",") if name.strip()]
    if not names and mask is None and not changes:
        return edit
    prompts = (edit.source, *edit.edited)
    tokens = edit.edited[0].tokens

    def token_ids(text: str) -> TokenIds:
        return encode_prompt(Prompt(text, tokens)).token_ids[0]

    positions = word_positions(names, token_ids, [token_ids(p.text) for p in prompts]) if names else ()
    if mask is not None and mask.ndim == 3 and len(mask) not in (1, len(edit.edited)):
        raise InputError(
            f"{len(mask)} masks were given for {len(edit.edited)} edited pictures: give one, or one for each."
        )
    return replace(edit, blend=Blend(positions, mask, start, threshold, changes))


def windows(style: bool, transformer: bool) -> dict[str, Window]:
    """`Edit`'s windows that keep the scene, or change the style, in a U-Net or in a transformer."""
    chosen = dict(STYLE_WINDOWS) if style else {}
    if transformer:
        chosen["self_window"] = STYLE_STRUCTURE_WINDOW if style else STRUCTURE_WINDOW
    return chosen


def stack_of(model: PictureModel) -> Stack:
    """How a picture model's prompts of different length become rows of one conditioning."""
    return padded if model.joint else stacked


def encode(
    encode_prompt: Callable[[Prompt], Conditioning],
    edit: Edit,
    stack: Stack = stacked,
) -> Conditioning:
    """The conditioning of the source and the edited prompts, a row each, by a picture model's
    `encode_prompt`; `stack` makes them one."""
    rows = [encode_prompt(prompt) for prompt in (edit.source, *edit.edited)]
    return stack(rows, 0 if edit.source_pooled else None)


def _loudest(weights: Sequence[float], token_ids: TokenIds) -> float:
    return max((w for w, piece in zip(weights, token_ids) if isinstance(piece, tuple)), default=1.0)


def _check_window(name: str, window: Window) -> None:
    start, end = window
    if not 0 <= start <= end <= 1:
        raise InputError(
            f"The {name} window {start:g} to {end:g} is no part of the sampling steps: give a start and an "
            "end from 0 to 1, the start first."
        )
