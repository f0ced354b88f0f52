"""The sounds that SoundWorld's encoder is trained on, and how a training step varies them.

All of it happens in log mel energies, where a mixture is a sum of powers, a level an offset and a room a
smear in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ...audio import Sound
from ...fbank import EPSILON, fbank
from ..captions import LEVELS, level
from ..sounds import LOUDEST_LUFS, QUIETEST_LUFS, intensity_of
from ..world import EVENTS
from .sound_encoder import CONFIG, nepers

FLOOR = math.log(EPSILON)
OUTSIDE = -1
"""The event number of a sound that the world has no word for."""
LONGEST = 30.0
"""Seconds of a recording that are kept."""
QUIETEST = -65.0
SHORT, LONG = 0.5, CONFIG.seconds
FRAMES_A_SECOND = 100


@dataclass(frozen=True)
class Clip:
    """A sound as log mel energies [frames, mel], float16; the number of its event or OUTSIDE; its loudness in
    LUFS; and the group (a class, a kind, a package) within which it is as likely as another."""

    energies: Tensor
    event: int
    loudness: float
    group: str

    def row(self) -> tuple[Tensor, int, float, str]:
        """Its fields, as they are kept."""
        return self.energies, self.event, self.loudness, self.group

    @cached_property
    def frames(self) -> Tensor:
        """The power of each frame, in nepers."""
        return self.energies.float().logsumexp(-1)


def energies_of(sound: Sound) -> Tensor:
    """A sound's log mel energies [frames, mel], float16, up to LONGEST seconds."""
    waveform = sound.mono().resample(CONFIG.rate).waveform[:, : int(LONGEST * CONFIG.rate)]
    return fbank(waveform, CONFIG.rate, CONFIG.mel_bins, None)[0].half()


@dataclass(frozen=True)
class Heard:
    """A batch: normalised filter banks [B, frames, mel], the patches [B, n] that are encoded, the events [B]
    (OUTSIDE for none), the softer event of a mixture [B] (OUTSIDE for none) and its share [B] of what is
    heard, the label [B] (event * levels + level, 0 for none), whether each is known [B]: 1, 0, or -1 where it
    is not to be asked, and the number [B] of its group among `Mixer.strangers`, OUTSIDE for a sound of a
    word."""

    fbanks: Tensor
    patches: Tensor
    events: Tensor
    second: Tensor
    share: Tensor
    labels: Tensor
    known: Tensor
    strangers: Tensor


def power(energies: Tensor) -> float:
    """The power of log energies [frames, mel] in nepers."""
    return gated(energies.logsumexp(-1))


def gated(frames: Tensor) -> float:
    """The mean of frames' powers in nepers, over those that BS.1770's relative gate leaves."""
    loud = frames[frames > frames.logsumexp(0) - math.log(len(frames)) + nepers(-10.0)]
    return float(loud.logsumexp(0) - math.log(max(len(loud), 1)))


class Mixer:
    """Draws batches from clips: crops of 0.5 to 5 s, mixtures, seams, fades and silence.

    `outside` is the share of sounds without a word, `share` that of recordings where there are some.
    `strangers` are the groups of sounds without a word.
    """

    def __init__(self, clips: list[Clip], recorded: list[Clip], outside: float = 0.3, share: float = 0.5):
        self.outside, self.share = outside, share
        self.synthetic, self.recorded = self._grouped(clips), self._grouped(recorded)
        self.strangers = sorted({clip.group for clip in [*clips, *recorded] if clip.event == OUTSIDE})

    @staticmethod
    def _grouped(clips: list[Clip]) -> dict[int, list[list[Clip]]]:
        """Clips by event, then by group."""
        events: dict[int, dict[str, list[Clip]]] = {}
        for clip in clips:
            events.setdefault(clip.event, {}).setdefault(clip.group, []).append(clip)
        return {event: list(groups.values()) for event, groups in events.items()}

    def batch(self, generator: torch.Generator, size: int, patches: int) -> Heard:
        """A batch of so many sounds, of each of which so many patches are encoded."""
        rows = [self._sound(_Random(generator), patches) for _ in range(size)]
        fbanks, chosen, *numbers = zip(*rows)
        return Heard(torch.stack(fbanks), torch.stack(chosen), *(torch.tensor(column) for column in numbers))

    def _pick(self, random: _Random, event: int) -> Clip:
        pools = [pool for pool in (self.synthetic, self.recorded) if pool.get(event)]
        pool = pools[-1] if random() < self.share else pools[0]
        return random.choice(random.choice(pool[event]))

    def _crop(self, random: _Random, clip: Clip, frames: int) -> tuple[Tensor, float]:
        """Part of a clip, [up to frames, mel], varied, at 0 LUFS, and the power that is."""
        energies = clip.energies
        whole = gated(clip.frames)
        if len(energies) > frames:
            for _ in range(6):
                begin = random.below(len(energies) - frames + 1)
                if gated(clip.frames[begin : begin + frames]) > whole + nepers(-15.0):
                    break
            energies = energies[begin : begin + frames]
        energies = vary(energies.float(), random)
        loudest = whole - nepers(max(clip.loudness, QUIETEST))
        return energies - power(energies) + loudest, loudest

    def _sound(self, random: _Random, patches: int) -> tuple:
        known = random() >= self.outside
        event = random.below(len(EVENTS)) if known else OUTSIDE
        long = random() < 0.5
        frames = int(FRAMES_A_SECOND * (LONG if long else SHORT * (LONG / SHORT) ** random()))
        clip = self._pick(random, event)
        energies, loudest = self._crop(random, clip, frames)
        second, share, asked = OUTSIDE, 0.0, int(known)
        stranger = OUTSIDE if known else self.strangers.index(clip.group)
        what = random()
        if what < 0.35:
            below = 12 * random() if known else 6 + 20 * random()
            other = OUTSIDE if random() < 0.25 else random.below(len(EVENTS))
            if known or other == OUTSIDE:
                behind, _ = self._crop(random, self._pick(random, other), len(energies))
                energies = mixed(energies, behind, -below, random)
                if known and other == OUTSIDE and below < 6:
                    asked = -1
                if known and other not in (OUTSIDE, event):
                    second, share = other, 0.5 * 10 ** (-below / 10)
        elif what < 0.5 and known:
            # More of the same, or a seam to another event, of which less is heard.
            other = event if random() < 0.5 else random.below(len(EVENTS))
            length = max(16, int(len(energies) * 0.4 * random()))
            tail, _ = self._crop(random, self._pick(random, other), length)
            keep = len(energies) - len(tail)
            if keep > len(tail):
                parts = [energies[:keep], tail + nepers(6 * random.signed())]
                energies = torch.cat(parts if random() < 0.5 else parts[::-1])
                if other != event:
                    second, share = other, 0.5 * len(tail) / len(energies)
        elif what < 0.65:
            energies = faded(energies, random)
        decibels = QUIETEST_LUFS + (LOUDEST_LUFS - QUIETEST_LUFS) * (0.02 + 0.98 * random())
        label = event * len(LEVELS) + level(intensity_of(decibels)) if known else 0
        energies = energies - power(energies) + loudest + nepers(decibels)
        if random() < 0.15:
            energies = with_silence(energies, random)
        fbank, chosen = patched(energies, patches, random)
        return fbank, chosen, event, second, share, label, asked, stranger


class _Random:
    """Numbers of one generator, by name."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def __call__(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def signed(self) -> float:
        return 2 * self() - 1

    def normal(self, size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def below(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def choice(self, items: list):
        return items[self.below(len(items))]


def vary(energies: Tensor, random: _Random) -> Tensor:
    """Log energies [frames, mel] as another microphone, room or animal would give: coloured by a smooth curve
    of 5 dB, cut above or below a bin, up to a fifth faster or slower, up to 4 mel bins higher or lower,
    smeared by a room, above a floor of noise."""
    frames, mel = energies.shape
    times = (torch.arange(frames) * 2 ** (0.26 * random.signed())).long() % frames
    bins = (torch.arange(mel) + random.below(9) - 4).clamp(0, mel - 1)
    energies = energies[times][:, bins]
    curve = F.interpolate(nepers(5 * random.normal(6))[None, None], mel, mode="linear", align_corners=True)[0]
    if random() < 0.25:
        # Telephones and old microphones: nothing above 2.5 to 7 kHz, in bins of CONFIG's 128.
        cut = 75 + random.below(45)
        curve[:, cut:] -= nepers(10 + 30 * random())
    if random() < 0.15:
        curve[:, : 5 + random.below(25)] -= nepers(10 + 20 * random())
    energies = energies + curve
    if random() < 0.2:
        energies = smeared(energies, 0.02 + 0.25 * random())
    if random() < 0.5:
        slope = F.interpolate(nepers(6 * random.normal(3))[None, None], mel, mode="linear")[0]
        floor = power(energies) - math.log(mel) + nepers(-20 - 30 * random()) + slope
        energies = torch.logaddexp(energies, floor + 0.8 * random.normal(frames * mel).view(frames, mel))
    return energies


def smeared(energies: Tensor, seconds: float) -> Tensor:
    """Log energies [frames, mel] in a room whose echo falls by 60 dB in `seconds` times 6.9."""
    taps = min(len(energies), 60)
    decay = torch.exp(-torch.arange(taps) / (FRAMES_A_SECOND * seconds))
    peak = energies.amax()
    padded = F.pad((energies - peak).exp().T[:, None], (taps - 1, 0))
    wet = F.conv1d(padded, (decay / decay.sum()).flip(0)[None, None])[:, 0].T
    dry = (energies - peak).exp()
    return (0.5 * dry + 0.5 * wet).clamp(min=1e-12).log() + peak


def mixed(energies: Tensor, behind: Tensor, decibels: float, random: _Random) -> Tensor:
    """Another sound behind, `decibels` in level beside it; where it is shorter, somewhere within."""
    begin = random.below(len(energies) - len(behind) + 1)
    energies = energies.clone()
    part = energies[begin : begin + len(behind)]
    energies[begin : begin + len(behind)] = torch.logaddexp(part, behind + nepers(decibels))
    return energies


def faded(energies: Tensor, random: _Random) -> Tensor:
    """Fading in or out by up to 30 dB."""
    slope = torch.linspace(0, 1, len(energies)) ** (0.5 + 2 * random())
    slope = slope if random() < 0.3 else slope.flip(0)
    return energies + nepers(30 * random()) * (slope[:, None] - 1)


def with_silence(energies: Tensor, random: _Random) -> Tensor:
    """Up to half of the frames silent, at one end or at both."""
    frames = len(energies)
    energies = energies.clone()
    head = int(0.5 * random() * random() * frames)
    tail = int(0.5 * random() * random() * frames)
    energies[:head], energies[frames - tail :] = FLOOR, FLOOR
    return energies


def patched(energies: Tensor, patches: int, random: _Random) -> tuple[Tensor, Tensor]:
    """Normalised filter banks [CONFIG.frames, mel] and the numbers [patches] of some of its patches that hold
    sound; where there are fewer, some twice."""
    side, columns = CONFIG.patch, CONFIG.frames // CONFIG.patch
    energies = energies[: CONFIG.frames].clamp(min=FLOOR)
    filled = max(1, len(energies) // side)
    fbank = F.pad(energies, (0, 0, 0, CONFIG.frames - len(energies)), value=FLOOR)
    rows = CONFIG.mel_bins // side
    present = (torch.arange(rows)[:, None] * columns + torch.arange(filled)).flatten()
    order = torch.randperm(len(present), generator=random.generator)
    chosen = present[order].repeat(math.ceil(patches / len(present)))[:patches]
    return (fbank - CONFIG.fbank_mean) / CONFIG.fbank_std, chosen
