"""How loud a sound is at each moment, measured as it comes."""

from __future__ import annotations

import copy

import numpy as np
import torch

from .audio import SILENCE_LUFS, Sound, channel_weights, k_weighting

MOMENTARY = 0.4
"""Seconds over which EBU Tech 3341 measures momentary loudness."""
STEP = 0.01
"""Seconds between the sums that are kept: three hours are nine megabytes."""
GATE = -70.0
"""LUFS below which BS.1770 hears nothing."""


class LoudnessMeter:
    """Momentary loudness (EBU Tech 3341: BS.1770-4's measure without its relative gate) of a sound that comes
    in blocks of one rate and layout."""

    def __init__(self) -> None:
        self.rate, self.count = 0, 0
        self._energy = 0.0
        self._places, self._sums = [np.zeros(1)], [np.zeros(1)]
        self._joined = 0
        self._state = None

    @property
    def seconds(self) -> float:
        """How much has come."""
        return self.count / self.rate if self.rate else 0.0

    def add(self, block: Sound) -> None:
        """Takes the block that comes next."""
        from scipy.signal import sosfilt

        samples = block.waveform.cpu().numpy()
        if self._state is None:
            self.rate, self._sections = block.rate, k_weighting(block.rate)
            self._state = np.zeros((len(self._sections), len(samples), 2))
            self._weights = np.array(channel_weights(block))
        filtered, self._state = sosfilt(self._sections, samples, axis=-1, zi=self._state)
        energy = self._energy + np.cumsum(self._weights @ np.square(filtered))
        step = STEP * self.rate
        # Each moment k falls between two samples: the sum up to the one before it.
        moments = np.arange(int(self.count / step) + 1, int((self.count + len(energy)) / step) + 1)
        places = np.ceil(moments * step).astype(int)
        places = places[(places > self.count) & (places <= self.count + len(energy))]
        self._places.append(places.astype(float))
        self._sums.append(energy[places - self.count - 1])
        self.count += len(energy)
        self._energy = float(energy[-1])

    def loudness(self, times: np.ndarray, seconds: float = MOMENTARY) -> np.ndarray:
        """LUFS of the `seconds` around each of `times` [T], of what has come of them; -inf below GATE."""
        places, sums = self._curve()
        begin, end = (
            np.clip((np.asarray(times) + side * seconds / 2) * self.rate, 0, self.count) for side in (-1, 1)
        )
        energy = np.interp(end, places, sums) - np.interp(begin, places, sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            levels = -0.691 + 10 * np.log10(np.maximum(energy, 0) / np.maximum(end - begin, 1))
        return np.where(levels > GATE, levels, SILENCE_LUFS)

    def _curve(self) -> tuple[np.ndarray, np.ndarray]:
        """The energy [P] up to each of some places [P], the last one among them. Joined once for each block:
        every window of three hours asks."""
        if self._joined != self.count:
            self._places = [np.concatenate([*self._places, [self.count]])]
            self._sums = [np.concatenate([*self._sums, [self._energy]])]
            self._joined = self.count
        return self._places[0], self._sums[0]

    def integrated(self) -> float:
        """Integrated loudness in LUFS of what has come, as `audio.loudness` measures it, of blocks that begin
        at whole hundredths of a second; below 0.4 s padded with zeros, as that does. -inf for silence."""
        missing = round(MOMENTARY * self.rate) - self.count
        if self.count and missing > 0:
            padded = copy.deepcopy(self)
            padded.add(Sound(torch.zeros(len(self._weights), missing), self.rate))
            return padded.integrated()
        count = max(1, int((self.seconds - MOMENTARY) / 0.1 + 1e-9) + 1)
        levels = self.loudness(MOMENTARY / 2 + 0.1 * np.arange(count))
        loud = levels[levels > GATE]
        if not len(loud):
            return SILENCE_LUFS
        power = 10 ** (loud / 10)
        return float(10 * np.log10(power[loud > 10 * np.log10(power.mean()) - 10].mean()))
