"""SoundWorld's picture models: the real architectures at a small size.

The U-Net is diffusers' `UNet2DConditionModel` in Stable Diffusion 1's arrangement, the flow transformer its
`FluxTransformer2DModel` in Flux.1's; the text tower is
transformers' `CLIPTextModel` with a small vocabulary of its own. The autoencoder is a linear map of 8x8
patches (a PCA, so it has no training to fail) with a small convolutional network that cleans the decoded
picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNET_FAMILY, FLOW_FAMILY = "SoundWorld's U-Net", "SoundWorld's flow transformer"
"""What tokens and adapters call the model that they were made for."""
DIM = 192
LATENT_CHANNELS = 32
PATCH = 8
"""The side in pixels of what a latent decodes to."""
IMAGE_SIZE = 128

TEXT_CONFIG = {
    "hidden_size": DIM,
    "intermediate_size": 4 * DIM,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": DIM,
}
UNET_CONFIG = {
    "sample_size": 16,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 128, 192),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 4,
    "cross_attention_dim": DIM,
    "norm_num_groups": 32,
}
FLOW_GUIDANCE = 3.0
"""The guidance at which the flow transformer draws best."""
TEXT_PLACES = 24
"""How many places of a prompt the flow transformer reads, where the prompt is no longer."""
FLOW_CONFIG = {
    "patch_size": 1,
    "in_channels": 4 * LATENT_CHANNELS,
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 32,
    "num_attention_heads": 6,
    "joint_attention_dim": DIM,
    # A pooled prompt would tell the event past all attention: it is one number, and always 0.
    "pooled_projection_dim": 1,
    "guidance_embeds": False,
    "axes_dims_rope": (8, 12, 12),
}
SCHEDULER_CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity: [B, C, H, W] to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class PatchAutoencoder(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to latents [B, 32, H/8, W/8] of about unit variance, and back.

    `encode` is linear. `decode` inverts it, then a small network repairs block edges and restores details
    that 32 numbers a patch leave out; `refine=False` gives the linear picture.
    """

    def __init__(self, channels: int = LATENT_CHANNELS, width: int = 48, blocks: int = 4):
        super().__init__()
        self.analysis = nn.Conv2d(3, channels, PATCH, stride=PATCH)
        self.synthesis = nn.ConvTranspose2d(channels, 3, PATCH, stride=PATCH)
        self.refine_in = nn.Conv2d(48, width, 3, padding=1)
        self.refine_latent = nn.Conv2d(channels, width, 1)
        self.refine_blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
        self.refine_out = nn.Conv2d(width, 48, 3, padding=1)
        nn.init.zeros_(self.refine_out.weight)
        nn.init.zeros_(self.refine_out.bias)

    def encode(self, x: Tensor) -> Tensor:
        return self.analysis(x)

    def decode(self, z: Tensor, refine: bool = True) -> Tensor:
        x = self.synthesis(z)
        if not refine:
            return x
        hidden = self.refine_in(F.pixel_unshuffle(x, 4))
        hidden = hidden + F.interpolate(self.refine_latent(z), scale_factor=2, mode="bilinear")
        return x + F.pixel_shuffle(self.refine_out(self.refine_blocks(hidden)), 4)

    @torch.no_grad()
    def fit_linear(self, patches: Tensor, whitening: float) -> float:
        """Sets the linear part to the PCA of `patches` [N, 192] (rows of 3 x 8 x 8 in [-1, 1]).

        `whitening` 1 gives every latent channel unit variance, 0 keeps the PCA's; in between, coarse channels
        carry more of the signal, as in a picture. Returns the share of the variance that is kept.
        """
        patches = patches.double()
        colour = patches.reshape(-1, 3, 64).mean((0, 2))
        mean = colour.repeat_interleave(64)
        centred = patches - mean
        variance, basis = torch.linalg.eigh(centred.T @ centred / len(patches))
        order = variance.argsort(descending=True)[: self.analysis.out_channels]
        kept, basis = variance[order], basis[:, order]
        gain = kept.sqrt().pow(-whitening)
        gain = gain / (kept * gain.square()).mean().sqrt()
        self.analysis.weight.copy_((basis * gain).T.reshape_as(self.analysis.weight))
        self.analysis.bias.copy_(-(mean @ (basis * gain)))
        self.synthesis.weight.copy_((basis / gain).T.reshape_as(self.synthesis.weight))
        self.synthesis.bias.copy_(colour)
        return float(kept.sum() / variance.sum())


def build_unet() -> nn.Module:
    """diffusers' U-Net of UNET_CONFIG, with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**UNET_CONFIG)


def build_flow() -> nn.Module:
    """diffusers' transformer of FLOW_CONFIG, with random weights."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(**FLOW_CONFIG)
