"""`python -m bench parity --checkout DIR`: our CAV-MAE against the original code, fp32, random weights.

DIR is a clone of YuanGongND/cav-mae. Needs timm 0.4.5 and torchaudio beside this project's own packages.
Prints the greatest difference of each comparison and fails where one is above its bound.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aai import audio
from aai.encoders.cavmae import CAVMAEConfig
from aai.encoders.cavmae_checkpoint import encoder_of, read
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.errors import InputError
from aai.fbank import fbank
from bench.cavmae_decoder import decoder_of, forward_joint, whole_file

UPSTREAM = "https://github.com/YuanGongND/cav-mae"
FEATURES, FBANK = 1e-5, 1e-4
RATES = (16000, 22050, 44100, 48000)
LENGTHS = (1, 4, 5, 10, 12.3)
SILENCE = "silence behind the waveform, "
"""What begins the rows of the other padding, which is not CAV-MAE's and has no bound."""


def scatter_weights(model: nn.Module, seed: int) -> None:
    """Weights that leave no term out: no bias 0, no norm 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif "pos_embed" not in name:
                parameter.copy_(0.03 * noise)


def published_file(model: nn.Module, path: Path) -> None:
    """As upstream saves it: the state of a DataParallel, every key with the prefix `module.`."""
    torch.save(OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items()), path)


def greatest(ours: Tensor, theirs: Tensor) -> float:
    return (ours.double() - theirs.double()).abs().max().item()


@torch.no_grad()
def compare_lengths(theirs: nn.Module, encoder: CAVMAEEncoder, dataset, folder: Path) -> dict[str, float]:
    """Files of every length to features: ours by `embed`, theirs by its loader and its tower; and ours as
    encoders hear that were trained with silence behind short sounds."""
    from scipy.io import wavfile

    rows, config = {}, encoder.model.config
    other = CAVMAEEncoder(encoder.model, [], encoder.label_vectors, padding="waveform")
    for seconds in LENGTHS:
        path = folder / f"{seconds}.wav"
        wavfile.write(path, config.rate, sweep(config.rate, seconds).numpy().astype(np.float32))
        fbanks = (dataset._wav2fbank(str(path)) - config.fbank_mean) / config.fbank_std
        feature = F.normalize(
            theirs.forward_feat(fbanks[None], torch.zeros(1, 3, 224, 224))[0].mean(1), dim=-1
        )
        rows[f"file to feature, {seconds} s"] = greatest(encoder.embed([audio.load(path)]), feature)
        silent = other.embed([audio.load(path)])
        rows[f"{SILENCE}{seconds} s"] = greatest(silent, feature)
        rows[f"{SILENCE}{seconds} s, cosine"] = F.cosine_similarity(silent, feature).item()
    return rows


def sweep(rate: int, seconds: float) -> Tensor:
    """A rising tone with noise, [T]."""
    generator = torch.Generator().manual_seed(rate + round(seconds))
    time = torch.arange(round(rate * seconds)) / rate
    wave = 0.2 * torch.sin(2 * torch.pi * (300 + 200 * time) * time)
    return wave + 0.05 * torch.randn(len(time), generator=generator)


@torch.no_grad()
def compare_towers(theirs: nn.Module, layout: str, folder: Path, dataset) -> dict[str, float]:
    path = folder / f"{layout}.pth"
    published_file(theirs, path)
    published = read(path)
    assert published.layout == layout, published
    encoder = encoder_of(published)
    generator = torch.Generator().manual_seed(3)
    fbanks = torch.randn(2, 1024, 128, generator=generator)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    a, v = theirs.forward_feat(fbanks, images)
    rows = {}
    for name, mine, other in (
        ("audio", encoder.model.forward_audio(fbanks), a),
        ("visual", encoder.model.forward_image(images), v),
    ):
        rows[f"{layout}, {name} tokens"] = greatest(mine, other)
        rows[f"{layout}, {name} feature"] = greatest(
            F.normalize(mine.mean(1), dim=-1), F.normalize(other.mean(1), dim=-1)
        )
    if layout == "pre-trained":
        rows |= compare_lengths(theirs, encoder, dataset, folder)
        torch.manual_seed(4)
        pred_a, pred_v, mask_a, mask_v, _, _ = theirs.forward_inpaint(fbanks, images)
        keep_a, keep_v = ((mask == 0).nonzero()[:, 1].view(2, -1) for mask in (mask_a, mask_v))
        decoder = decoder_of(published)
        mine = decoder(forward_joint(encoder.model, fbanks, images, keep_a, keep_v), keep_a, keep_v)
        rows[f"{layout}, decoder's sound"] = greatest(mine[0], pred_a)
        rows[f"{layout}, decoder's picture"] = greatest(mine[1], pred_v)
        state = whole_file(encoder.model, decoder)
        nn.DataParallel(theirs).load_state_dict(state, strict=True)
        assert len(state) == 647, len(state)
        rows[f"{layout}, tensors given back of {len(state)}, differing"] = sum(
            not torch.equal(v, published.tensors[k.removeprefix("module.")]) for k, v in state.items()
        )
    return rows


def compare_fbanks(dataset, folder: Path) -> dict[str, float]:
    """Files of four rates, 4 to 12 s long: ours from the file as it is, theirs from its samples resampled."""
    from scipy.io import wavfile

    rows, config = {}, CAVMAEConfig()
    for rate in RATES:
        worst = 0.0
        for seconds in (4, 10, 12):
            path = folder / f"{rate}_{seconds}.wav"
            wavfile.write(path, rate, sweep(rate, seconds).numpy().astype(np.float32))
            waveform = audio.load(path).mono().resample(config.rate).waveform
            ours = fbank(waveform, config.rate, config.mel_bins, config.frames)[0]
            wavfile.write(folder / "resampled.wav", config.rate, waveform[0].numpy())
            theirs = dataset._wav2fbank(str(folder / "resampled.wav"))
            worst = max(worst, greatest(ours, theirs) / config.fbank_std)
        rows[f"fbank, {rate} Hz"] = worst
    return rows


def read_wav(path: str) -> tuple[Tensor, int]:
    """torchaudio.load without torchcodec: [1, T] and the rate."""
    from scipy.io import wavfile

    rate, samples = wavfile.read(path)
    return torch.from_numpy(samples.copy())[None], rate


def rows(checkout: Path | None) -> dict[str, float]:
    """The greatest difference of each comparison with the code in `checkout`.

    Raises InputError where that code, or a package that it needs, is not there.
    """
    if checkout is None or not (checkout / "src" / "models").is_dir():
        place = (
            f"'{checkout}' does not hold CAV-MAE's own code" if checkout else "CAV-MAE's own code is needed"
        )
        raise InputError(f"{place}: git clone {UPSTREAM}, and give its folder with --checkout.")
    sys.path.insert(0, str(checkout / "src"))
    try:
        import dataloader
        import models
        import torchaudio
    except ImportError as error:
        raise InputError(
            f"CAV-MAE's own code cannot be imported ({error}): pip install timm==0.4.5 torchaudio."
        ) from error

    # What newer releases have taken away from under the original: torchaudio's own reader and a NumPy name.
    torchaudio.load, np.float = read_wav, float
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = object.__new__(dataloader.AudiosetDataset)
        dataset.melbins, dataset.target_length = 128, 1024
        for layout, make in (
            ("pre-trained", models.CAVMAE),
            ("fine-tuned", lambda: models.CAVMAEFT(label_dim=309)),
        ):
            with contextlib.redirect_stdout(io.StringIO()):
                theirs = make().eval()
            scatter_weights(theirs, seed=1)
            differences |= compare_towers(theirs, layout, folder, dataset)
            del theirs
        differences |= compare_fbanks(dataset, folder)
    return differences


def run(checkout: Path | None, as_json: bool) -> int:
    """Prints the comparisons; returns the exit code, 1 where a difference is above its bound."""
    differences = rows(checkout)
    bounds = {
        key: FBANK if key.startswith("fbank") else FEATURES
        for key in differences
        if not key.startswith(SILENCE)
    }
    if as_json:
        print(json.dumps(differences, indent=1))
    else:
        for key, value in differences.items():
            print(f"{key:58} {value:10.2e}" + (f"   bound {bounds[key]:.0e}" if key in bounds else ""))
    return int(any(differences[key] > bound for key, bound in bounds.items()))
