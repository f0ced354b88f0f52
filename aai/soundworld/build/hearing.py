"""Trains the audio branch of SoundWorld's encoder, and the test of what it knows.

Eq. 1 without its momentum twin, whose worth could not be told from noise here: sounds against all words of
the world, against the words and pictures of their batch, and, for sounds of no word (outlier exposure,
Hendrycks et al., ICLR 2019), against being told apart as any; these are also told from each other, by a layer
that is not kept, since they are most of the real sounds there are. The weights that are kept are a moving
average. Where the processor has bfloat16, the tower computes in it, nearly twice as fast.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...align.losses import info_nce, similarity
from ...encoders.cavmae import CAVMAE
from ...encoders.known import Known, new_head
from ...optim import set_rate
from ...precision import autocast, has_bfloat16
from ..captions import LEVELS
from .clips import Heard, Mixer

TAU = 0.05
UNIFORM_WEIGHT, KNOWN_WEIGHT, STRANGERS_WEIGHT = 0.3, 0.5, 0.2
AVERAGED = 0.998
"""How much of the kept weights stays at a step."""


@dataclass(frozen=True)
class Targets:
    """What sounds are brought to: the words' vectors [events * levels, D], pictures' [N, D] and the labels
    [N] of those."""

    text: Tensor
    visual: Tensor
    visual_labels: Tensor

    def pictures(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """A picture's vector for each label [B]: [B, D]."""
        scores = torch.rand(len(labels), len(self.visual_labels), generator=generator)
        scores[self.visual_labels[None] != labels[:, None]] = -1
        return self.visual[scores.argmax(-1)]


class Ears(nn.Module):
    """An audio branch and the two layers that tell whether its f_a is known."""

    def __init__(self, model: CAVMAE):
        super().__init__()
        self.model, self.head = model, new_head(model.config.dim)

    def parts(self) -> list[nn.Parameter]:
        return [*self.model.audio_parameters(), *self.head.parameters()]

    def known(self, threshold: float = 0.5) -> Known:
        """The head as a test of what the encoder knows."""
        return Known.of(self.head, threshold)


def losses(
    ears: Ears, heard: Heard, targets: Targets, strangers: nn.Linear, generator: torch.Generator
) -> dict[str, Tensor]:
    """The parts of a batch's loss; `strangers` tells sounds of no word from each other."""
    cpu = torch.device("cpu")
    with autocast(cpu, has_bfloat16(cpu)):
        f_a = ears.model.audio_features(heard.fbanks, heard.patches)
    f_a = f_a.float()
    inside = heard.events >= 0
    logits = similarity(f_a, targets.text, TAU)
    labels = heard.labels[inside]
    to_words = -(wanted(heard, len(targets.text))[inside] * logits[inside].log_softmax(-1)).sum(-1).mean()
    # From words to sounds: each label that occurs is told from all other sounds, those of no word among them.
    columns = (heard.labels[None] == torch.arange(len(targets.text))[:, None]) & inside[None]
    columns = columns[columns.any(-1)].float(), logits.T[columns.any(-1)].log_softmax(-1)
    to_sounds = -(columns[0] / columns[0].sum(-1, keepdim=True) * columns[1]).sum(-1).mean()
    alone = inside & (heard.second < 0)
    pictures = targets.pictures(heard.labels[alone], generator)
    a_v = info_nce(f_a[alone], pictures, TAU)
    uniform = (
        -logits[~inside].log_softmax(-1).mean() - torch.tensor(float(logits.shape[1])).log()
        if (~inside).any()
        else f_a.sum() * 0
    )
    grouped = heard.strangers >= 0
    groups = (
        F.cross_entropy(strangers(F.normalize(f_a[grouped], dim=-1)) / TAU, heard.strangers[grouped])
        if grouped.any()
        else f_a.sum() * 0
    )
    asked = heard.known >= 0
    scores = ears.head(F.normalize(f_a, dim=-1))[:, 0]
    known = F.binary_cross_entropy_with_logits(scores[asked], heard.known[asked].float())
    with torch.no_grad():
        guess = logits[inside].softmax(-1).unflatten(-1, (-1, len(LEVELS))).sum(-1).argmax(-1)
        right = (guess == labels // len(LEVELS)).float().mean()
        told = ((scores > 0) == (heard.known == 1))[asked].float().mean()
    return {
        "loss": 0.5 * (to_words + to_sounds) + a_v + UNIFORM_WEIGHT * uniform + KNOWN_WEIGHT * known
        + STRANGERS_WEIGHT * groups,
        "a_t": 0.5 * (to_words + to_sounds), "a_v": a_v, "uniform": uniform, "known": known,
        "strangers": groups, "right": right, "told": told,
    }  # fmt: skip


def wanted(heard: Heard, words: int) -> Tensor:
    """The share of each word in what is heard, [B, words]: the softer event of a mixture has its own, spread
    over its levels up to the louder one's."""
    targets = F.one_hot(heard.labels, words) * (1 - heard.share[:, None])
    grid = targets.unflatten(-1, (-1, len(LEVELS)))
    below = (torch.arange(len(LEVELS)) <= (heard.labels % len(LEVELS))[:, None]).float()
    spread = heard.share[:, None] * below / below.sum(-1, keepdim=True)
    mixed = (heard.second >= 0).nonzero()[:, 0]
    grid[mixed, heard.second[mixed]] += spread[mixed]
    return targets


def train_ears(
    ears: Ears,
    mixer: Mixer,
    targets: Targets,
    steps: int,
    rate: float,
    *,
    batch: int = 48,
    patches: tuple[int, int] = (48, 48),
    weight_decay: float = 0.05,
    seed: int = 0,
    state: Path | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
) -> Ears:
    """Trains in place for so many steps of AdamW; returns a copy with the averaged weights. A step encodes so
    many `patches` of each sound, any number between the two, in even octaves.

    With a `state` file, a training that was stopped resumes from it.
    """
    generator = torch.Generator().manual_seed(seed)
    ears.requires_grad_(False)
    strangers = nn.Linear(ears.model.config.dim, max(1, len(mixer.strangers)))
    parameters = [*ears.parts(), *strangers.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    averaged, begun = copy.deepcopy(ears).requires_grad_(False), 0
    if state and state.exists():
        saved = torch.load(state, weights_only=True)
        ears.load_state_dict(saved["ears"])
        averaged.load_state_dict(saved["averaged"])
        strangers.load_state_dict(saved["strangers"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        begun = saved["step"]
    for step in range(begun, steps):
        set_rate(optimizer, rate, step, steps, warmup=max(1, min(100, steps // 10)))
        low, high = patches
        encoded = round(low * (high / low) ** float(torch.rand((), generator=generator)))
        parts = losses(ears, mixer.batch(generator, batch, encoded), targets, strangers, generator)
        optimizer.zero_grad()
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        keep = min(AVERAGED, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(averaged.parts(), ears.parts()):
                mean.lerp_(parameter, 1 - keep)
        if callback:
            callback(step, {name: value.item() for name, value in parts.items()})
        if state and (step + 1) % 100 == 0:
            saved = {
                "ears": ears.state_dict(), "averaged": averaged.state_dict(),
                "strangers": strangers.state_dict(), "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(), "step": step + 1,
            }  # fmt: skip
            torch.save(saved, state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)
    ears.requires_grad_(False)
    return averaged
