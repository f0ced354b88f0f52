"""Trains SoundWorld's denoisers: latents of rendered pictures, captions encoded by the frozen text tower.

The U-Net predicts v (Salimans and Ho 2022): a small one learns that sooner than the noise, which where noise
is strong asks it to copy its input. Min-SNR weights (Hang et al. 2023, gamma = 5); timesteps stratified over
the batch. The transformer predicts the velocity of a rectified flow (Liu et al. 2023), times logit-normal
(Esser et al. 2024) and stratified as well. One caption in ten is empty, for classifier-free guidance. The
rate is constant, then falls to zero over the last part of the time; the weights that are kept are an
exponential moving average.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...picture.packing import packed, place_ids
from ...picture.schedule import alphas_cumprod
from ..captions import caption
from ..models import SCHEDULER_CONFIG, TEXT_PLACES, PatchAutoencoder
from ..pictures import Scenes
from ..text import CaptionEncoder, as_word, scale_of
from .text import perturb

TIME_MEAN = 0.4
"""The mean of the logit of a training time of the flow: above 0, more of them are noisy."""

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""(model, latents [B, C, h, w], context [B, 77, D], generator): the loss, with noise from the generator."""


@torch.no_grad()
def encode_pictures(autoencoder: PatchAutoencoder, pictures: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] to latents [N, C, H/8, W/8]."""
    return torch.cat([autoencoder.encode(chunk.float() / 127.5 - 1) for chunk in pictures.split(256)])


Starred = tuple[str, Sequence[str]]
"""A caption, and the phrases that stand at its `*` as one token each, in reading order."""


def captions_of(scenes: Scenes, per_picture: int, seed: int) -> list[Starred]:
    """`per_picture` captions of every picture, those of one picture together."""
    rng = np.random.default_rng(seed)
    rows: list[Starred] = []
    for scene, event, intensity in zip(scenes.scene, scenes.event, scenes.intensity):
        for _ in range(per_picture):
            one = caption(scene, event, intensity, rng, starred=0.35)
            rows.append((one.text, [one.word] if one.word else []))
    return rows


@torch.no_grad()
def caption_states(
    encoder: CaptionEncoder, captions: Sequence[Starred], per_picture: int, seed: int
) -> Tensor:
    """Hidden states of the captions of pictures, of which each has `per_picture`, with perturbed words at
    their stars: float16 [N, per_picture, 77, D]."""
    generator = torch.Generator().manual_seed(seed)
    phrases = sorted({phrase for _, starring in captions for phrase in starring})
    vectors = dict(zip(phrases, as_word(encoder.sentence(phrases), scale_of(encoder.model))))
    states = []
    for start in range(0, len(captions), 64):
        chunk = captions[start : start + 64]
        starring = [vectors[phrase] for _, phrases in chunk for phrase in phrases]
        words = torch.stack(starring) if starring else torch.zeros(0, encoder.dim)
        amount = torch.rand(len(words), 1, generator=generator) * 0.8
        read, _ = encoder.states([text for text, _ in chunk], perturb(words, amount), length=77)
        states.append(read.half())
    return torch.cat(states).unflatten(0, (-1, per_picture))


def v_loss(model: nn.Module, latents: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
    """A U-Net's squared error in v, min-SNR weighted."""
    alphas = alphas_cumprod(SCHEDULER_CONFIG).float()
    snr = alphas / (1 - alphas)
    weight = snr.clamp(max=5) / (snr + 1)
    t = (_stratified(len(latents), generator) * 1000).long().clamp(max=999)
    noise = torch.randn(latents.shape, generator=generator)
    a = alphas[t][:, None, None, None]
    signal, spread = a.sqrt(), (1 - a).sqrt()
    predicted = model(signal * latents + spread * noise, t, context).sample
    errors = (predicted - (signal * noise - spread * latents)).square().mean((1, 2, 3))
    return (weight[t] * errors).mean()


def flow_loss(model: nn.Module, latents: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
    """A transformer's (diffusers' `FluxTransformer2DModel`) squared error in the velocity n - x0."""
    count = len(latents)
    time = torch.sigmoid(torch.special.ndtri(_stratified(count, generator).clamp(1e-4, 1 - 1e-4)) + TIME_MEAN)
    noise = torch.randn(latents.shape, generator=generator)
    s = time[:, None, None, None]
    predicted = velocity(model, s * noise + (1 - s) * latents, time, context)
    return (predicted - packed(noise - latents)).square().mean()


def velocity(transformer: nn.Module, noisy: Tensor, time: Tensor, context: Tensor) -> Tensor:
    """The velocity [B, N, C * 4] of noisy latents [B, C, h, w] at times [B], as `packed`."""
    return transformer(
        hidden_states=packed(noisy),
        timestep=time,
        encoder_hidden_states=context[:, :TEXT_PLACES],
        pooled_projections=noisy.new_zeros(len(noisy), transformer.config.pooled_projection_dim),
        img_ids=place_ids(*noisy.shape[2:]),
        txt_ids=noisy.new_zeros(TEXT_PLACES, 3),
    ).sample


def _stratified(count: int, generator: torch.Generator) -> Tensor:
    """Numbers of (0, 1), one in each of `count` equal parts."""
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


def train_denoiser(
    model: nn.Module,
    loss_of: Loss,
    latents: Tensor,
    states: Tensor,
    empty: Tensor,
    checkpoint: Path,
    minutes: float,
    *,
    batch: int = 24,
    rate: float = 5e-4,
    decay_from: float = 0.6,
    seed: int = 0,
    report: Callable[[int, float, float], None] | None = None,
) -> nn.Module:
    """Trains for `minutes` in all, over any number of runs: `checkpoint` is written as it goes, and when a
    run is stopped (`report` may raise), and resumed.

    latents [N, C, h, w]; states [N, K, 77, D] of K captions a picture; empty [77, D]. Returns the averaged
    weights.
    """
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
    generator = torch.Generator().manual_seed(seed + step)

    def save() -> None:
        unfinished = checkpoint.with_suffix(".part")
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
            "spent": spent,
        }
        torch.save(state, unfinished)
        unfinished.replace(checkpoint)

    saved_at = spent
    try:
        while spent < minutes:
            start = time.monotonic()
            remaining = (minutes - spent) / (minutes * (1 - decay_from))
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 200, max(remaining, 0.01))
            rows = torch.randint(len(latents), (batch,), generator=generator)
            which = torch.randint(states.shape[1], (batch,), generator=generator)
            context = states[rows, which].float()
            context[torch.rand(batch, generator=generator) < 0.1] = empty
            loss = loss_of(model, latents[rows], context, generator)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            keep = min(0.999, (step + 1) / (step + 20))
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - keep)
            spent += (time.monotonic() - start) / 60
            if report:
                report(step, spent, loss.item())
            if spent - saved_at > 3:
                save()
                saved_at = spent
    finally:
        save()
    model.load_state_dict(average)
    return model.eval().requires_grad_(False)
