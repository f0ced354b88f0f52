"""GlueNet (Qin et al., ICCV 2023): AudioCLIP's sounds as a text's states in Stable Diffusion 1.

It draws from a sound without a word or a training, and the prompt is all that it replaces. Takes the keys of
gluenet_sound2img_audioclip_us8k.ckpt, which salesforce/GlueGen publishes (the repository is under
Apache-2.0, and the file states no licence of its own).
"""

from __future__ import annotations

import os
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import Sound
from ..errors import InputError
from .audioclip import AudioCLIPEncoder
from .base import SoundEncoder
from .fingerprint import encoder_fingerprint
from .loaders import load as load_encoder
from .published import fill, read_tensors

PLACES, ROWS, WIDER = 77, 16, 4
"""Of a text's states; into how many rows a sound's feature is cut; how much wider the perceptrons are."""
STATE_LENGTHS = (
    *(43.8203, 28.3668, 27.9345, 28.0084, 28.2958, 28.2576, 28.3373, 28.2695, 28.4097, 28.2790, 28.2825),
    *(28.2807, 28.2775, 28.2708, 28.2682, 28.2624, 28.2589, 28.2611, 28.2616, 28.2639, 28.2613, 28.2566),
    *(28.2615, 28.2665, 28.2799, 28.2885, 28.2852, 28.2863, 28.2780, 28.2818, 28.2764, 28.2532, 28.2412),
    *(28.2336, 28.2514, 28.2734, 28.2763, 28.2977, 28.2971, 28.2948, 28.2818, 28.2676, 28.2831, 28.2890),
    *(28.2979, 28.2999, 28.3117, 28.3363, 28.3554, 28.3626, 28.3589, 28.3597, 28.3543, 28.3660, 28.3731),
    *(28.3717, 28.3812, 28.3753, 28.3810, 28.3777, 28.3693, 28.3713, 28.3670, 28.3691, 28.3679, 28.3624),
    *(28.3703, 28.3703, 28.3720, 28.3594, 28.3576, 28.3562, 28.3438, 28.3376, 28.3389, 28.3433, 28.3191),
)
"""By how much, halved, the states of each place were divided for its training (salesforce/GlueGen, 4159352):
about how long CLIP ViT-L/14's are there."""


def perceptron(size: int, out: int, normed: bool, last: nn.Module | None = None) -> nn.Sequential:
    """[..., size] to [..., out] through two hidden layers; `last` ends it."""
    hidden = WIDER * size
    layers: list[nn.Module] = []
    for begin, end in ((size, hidden), (hidden, hidden), (hidden, out)):
        layers += [nn.Linear(begin, end), *([nn.LayerNorm(end)] if normed else []), nn.GELU()]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


class Translator(nn.Module):
    """Places [B, n, d] to [B, m, e]: a perceptron over each place's numbers, then one over each number's
    places. With `added` (n = m and d = e) each adds to what it takes."""

    def __init__(self, places: tuple[int, int], sizes: tuple[int, int], normed: bool, added: bool):
        super().__init__()
        self.added = added
        self.net_tok = perceptron(*places, normed)
        self.net_sen = perceptron(*sizes, normed, None if normed else nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        for net in (self.net_sen, self.net_tok):
            x = (net(x) + x if self.added else net(x)).transpose(1, 2)
        return x


class GlueNetTower(nn.Module):
    """Features [B, dim] of length one to states [B, 77, width]."""

    def __init__(self, dim: int = 1024, width: int = 768):
        super().__init__()
        row = dim // ROWS
        self.in_blocks = nn.ModuleList(Translator((ROWS,) * 2, (row,) * 2, True, True) for _ in range(3))
        self.trans = Translator((ROWS, PLACES), (row, width), True, False)
        self.out_blocks = nn.ModuleList(Translator((PLACES,) * 2, (width,) * 2, True, True) for _ in range(2))
        self.tail_1, self.tail_2 = (Translator((PLACES,) * 2, (width,) * 2, False, False) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        x = features.unflatten(-1, (ROWS, -1))
        for block in self.in_blocks:
            x = F.gelu(block(x) + x)
        x = self.trans(x)
        for block in self.out_blocks:
            x = F.gelu(block(x) + x)
        x = self.tail_2(self.tail_1(x) + x)
        return x * (x.new_tensor(STATE_LENGTHS) / 2)[:, None]


class GlueNet:
    """Sounds to states, through AudioCLIP. A sound is heard as GlueNet's loader reads one: at full scale, and
    its middle alone; of that AudioCLIP's own 5 s here, for which its loader takes 4."""

    title, licence = "GlueNet", "Apache-2.0"
    whose = "GlueNet (gluenet_sound2img_audioclip_us8k.ckpt of github.com/salesforce/GlueGen)"

    def __init__(self, tower: GlueNetTower, hearing: SoundEncoder):
        self.tower, self.hearing = tower.eval().requires_grad_(False), hearing

    @property
    def width(self) -> int:
        return self.tower.tail_2.net_sen[-2].out_features

    @property
    def fingerprint(self) -> str:
        """Of both parts' weights."""
        glued = encoder_fingerprint("gluenet", self.tower.state_dict())
        return glued + encoder_fingerprint(self.hearing.family, self.hearing.state()[0])

    @torch.no_grad()
    def states(self, sounds: list[Sound]) -> Tensor:
        """Sounds of any rate, channel count and length to [B, 77, width], in the place of a prompt's."""
        features = self.hearing.embed([heard(sound, self.hearing.seconds) for sound in sounds])
        return self.tower(features.float().to(next(self.tower.parameters()).device)).cpu()


def heard(sound: Sound, seconds: float) -> Sound:
    """The sound's middle, mono, from -1 at its lowest to 1 at its highest. Raises InputError where nothing
    swings."""
    mono = sound.mono()
    low, high = mono.waveform.aminmax()
    if low == high:
        raise InputError("The sound is silent: choose a part with sound in it.")
    waveform = 2 * (mono.waveform - low) / (high - low) - 1
    size = round(seconds * mono.rate)
    begin = max(0, round((waveform.shape[1] - size) / 2))
    return replace(mono, waveform=waveform[:, begin : begin + size])


def load_tower(path: str | os.PathLike) -> GlueNetTower:
    """Reads GlueNet's public file, or its safetensors. Raises InputError for one that is missing, is
    another's, or lacks weights."""
    tower = GlueNetTower()
    fill(tower, read_tensors(path), os.path.basename(path), GlueNet.whose)
    return tower


def load(path: str | os.PathLike, audioclip: str | os.PathLike) -> GlueNet:
    """GlueNet's file with AudioCLIP's, public or ours. Raises InputError as `load_tower` does, and for
    another encoder's file."""
    hearing = load_encoder(audioclip)
    if not isinstance(hearing, AudioCLIPEncoder):
        raise InputError(
            f"GlueNet hears through AudioCLIP, but '{audioclip}' holds {hearing.name}: give "
            f"{AudioCLIPEncoder.whose}."
        )
    return GlueNet(load_tower(path), hearing)
