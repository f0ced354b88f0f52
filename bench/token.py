"""A sound token's training against diffusers' published textual-inversion example (`--script`, its path).

On SoundWorld, one set of pictures and one batch size: seconds of training until the loss on fixed noise,
under "a photo of *", is what ours has come to after its default of steps. The example runs as it is, in a
process of its own, but for what SoundWorld has not: its autoencoder is no AutoencoderKL, so the example gets
SoundWorld's in its place. It takes its README's settings (rate 5e-4 times the batch, its template set, its
word to begin with, half of its pictures mirrored) and saves its word every few steps; what it needs to load
is not counted, of neither. The prompt that both are judged under is the one that ours trains with.

On Stable Diffusion 1.5's shape with random weights: seconds a step of ours, of the example, and of the U-Net
alone, forward and backward to its context, which no trainer can go below.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from aai import image
from aai.adapt.settings import TrainSettings
from aai.adapt.train import train_token
from aai.adapt.trainer import TokenTrainer
from aai.errors import InputError
from aai.soundworld import library, loaders
from aai.token import SoundToken, load

STEPS, BATCH = 60, 4
LONGEST = 600
"""Steps that the example gets to come as low."""
SAVED_EVERY = 20
WORD = "picture"
EVENT = "rain"
VOCABULARY = 49408
SIDE = 256
"""Pixels of a picture on Stable Diffusion 1.5's shape: 512 takes minutes a step on a CPU."""


def rows(measure, script: Path | None = None) -> list[dict]:
    """`measure` times jobs by turns; the example can only be run whole."""
    if script is not None:
        _check(script)
    with tempfile.TemporaryDirectory() as folder:
        return [*on_soundworld(Path(folder), script), *on_stable_diffusion(measure, Path(folder), script)]


def on_soundworld(folder: Path, script: Path | None) -> list[dict]:
    from aai.soundworld.sounds import unseen_sound

    model, encoder = loaders.load_picture_model(), loaders.load_sound_encoder()
    f_a = encoder.embed([unseen_sound(EVENT, 500)])[0]
    pictures, _ = library.references(f_a, encoder)
    latents = model.encode_images(pictures)
    settings = TrainSettings(steps=STEPS, batch=BATCH)
    train_token(model, f_a, latents, TrainSettings(steps=2, batch=BATCH), encoded=True)
    begin = time.perf_counter()
    token = train_token(model, f_a, pictures, settings).token
    seconds = time.perf_counter() - begin
    reached = validation_loss(model, f_a, latents, token)
    found = [
        {"what": f"ours: {STEPS} steps, loss {reached:.4f}", "value": seconds, "unit": "s", "ratio": 1.0}
    ]
    if script is None:
        return found
    write_pictures(pictures, folder / "pictures")
    write_model(model, folder / "soundworld")
    saved = run_script(
        script, folder / "soundworld", folder / "pictures", folder / "theirs", side=128, steps=LONGEST,
        batch=BATCH, save=SAVED_EVERY, autoencoder="aai.soundworld.models",
    )  # fmt: skip
    step = seconds_a_step(saved)
    losses = {n: validation_loss(model, f_a, latents, load(path)) for n, path in sorted(saved.items())}
    low = next((n for n, loss in losses.items() if loss <= reached), None)
    best = min(losses, key=losses.get)
    text = (
        f"the example: {low} steps, loss {losses[low]:.4f}"
        if low
        else f"the example: not in {LONGEST} steps, at best {losses[best]:.4f} after {best}"
    )
    theirs = step * (low or LONGEST)
    return [*found, {"what": text, "value": theirs, "unit": "s", "ratio": theirs / seconds}]


def on_stable_diffusion(measure, folder: Path, script: Path | None) -> list[dict]:
    model = stable_diffusion(folder / "words")
    latents = torch.randn(1, 4, SIDE // 8, SIDE // 8)
    settings = TrainSettings(steps=10**6, batch=1)
    run = TokenTrainer(model, torch.randn(768), {}, latents, settings, "sound")
    context = torch.randn(1, 77, 768, requires_grad=True)
    noise = torch.randn_like(latents)

    def floor() -> None:
        loss = (model.unet(latents, 500, encoder_hidden_states=context).sample - noise).square().mean()
        torch.autograd.grad(loss, context)

    seconds = measure({"ours": run.step, "the U-Net alone": floor})
    found = [
        {"what": f"SD1.5 shape, {SIDE} px, a step: {name}", "value": value, "unit": "s",
         "ratio": value / seconds["the U-Net alone"]}
        for name, value in seconds.items()
    ]  # fmt: skip
    if script is None:
        return found
    write_model(model, folder / "shape")
    write_pictures(torch.rand(4, 3, SIDE, SIDE), folder / "noise")
    saved = run_script(
        script, folder / "shape", folder / "noise", folder / "steps", side=SIDE, steps=6, batch=1, save=1
    )
    value = seconds_a_step(saved)
    return [
        *found,
        {"what": f"SD1.5 shape, {SIDE} px, a step: the example", "value": value, "unit": "s",
         "ratio": value / seconds["the U-Net alone"]},
    ]  # fmt: skip


def validation_loss(model, f_a: Tensor, latents: Tensor, token: SoundToken) -> float:
    """The loss of "a photo of *" with a token's vectors, on the noise and timesteps of our validation."""
    zero = torch.zeros_like(token.vectors["clip_l"])
    run = TokenTrainer(model, f_a, {}, latents, TrainSettings(vectors=len(zero), rho=None), "sound")
    with torch.no_grad():
        heard = run.token(None, {}).vectors["clip_l"] - run.f_adapter["clip_l"]
        run.f_adapter["clip_l"].copy_(token.vectors["clip_l"] - heard)
    return run.validate()


def stable_diffusion(words: Path):
    """Stable Diffusion 1.5's shape in float32 with random weights; its tokenizer, of as many words, goes into
    the folder `words`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from aai.picture.diffusers import DiffusersPictureModel
    from aai.soundworld.text import load_tokenizer

    shutil.copytree(loaders.WEIGHTS / "tokenizer", words)
    vocabulary = json.loads((words / "vocab.json").read_text(encoding="utf-8"))
    # The example moves every word's vector at each step, so their number counts.
    vocabulary.update({f"no-word-{i}": i for i in range(len(vocabulary), VOCABULARY)})
    (words / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = load_tokenizer(words)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=SIDE // 8, cross_attention_dim=768)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    schedule = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return DiffusersPictureModel(unet, text, tokenizer, vae, schedule)


def write_pictures(pictures: Tensor, folder: Path) -> None:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        image.save(picture, folder / f"{i}.png")


def write_model(model, folder: Path) -> None:
    """The parts in diffusers' folders; an autoencoder that is none of diffusers' is left out."""
    from diffusers import DDPMScheduler

    tower = model._text_encoders["clip_l"]
    tower.model.save_pretrained(folder / "text_encoder")
    tower.tokenizer.save_pretrained(folder / "tokenizer")
    model.unet.save_pretrained(folder / "unet")
    if hasattr(model.vae, "save_pretrained"):
        model.vae.save_pretrained(folder / "vae")
    kind = "v_prediction" if model.v_prediction else "epsilon"
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind
    ).save_pretrained(folder / "scheduler")


def run_script(
    script: Path,
    model: Path,
    pictures: Path,
    output: Path,
    *,
    side: int,
    steps: int,
    batch: int,
    save: int,
    autoencoder: str = "",
) -> dict[int, Path]:
    """Runs the example whole; {steps: the embedding that it saved then}."""
    arguments = {
        "pretrained_model_name_or_path": model, "train_data_dir": pictures, "output_dir": output,
        "placeholder_token": "<sound>", "initializer_token": WORD, "resolution": side,
        "train_batch_size": batch, "max_train_steps": steps, "learning_rate": 5e-4, "save_steps": save,
        "checkpointing_steps": 10**9, "lr_warmup_steps": 0, "seed": 0,
    }  # fmt: skip
    said = [f"--{key}={value}" for key, value in arguments.items()]
    command = [sys.executable, "-c", RUNNER, str(script), autoencoder, *said, "--scale_lr"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
    )
    saved = {int(p.stem.rsplit("-", 1)[1]): p for p in output.glob("learned_embeds-steps-*.safetensors")}
    if done.returncode or not saved:
        raise InputError(f"{script.name} did not run to its end:\n{done.stderr[-2000:]}")
    return saved


def seconds_a_step(saved: dict[int, Path]) -> float:
    """From the times of its files: what came before the first is loading, the first step warms up."""
    first, last = min(saved), max(saved)
    between = saved[last].stat().st_mtime_ns - saved[first].stat().st_mtime_ns
    return between / 1e9 / (last - first)


RUNNER = """
import importlib, runpy, sys
from types import SimpleNamespace
import diffusers, diffusers.utils
script, module, *rest = sys.argv[1:]
diffusers.utils.check_min_version = lambda version: None
if module:
    from aai.soundworld.loaders import read_weights
    class Autoencoder(importlib.import_module(module).PatchAutoencoder):
        config = SimpleNamespace(scaling_factor=1.0)
        @classmethod
        def from_pretrained(cls, *_, **__):
            made = cls()
            made.load_state_dict(read_weights("autoencoder"))
            return made
        def encode(self, x):
            latents = super().encode(x)
            return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: latents))
    diffusers.AutoencoderKL = Autoencoder
sys.argv = [script, *rest]
runpy.run_path(script, run_name="__main__")
"""


def _check(script: Path) -> None:
    if not script.is_file():
        raise InputError(f"There is no '{script}': give the path of diffusers' textual_inversion.py.")
    missing = [name for name in ("accelerate", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"The example needs more packages: pip install {' '.join(missing)}")
