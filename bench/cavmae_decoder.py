"""CAV-MAE's pre-training decoder, from the patches that it was given to all of them, and tensors as public
files name them. Only the comparison with the published code and tests need these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aai.encoders.cavmae import CAVMAE, DECODER, Block, CAVMAEConfig, take
from aai.encoders.cavmae_checkpoint import Published
from aai.errors import InputError


@dataclass(frozen=True)
class DecoderConfig:
    """The published sizes."""

    dim: int = 512
    depth: int = 8
    heads: int = 16
    mlp_ratio: int = 4


class Decoder(nn.Module):
    """Tokens [B, k_a + k_v, dim] of `forward_joint` to every patch's values: [B, audio_tokens, patch²]
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


def forward_joint(model: CAVMAE, fbanks: Tensor, images: Tensor, keep_a: Tensor, keep_v: Tensor) -> Tensor:
    """Sounds and pictures in one sequence, as pre-training's decoder and the classifier take them: the
    patches `keep_a` [B, k_a] and `keep_v` [B, k_v] to tokens [B, k_a + k_v, dim].

    Through the block that hears, which alignment may have moved away from the block that sees.
    """
    a = model.patch_embed_a(fbanks.transpose(1, 2)[:, None]) + model.pos_embed_a + model.modality_a
    v = model.patch_embed_v(images) + model.pos_embed_v + model.modality_v
    a, v = (
        x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1])) for x, keep in ((a, keep_a), (v, keep_v))
    )
    for block in model.blocks_a:
        a = block(a)
    for block in model.blocks_v:
        v = block(v)
    x = torch.cat([a, v], 1)
    for block in model.blocks_u:
        x = block(x)
    return model.norm(x)


def decoder_of(
    published: Published, config: CAVMAEConfig | None = None, sizes: DecoderConfig | None = None
) -> Decoder:
    """Pre-training's decoder. Raises InputError where the file has none, or lacks some of it."""
    if "decoder" not in published.parts:
        raise InputError(f"'{published.name}' holds no decoder ({published}): choose a pre-trained file.")
    decoder = Decoder(config or CAVMAEConfig(), sizes or DecoderConfig())
    take(decoder, {k: v for k, v in published.tensors.items() if k.startswith(DECODER)}, published.name)
    return decoder


def towers_file(model: CAVMAE) -> dict[str, Tensor]:
    """The towers as a public file names them, with one shared block: the one of the audio branch."""
    towers = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks_u_v.")}
    return {f"module.{k}": v for k, v in towers.items()}


def whole_file(model: CAVMAE, decoder: Decoder) -> dict[str, Tensor]:
    """The towers and the decoder as a pre-trained public file names them."""
    return towers_file(model) | {f"module.{k}": v for k, v in decoder.state_dict().items()}
