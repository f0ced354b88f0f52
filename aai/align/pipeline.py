"""Stage 1 in one call: clips to features, and eq. 1 on an encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from ..audio import Sound
from ..data.clips import Clip
from ..distributed import ALONE, Distributed
from ..encoders.base import SoundEncoder
from ..encoders.cavmae import CAVMAE
from ..encoders.cavmae_encoder import CAVMAEEncoder
from ..encoders.fingerprint import digest
from ..encoders.text import TextTower, label_vectors
from ..errors import InputError
from ..metrics import Share
from .augment import Augment
from .batches import Batches
from .calibrate import calibrate
from .checkpoint import Checkpoint
from .evaluate import label_accuracy
from .features import Features, encode, left_out_note
from .recordings import groups_of
from .settings import AlignSettings
from .train import AlignResult, align


def hold_out(clips: list[Clip], share: float = 0.2, seed: int = 0) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and `share` of every class held out; a class keeps at least one clip to train on.

    Groups (`groups_of`) are held out whole, so that no recording is on both sides; a class's share is then as
    near to the asked one as its groups, met in random order, bring it.
    """
    if not share:
        return clips, []
    generator = torch.Generator().manual_seed(seed)
    classes: dict[str, list[int]] = {}
    groups = groups_of(clips)
    sizes: dict[Hashable, Counter[str]] = {}
    for number, (clip, group) in enumerate(zip(clips, groups)):
        classes.setdefault(clip.label, []).append(number)
        sizes.setdefault(group, Counter())[clip.label] += 1
    wanted = {label: min(round(share * len(own)), len(own) - 1) for label, own in classes.items()}
    held, is_held = dict.fromkeys(classes, 0), {}

    def off(counts: Mapping[str, int], labels: Iterable[str]) -> int:
        return sum(abs(counts[label] - wanted[label]) for label in labels)

    train, held_out = [], []
    for _, members in sorted(classes.items()):
        for i in torch.randperm(len(members), generator=generator).tolist():
            group = groups[members[i]]
            if group in is_held:
                continue
            after = {label: held[label] + count for label, count in sizes[group].items()}
            leaves_one = all(count < len(classes[label]) for label, count in after.items())
            is_held[group] = leaves_one and off(after, after) <= off(held, after)
            if is_held[group]:
                held.update(after)
        for number in members:
            (held_out if is_held[groups[number]] else train).append(clips[number])
    return train, held_out


def copy_for(
    encoder: SoundEncoder, tower: TextTower, name: str, notes: Mapping[str, str] | None = None
) -> CAVMAEEncoder:
    """A copy of a CAV-MAE, called `name`, to be aligned with a text encoder; `notes` tell how it was made.

    Raises InputError for an encoder that is not a CAV-MAE or of another width than the text vectors.
    """
    if not isinstance(encoder, CAVMAEEncoder):
        raise InputError(
            f"'{encoder.name}' is no CAV-MAE, which alone is aligned this way: choose one, or bridge a CLAP."
        )
    if encoder.dim != tower.dim:
        raise InputError(
            f"'{encoder.name}' gives {encoder.dim} numbers, but the text encoder {tower.name} has vectors of "
            f"{tower.dim}: choose two of one width (the public CAV-MAEs have 768)."
        )
    model = CAVMAE(encoder.model.config)
    model.take({key: value.detach().clone() for key, value in encoder.model.state_dict().items()}, name)
    return CAVMAEEncoder(
        model.requires_grad_(False).to(encoder.device),
        list(encoder.labels),
        encoder.label_vectors.clone(),
        encoder.tau,
        name,
        encoder.space,
        {**encoder.notes, "start": encoder.name, **(notes or {})},
        encoder.padding,
    )


def align_clips(
    encoder: CAVMAEEncoder,
    data: AlignData,
    settings: AlignSettings,
    augment: Augment | None = None,
    callbacks: Callbacks | None = None,
    *,
    measure_every: int | None = None,
    store: Path | None = None,
    checkpoint: Checkpoint | None = None,
    distributed: Distributed = ALONE,
) -> Aligned:
    """Stage 1 on clips, in place: the frozen towers' features of all of them, then eq. 1.

    The weights that name most of the held-out clips right are kept, without such clips the latest; they are
    measured every `measure_every` steps (None: a tenth of all, at least 5). The encoder's labels become the
    clips', its space the text encoder's. For momentum "literal_shared" its model is replaced by one with a
    shared block. It trains on the device of `distributed` and is then back on its own. `store` is a folder
    for the features. With a `checkpoint` (whose `about` and `f_t` are filled in here) a stopped training
    resumes, with the same files on both sides. Raises InputError as `encode`, `align_encoder` and `align` do.
    """
    callbacks = callbacks or Callbacks()
    shared = settings.momentum == "literal_shared"
    if shared:
        encoder.model = encoder.model.shared().eval()
    if data.tower:
        encoder.space = data.tower.name
    vectors = data.vectors()
    clips, device = len(data.train) + len(data.held_out), encoder.device
    encoder.model.to(distributed.device)

    def features(part: list[Clip], tokens: bool, begun: int) -> Features:
        tick = callbacks.encoding and (lambda done, _: callbacks.encoding(begun + done, clips))
        return encode(encoder, part, vectors, tokens, tick, store, distributed, data.folder)

    try:
        train = features(data.train, shared, 0)
        held_out = features(data.held_out, False, len(data.train)) if data.held_out else None
        measured, left_out = len(held_out.labels) if held_out else 0, train.left_out
        if held_out:
            left_out += held_out.left_out
        if callbacks.encoded:
            callbacks.encoded(measured, left_out_note(left_out, clips))
        if checkpoint:
            about = _about(encoder, train, held_out, augment)
            checkpoint = replace(checkpoint, about=about, f_t=train.f_t)
        before = None
        if held_out and data.compare:
            before = label_accuracy(encoder.model, _among_labels_of(train, held_out))
        result = align_encoder(
            encoder,
            train,
            settings,
            augment,
            held_out,
            callbacks.step,
            measure_every or max(5, settings.steps // 10),
            distributed,
            checkpoint,
            callbacks.stopped,
        )
        encoder.known = calibrate(encoder, train, held_out, data.outside()) if data.outside else None
    finally:
        encoder.model.to(device)
    return Aligned(result, len(train.labels), len(train.words), measured, before, left_out)


def align_encoder(
    encoder: CAVMAEEncoder,
    features: Features,
    settings: AlignSettings,
    augment: Augment | None = None,
    held_out: Features | None = None,
    callback: Callable[[int, int, dict], None] | None = None,
    measure_every: int = 100,
    distributed: Distributed = ALONE,
    checkpoint: Checkpoint | None = None,
    on_stop: Callable[[AlignResult], None] | None = None,
) -> AlignResult:
    """Eq. 1 on an encoder, in place, from the features of clips; its label table becomes the features'.

    With `held_out` clips the weights that name most of them right are kept, also where `callback` raises to
    stop; without, the latest. The other arguments are those of `align`; when `on_stop` is called, the encoder
    is one that can be saved. Raises InputError for held-out clips of a class that is not trained on.
    """
    measure = None
    if held_out:
        test = _among_labels_of(features, held_out)

        def measure(model: CAVMAE) -> float:
            return label_accuracy(model, test).value

    def stopped(result: AlignResult) -> None:
        encoder.tau = result.tau
        if on_stop:
            on_stop(result)

    encoder.labels, encoder.label_vectors = list(features.words), F.normalize(features.f_t, dim=-1)
    batches = Batches(features, encoder.model.config, augment, encoder.device, distributed)
    result = align(
        encoder.model, batches, settings, callback, measure, measure_every, distributed, checkpoint, stopped
    )
    encoder.tau = result.tau
    return result


def _among_labels_of(train: Features, held_out: Features) -> Features:
    """The held-out clips with every trained label as a candidate, whether or not a clip of it is held out."""
    untrained = sorted(set(held_out.words) - set(train.words))
    if untrained:
        raise InputError(f"'{untrained[0]}' is held out but never trained on: give it clips to train on.")
    index = torch.tensor([train.words.index(word) for word in held_out.words])
    return replace(held_out, words=train.words, f_t=train.f_t, labels=index[held_out.labels])


def _about(
    encoder: CAVMAEEncoder, train: Features, held_out: Features | None, augment: Augment | None
) -> str:
    """What a checkpoint's training starts from and learns: the weights, and the files of both sides in their
    versions. The states of 0.1.0 named the clips alone; they are refused."""
    sides = train.source, held_out.source if held_out else ""
    name, gain = (augment.name, augment.gain) if augment else ("none", 0.0)
    return digest(*encoder.model.parameters(), *sides, encoder.padding, name, gain)


@dataclass(frozen=True)
class AlignData:
    """Clips to train on and clips that are only measured on; `folder` holds all their files. `tower` gives
    the labels' vectors, by `template` (see `label_vectors`); without it the encoder's own table does. With
    `compare`, the held-out clips are measured before the first step too. `outside` makes sounds of no label,
    once the training has ended, against which the encoder learns what it does not know; without it, it tells
    nothing of that."""

    train: list[Clip]
    held_out: list[Clip] = field(default_factory=list)
    tower: TextTower | None = None
    template: str = "label"
    folder: Path | None = None
    compare: bool = False
    outside: Callable[[], Sequence[Sound]] | None = None

    def vectors(self) -> dict[str, torch.Tensor] | None:
        """Every label's vector [D] by the text encoder."""
        if self.tower is None:
            return None
        words = sorted({clip.label for clip in (*self.train, *self.held_out)})
        return dict(zip(words, label_vectors(self.tower, words, self.template)))


@dataclass(frozen=True)
class Callbacks:
    """`encoding(clips done, clips)` and `step(step, steps, figures)` may raise to stop; `stopped(result)` is
    called where the training ends early after a step or more: the encoder has the best weights so far.
    `encoded(held-out clips, note)` is told before the first step how many are measured, and which clips were
    left out, since they cannot be heard; "" for none."""

    encoding: Callable[[int, int], None] | None = None
    step: Callable[[int, int, dict], None] | None = None
    stopped: Callable[[AlignResult], None] | None = None
    encoded: Callable[[int, str], None] | None = None


@dataclass(frozen=True)
class Aligned:
    """The training's result, on how many clips of how many labels; how many clips were held out and, where it
    was measured, how many of them were named right before. `left_out` are the clips that cannot be heard."""

    result: AlignResult
    clips: int
    labels: int
    held_out: int = 0
    before: Share | None = None
    left_out: tuple[Clip, ...] = ()

    @property
    def losses(self) -> list[float]:
        """Every step's loss."""
        return [losses["loss"] for losses in self.result.curve]

    @property
    def after(self) -> Share | None:
        """How many held-out clips the kept weights name right, which were chosen for it."""
        return self._share(self.result.measured)

    @property
    def last(self) -> Share | None:
        """How many held-out clips the last step's weights name right."""
        return self._share(self.result.last)

    def _share(self, measured: float | None) -> Share | None:
        return None if measured is None else Share(round(measured * self.held_out), self.held_out)

    def __str__(self) -> str:
        text = f"{len(self.losses)} steps on {self.clips} clips of {self.labels} labels"
        if self.after is not None and self.before is not None:
            # No intervals: those are for clips that have chosen nothing.
            text += (
                f"; held-out clips named right: {self.before.hits} of {self.held_out} before, "
                f"{self.after.hits} after step {self.result.step}, which was chosen on them"
            )
            if self.last is not None:
                text += f", {self.last.hits} after the last"
        note = left_out_note(self.left_out, self.clips + self.held_out + len(self.left_out))
        return f"{text}. {note}" if note else text
