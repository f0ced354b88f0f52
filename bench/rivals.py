"""`python -m bench rivals --checkout DIR`: our Wav2CLIP, AudioCLIP, SGSIM and GlueNet against the original
code, fp32, random weights.

DIR holds clones of the repositories in CLONES, or some of them. Their code needs librosa, opencv-python,
termcolor, timm and einops beside this project's own packages. Prints the greatest difference of each
comparison and fails where one is above its bound.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aai.audio import Sound
from aai.encoders.gluenet import PLACES, ROWS, STATE_LENGTHS, WIDER, GlueNet, GlueNetTower
from aai.encoders.loaders import load
from aai.encoders.published import fill, read_tensors
from aai.errors import InputError

BOUND = 1e-4
CLONES = ("lyrebird-wav2clip", "AudioCLIP", "sound-guided-semantic-image-manipulation", "GlueGen")
LENGTHS = (1, 4, 5, 10)


def scatter_weights(model: nn.Module, seed: int = 0) -> None:
    """Weights that leave no term out: no bias 0, no norm or wavelet as it begins, statistics of some data."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, mean in (
                    (module.weight, 1.0),
                    (module.bias, 0.0),
                    (module.running_mean, 0.0),
                    (module.running_var, 1.0),
                ):
                    tensor.copy_(mean + 0.2 * torch.rand(tensor.shape, generator=generator))
        for name, parameter in model.named_parameters():
            noise = torch.rand(parameter.shape, generator=generator)
            if name.endswith(("fbsp.m", "fbsp.fb")):
                parameter.copy_(0.5 + noise)
            elif name.endswith("fbsp.fc"):
                parameter.add_(noise)
            elif parameter.ndim == 1 and "bn" not in name and "downsample" not in name:
                parameter.add_(0.1 * (noise - 0.5))


def sounds(rate: int) -> Iterator[tuple[float, np.ndarray]]:
    """{seconds: a rising tone with noise} of every length, [T] in [-1, 1]."""
    generator = np.random.default_rng(0)
    for seconds in LENGTHS:
        t = np.arange(round(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (200 + 1500 * t / seconds) * t)
        yield seconds, (tone + 0.05 * generator.standard_normal(len(t))).astype(np.float32)


@contextmanager
def imported(folder: Path, *names: str) -> Iterator[list[ModuleType]]:
    """Modules of a clone, whose packages bear names that others have too."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).is_relative_to(folder):
                del sys.modules[name]


def read_back(state: dict[str, Tensor], name: str):
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / name)
        return load(Path(folder) / name)


def compare(ours, rate: int, theirs: Callable[[np.ndarray], Tensor]) -> dict[str, float]:
    """{row: the greatest difference of the features, of length one}, and how unlike two of the sounds are."""
    rows, features = {}, []
    for seconds, wave in sounds(rate):
        with torch.no_grad():
            features.append(F.normalize(theirs(wave), dim=-1))
        own = ours.embed([Sound(torch.from_numpy(wave)[None], rate)])
        rows[f"{ours.title}, {seconds} s"] = (own - features[-1]).abs().max().item()
    rows[f"{ours.title}, 1 s and 10 s, most of a feature's change"] = (
        (features[0] - features[-1]).abs().max().item()
    )
    return rows


def wav2clip(clone: Path) -> dict[str, float]:
    with imported(clone, "wav2clip.model.encoder", "wav2clip") as (encoder, package):
        theirs = encoder.ResNetExtractor().encoder
        transform = encoder.MLPLayers()
        for seed, module in enumerate((theirs, transform)):
            scatter_weights(module, seed)
        state = {f"audio_encoder.{k}": v for k, v in theirs.state_dict().items()}
        state |= {f"audio_transform.{k}": v for k, v in transform.state_dict().items()}
        model = encoder.ResNetExtractor(state, scenario="frozen", transform=True)
        return compare(
            read_back(state, "Wav2CLIP.pt"),
            16000,
            lambda wave: torch.from_numpy(package.embed_audio(wave, model)),
        )


def audioclip(clone: Path) -> dict[str, float]:
    # All that their model takes of their trainer, which needs visdom and an old ignite; their loaders of data
    # and their tokenizer, whose vocabulary is in no clone without LFS, are not compared.
    trainer, data, words = map(ModuleType, ("ignite_trainer", "utils.datasets", "utils.simple_tokenizer"))
    trainer.AbstractNet, trainer.AbstractTransform, words.SimpleTokenizer = nn.Module, object, object
    absent = {module.__name__: module for module in (trainer, data, words)}
    sys.modules |= absent
    try:
        with imported(clone, "model.audioclip", "utils.transforms") as (package, transforms):
            theirs = package.AudioCLIP(pretrained=False).eval()
            scatter_weights(theirs)
            ours = read_back(theirs.state_dict(), "AudioCLIP-Full-Training.pt")
            pad = transforms.RandomPadding(220500, train=False)

            def heard(wave: np.ndarray) -> Tensor:
                # As their evaluation: 16-bit numbers of 5 s; a longer sound is the mean over its parts.
                parts = torch.from_numpy(wave * 32768.0)[None].split(220500, dim=-1)
                rows = [F.normalize(theirs.encode_audio(pad(part)[None]), dim=-1) for part in parts]
                return torch.cat(rows).mean(0, keepdim=True)

            rows = compare(ours, 44100, heard)
            pictures = torch.rand(2, 3, 224, 224)
            mean, std = torch.tensor(
                ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
            )
            ids = torch.randint(1, 49000, (2, 77))
            ids[0, 9:], ids[1, 76] = 49407, 49407
            with torch.no_grad():
                seen = theirs.encode_image((pictures - mean[:, None, None]) / std[:, None, None])
                read = package.CLIP.encode_text(theirs, ids)
                own_read = ours.tower.read(ids)
            for name, own, other in (
                ("pictures", ours.embed_images(pictures), seen),
                ("texts", own_read, read),
            ):
                own, other = F.normalize(own, dim=-1), F.normalize(other, dim=-1)
                rows[f"AudioCLIP, {name}"] = (own - other).abs().max().item()
            return rows
    finally:
        for name in absent:
            del sys.modules[name]


def sgsim(clone: Path) -> dict[str, float]:
    import cv2
    import librosa
    import timm

    made = timm.create_model
    timm.create_model = lambda name, **settings: made(name, **{**settings, "pretrained": False})
    try:
        with imported(clone / "soundclip", "models") as (package,):
            theirs = package.AudioEncoder().eval()
    finally:
        timm.create_model = made
    scatter_weights(theirs)

    def heard(wave: np.ndarray) -> Tensor:
        # As their run_optimization.py prepares a sound, with librosa 0.8's padding, which they name.
        mel = librosa.feature.melspectrogram(y=wave, sr=44100, n_mels=128, pad_mode="reflect")
        mel = librosa.power_to_db(mel, ref=np.max) / 80.0 + 1
        silent = np.zeros((128, 864))
        silent[:, : mel.shape[1]] = mel[:, :864]
        picture = cv2.resize(silent, (128, 512)).reshape(1, 1, 128, 512)
        return theirs(torch.from_numpy(picture).float())

    return compare(read_back(theirs.state_dict(), "resnet18_57.pth"), 44100, heard)


def gluenet(clone: Path) -> dict[str, float]:
    with imported(clone / "sound-gluenet", "model") as (package,):
        theirs = package.Translator_w_head_v0(ROWS, PLACES, 1024 // ROWS, 768, WIDER, 5).eval()
    scatter_weights(theirs)
    ours = GlueNetTower().eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "gluenet.ckpt")
        fill(ours, read_tensors(Path(folder) / "gluenet.ckpt"), "gluenet.ckpt", GlueNet.whose)
    features = F.normalize(torch.randn(4, 1024), dim=-1)
    with torch.no_grad():
        own, other = ours(features), theirs(features.reshape(-1, ROWS, 1024 // ROWS))
    # As their pipeline does behind it.
    other = other * torch.tensor(STATE_LENGTHS)[:, None] / 2
    return {
        "GlueNet, states": (own - other).abs().max().item(),
        "GlueNet, most of a state's change from sound to sound": (other - other[:1]).abs().max().item(),
    }


def run(checkout: Path | None, as_json: bool) -> int:
    """Raises InputError where no clone is there."""
    there = {name: checkout / name for name in CLONES if checkout and (checkout / name).is_dir()}
    if not there:
        raise InputError(
            f"There are no clones to compare with: clone {', '.join(CLONES)} into one folder and name it "
            "with --checkout."
        )
    rows: dict[str, float] = {}
    for name, bench in zip(CLONES, (wav2clip, audioclip, sgsim, gluenet)):
        if name in there:
            rows |= bench(there[name].resolve())
    print(json.dumps(rows, indent=1) if as_json else "\n".join(f"{k}: {v:.1e}" for k, v in rows.items()))
    return int(max(v for k, v in rows.items() if "change" not in k) > BOUND)
