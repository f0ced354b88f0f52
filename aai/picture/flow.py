"""PictureModel over diffusers' flow transformers: SoundWorld's, Flux.1 and Z-Image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..prompt import Prompt
from . import schedule
from .beside import with_rows
from .checkpointing import checkpointing
from .control import Control, ControlRun, check_beside_sources, check_no_film
from .frozen import Encoder, FrozenModel, repeated
from .joint_attention import injected
from .model import Conditioning, Vectors
from .packing import PACK
from .velocity import Velocity


class FlowPictureModel(FrozenModel):
    """A rectified flow, x = (1 - s) x0 + s n, whose transformer predicts v = n - x0.

    `encoders` are read in their order: the last one's hidden states are the conditioning, and of those before
    it, CLIP's, the pooled text. `flow` spreads the timesteps over s. Latents are float32, whatever the
    transformer computes in.
    """

    square, joint = PACK, True

    def __init__(
        self,
        velocity: Velocity,
        encoders: Mapping[str, Encoder],
        vae: nn.Module,
        flow: schedule.Flow,
        family: str,
        native_size: int = 1024,
        guidance: float = 5.0,
    ):
        super().__init__(velocity.module, encoders, vae)
        self.velocity, self.flow = velocity, flow
        self.family, self.native_size, self.guidance = family, native_size, guidance

    @property
    def latent_dtype(self) -> torch.dtype:
        return torch.float32

    def to(self, *place: torch.device | torch.dtype | str) -> FlowPictureModel:
        """Moves all modules to a device, and all but the autoencoder to a dtype, `computed_in`."""
        return super().to(*(computed_in(p) if isinstance(p, torch.dtype) else p for p in place))

    @property
    def sigmas(self) -> Tensor:
        """Noise over signal at each timestep [T], ascending."""
        s = self.flow.times(torch.arange(schedule.TIMESTEPS))
        return s / (1 - s)

    def checkpointing(self) -> AbstractContextManager:
        """Inside, the transformer's blocks keep their inputs only for the backward pass."""
        return checkpointing(self.velocity.blocks)

    def encode_prompt(self, prompt: Prompt, vectors: Vectors | None = None) -> Conditioning:
        """The prompt's conditioning, differentiable in `vectors` {token name: {encoder: [n, d]}}. A token may
        lack a word for an encoder of which the pooled text alone is read."""
        *summaries, (context, reader) = self._text_encoders.items()
        layout = reader.layout(prompt, context)
        cross = reader.states(layout, self._rows_of(prompt, context, layout.positions, vectors))
        pooled = None
        for key, encoder in summaries:
            short = encoder.layout(prompt, key, partial=True)
            used = self._rows_of(prompt, key, short.positions, vectors)
            pooled = encoder.run(short, used).pooler_output
        return Conditioning(cross, pooled, (layout.token_ids,))

    def predict_noise(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The noise in noisy latents [B, C, h, w] of a variance-preserving scale at timesteps t [B] (0..999),
        as for a model of 1000 timesteps."""
        s = self.flow.times(t.to(self.device))
        share = _spread(s)
        x = latents.to(self.device).float() * (share**2 + (1 - share) ** 2).sqrt()
        return x + (1 - share) * self.predict_velocity(x, s, cond)

    def denoising_loss(self, latents: Tensor, cond: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error, in float32, in the velocity at timesteps t [B]."""
        latents, noise = latents.to(self.device).float(), noise.to(self.device).float()
        s = self.flow.times(t.to(self.device))
        share = _spread(s)
        predicted = self.predict_velocity(share * noise + (1 - share) * latents, s, cond)
        return F.mse_loss(predicted, noise - latents)

    @torch.no_grad()
    def sample(
        self,
        cond: Conditioning,
        uncond: Conditioning,
        *,
        seeds: list[int],
        steps: int = 30,
        guidance: float = 7.5,
        width: int | None = None,
        height: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
        edit: Control | None = None,
    ) -> Tensor:
        """Euler on the "simple" schedule, as ComfyUI's `euler` and `simple`: one picture a seed; with an
        edit, a source and its edited pictures a seed.

        Raises InputError for an edit where none reaches the transformer's attention, and for what it does
        not follow of one: scales without a source, an inverted picture, a film.
        """
        if edit is not None:
            self.check_editable()
            check_no_film(edit)
            check_beside_sources(edit, self.family)
        step = self.codec.downscale * self.square
        sides = [
            side // step * self.square for side in (height or self.native_size, width or self.native_size)
        ]
        noise, run = self.first_noise(seeds, *sides, self.velocity.channels), None
        if edit is not None:
            edit.check_model(self.fingerprint)
            run = edit.begin(noise.shape[1:], steps, guidance)
            noise = noise.repeat_interleave(run.rows, 0)
        times = self.flow.simple(steps).to(self.device)

        def denoise(x: Tensor, s: Tensor) -> Tensor:
            share, time = schedule.progress(float(s), times.tolist()), s.expand(len(x))
            clean = [x - s * self._injected_velocity(run, x, time, cond, share, steps)]
            if guidance != 1:
                clean.insert(0, x - s * self.predict_velocity(x, time, uncond))
            if run is not None:
                clean = run.after_model(clean, len(clean) - 1, share)
            plain, prompted = clean[0], clean[-1]
            return prompted if guidance == 1 else plain + guidance * (prompted - plain)

        return schedule.euler(denoise, times[0] * noise.to(self.device), times, callback)

    def _injected_velocity(
        self, run: ControlRun | None, x: Tensor, s: Tensor, cond: Conditioning, share: float, steps: int
    ) -> Tensor:
        """`predict_velocity` under a control. What runs beside the batch stands behind it."""
        if run is None:
            return self.predict_velocity(x, s, cond)
        rows, longest = list(range(len(x))), cond.cross.shape[1]
        injection, beside = run.worded_injection(share, steps, cond.token_ids, len(x), longest)
        if beside:
            rows += [part.row for part in beside]
            cond = with_rows(cond, beside, len(x))
        lengths = [min(len(ids), longest) for ids in cond.token_ids] * (len(rows) // len(cond.token_ids))
        groups = run.groups(range(len(x)))
        with injected(self.velocity, injection.to(x), groups, lengths):
            return self.predict_velocity(x[rows], s[rows], cond)[: len(x)]

    def check_editable(self) -> None:
        """Raises InputError for a transformer whose attention no edit reaches."""
        if not self.velocity.attention:
            raise InputError(
                f"The attention of {self.family} takes no edit here: edit in ComfyUI, or load Flux.1 or "
                "Stable Diffusion 1, 2 or XL."
            )

    def predict_velocity(self, x: Tensor, s: Tensor, cond: Conditioning) -> Tensor:
        """v in float32 at noisy latents x [B, C, h, w] and times s [B] in (0, 1]."""
        count, dtype = len(x), self.dtype
        pooled = None if cond.pooled is None else repeated(cond.pooled, count).to(self.device, dtype)
        cross = repeated(cond.cross, count).to(self.device, dtype)
        return self.velocity.predict(x.to(dtype), s, cross, pooled).float()


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """The dtype in place of one that a flow transformer's numbers overflow, float16: bfloat16."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


def _spread(s: Tensor) -> Tensor:
    """A number for each row [B] in the shape that multiplies latents [B, C, h, w]."""
    return s[:, None, None, None]
