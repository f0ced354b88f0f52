"""CAV-MAE's decoder: from the patches that were heard and seen to all of them, as its pre-training learns to.

Alignment does not need it; continuing the pre-training, and giving a published file back whole, do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cavmae import Block, CAVMAEConfig


@dataclass(frozen=True)
class DecoderConfig:
    """The published sizes."""

    dim: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: int = 4


class Decoder(nn.Module):
    """Tokens [B, k_a + k_v, dim] of `CAVMAE.forward_joint` to every patch's values: [B, audio_tokens, patch²]
    and [B, image_tokens, 3 patch²]. The keys of the weights are the published ones."""

    def __init__(self, towers: CAVMAEConfig, config: DecoderConfig = DecoderConfig()):
        super().__init__()
        self.config, c = config, config
        self.decoder_embed = nn.Linear(towers.dim, c.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.decoder_modality_a = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.decoder_modality_v = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.decoder_pos_embed_a = nn.Parameter(torch.zeros(1, towers.audio_tokens, c.dim))
        self.decoder_pos_embed_v = nn.Parameter(torch.zeros(1, towers.image_tokens, c.dim))
        self.decoder_blocks = nn.ModuleList(Block(c.dim, c.heads, c.mlp_ratio) for _ in range(c.depth))
        self.decoder_norm = nn.LayerNorm(c.dim)
        self.decoder_pred_a = nn.Linear(c.dim, towers.patch**2)
        self.decoder_pred_v = nn.Linear(c.dim, 3 * towers.patch**2)
        for parameter in self.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, keep_a: Tensor, keep_v: Tensor) -> tuple[Tensor, Tensor]:
        """`keep_a` [B, k_a] and `keep_v` [B, k_v]: the patches that `forward_joint` took."""
        x = self.decoder_embed(tokens)
        a, v = x.split([keep_a.shape[1], keep_v.shape[1]], 1)
        a = self._with_masks(a, keep_a, self.decoder_pos_embed_a) + self.decoder_modality_a
        v = self._with_masks(v, keep_v, self.decoder_pos_embed_v) + self.decoder_modality_v
        x = torch.cat([a, v], 1)
        for block in self.decoder_blocks:
            x = block(x)
        a, v = self.decoder_norm(x).split([a.shape[1], v.shape[1]], 1)
        return self.decoder_pred_a(a), self.decoder_pred_v(v)

    def _with_masks(self, tokens: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
        batch, _, dim = tokens.shape
        # Under autocast the tokens come in another precision than the mask's.
        masks = self.mask_token.to(tokens.dtype).expand(batch, positions.shape[1], dim)
        return masks.scatter(1, keep[..., None].expand(-1, -1, dim), tokens) + positions


def patches(x: Tensor, patch: int = 16) -> Tensor:
    """[B, C, H, W] to its patches' values [B, H/patch * W/patch, patch² C], row by row, the channel last."""
    x = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # B C h p w q
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def reconstruction_loss(predicted: Tensor, x: Tensor, keep: Tensor, patch: int = 16) -> Tensor:
    """The mean squared error over the patches that were hidden: predicted [B, N, patch² C], x [B, C, H, W],
    keep [B, k]. For sounds, x is the filter bank as [B, 1, mel_bins, frames]."""
    error = (predicted - patches(x, patch)).square().mean(-1)
    hidden = torch.ones_like(error).scatter(1, keep, 0.0)
    return (error * hidden).sum() / hidden.sum()
