"""CAV-MAE's towers (Gong et al., ICLR 2023; YuanGongND/cav-mae), the encoder that the paper tunes.

One transformer for sound and one for pictures, then a block that both share. The keys of the weights are the
published ones; `cavmae_checkpoint.py` reads public files.

The shared block is kept twice: `blocks_u` for sounds, `blocks_u_v` for pictures. They start equal
(`load_published`), and
tuning the first cannot move the visual features. `share_unified` gives the published single block back, for
`momentum="literal_shared"`: then both names stand for one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What the published files hold besides the towers: pre-training's decoder, fine-tuning's classifier.
DECODER, CLASSIFIER = ("decoder_", "mask_token"), ("mlp_head.",)


@dataclass(frozen=True)
class CAVMAEConfig:
    """The published sizes; `fbank_mean` and `fbank_std` normalise the filter bank as (x - mean) / std."""

    dim: int = 768
    depth_a: int = 11
    depth_v: int = 11
    heads: int = 12
    mel_bins: int = 128
    frames: int = 1024
    image_size: int = 224
    patch: int = 16
    mlp_ratio: int = 4
    rate: int = 16000
    seconds: float = 10.0
    fbank_mean: float = -5.081
    fbank_std: float = 4.4849

    @property
    def audio_tokens(self) -> int:
        return (self.mel_bins // self.patch) * (self.frames // self.patch)

    def patches_of(self, frames: int) -> Tensor:
        """The numbers [n] of the patches that so many frames fill, at least one column of them."""
        columns, rows = self.frames // self.patch, self.mel_bins // self.patch
        filled = min(columns, max(1, frames // self.patch))
        return (torch.arange(rows)[:, None] * columns + torch.arange(filled)).flatten()

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.patch) ** 2


class PatchEmbed(nn.Module):
    """Patches of [B, C, H, W] as tokens [B, N, dim], row by row."""

    def __init__(self, channels: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block with three pairs of norms: plain, for sound ("a") and for pictures
    ("v")."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1, self.norm1_a, self.norm1_v = (nn.LayerNorm(dim) for _ in range(3))
        self.attn = Attention(dim, heads)
        self.norm2, self.norm2_a, self.norm2_v = (nn.LayerNorm(dim) for _ in range(3))
        self.mlp = MLP(dim, mlp_ratio * dim)

    def forward(self, x: Tensor, modality: str = "") -> Tensor:
        suffix = f"_{modality}" if modality else ""
        x = x + self.attn(getattr(self, "norm1" + suffix)(x))
        return x + self.mlp(getattr(self, "norm2" + suffix)(x))


def pool(tokens: Tensor) -> Tensor:
    """The mean over tokens, [B, n, dim] to [B, dim]: what CAV-MAE's retrieval compares."""
    return tokens.mean(1)


class CAVMAE(nn.Module):
    """Filter banks [B, frames, mel_bins] (normalised) and pictures [B, 3, S, S] (normalised) to tokens
    [B, n, dim], and these to features [B, dim]."""

    def __init__(self, config: CAVMAEConfig, share_unified: bool = False):
        super().__init__()
        self.config = c = config
        self.patch_embed_a = PatchEmbed(1, c.dim, c.patch)
        self.patch_embed_v = PatchEmbed(3, c.dim, c.patch)
        self.modality_a = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.modality_v = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.pos_embed_a = nn.Parameter(torch.zeros(1, c.audio_tokens, c.dim))
        self.pos_embed_v = nn.Parameter(torch.zeros(1, c.image_tokens, c.dim))
        self.blocks_a = nn.ModuleList(Block(c.dim, c.heads, c.mlp_ratio) for _ in range(c.depth_a))
        self.blocks_v = nn.ModuleList(Block(c.dim, c.heads, c.mlp_ratio) for _ in range(c.depth_v))
        self.blocks_u = nn.ModuleList([Block(c.dim, c.heads, c.mlp_ratio)])
        self.blocks_u_v = (
            self.blocks_u if share_unified else nn.ModuleList([Block(c.dim, c.heads, c.mlp_ratio)])
        )
        self.norm_a, self.norm_v, self.norm = (nn.LayerNorm(c.dim) for _ in range(3))
        for parameter in (self.modality_a, self.modality_v, self.pos_embed_a, self.pos_embed_v):
            nn.init.normal_(parameter, std=0.02)

    def shared(self) -> CAVMAE:
        """A copy in which sounds and pictures share one block, for momentum "literal_shared".

        Raises InputError where tuning has already moved the two apart.
        """
        weights = self.state_dict()
        twins = {
            key: key.replace("blocks_u.", "blocks_u_v.") for key in weights if key.startswith("blocks_u.")
        }
        if any(not torch.equal(weights[audio], weights[visual]) for audio, visual in twins.items()):
            raise InputError(
                "This encoder's last block hears otherwise than it sees, since it was aligned already: start "
                "from a public CAV-MAE file, or choose another momentum."
            )
        model = CAVMAE(self.config, share_unified=True).to(self.modality_a.device)
        model.load_state_dict(weights)
        return model.requires_grad_(False)

    def audio_parameters(self) -> list[nn.Parameter]:
        """What alignment tunes: the audio branch, its copy of the shared block with it."""
        parts = (self.patch_embed_a, self.blocks_a, self.blocks_u, self.norm_a)
        return [self.modality_a, self.pos_embed_a, *(p for part in parts for p in part.parameters())]

    def visual_parameters(self) -> list[nn.Parameter]:
        parts = (self.patch_embed_v, self.blocks_v, self.blocks_u_v, self.norm_v)
        return [self.modality_v, self.pos_embed_v, *(p for part in parts for p in part.parameters())]

    def forward_audio(self, fbanks: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, frames, mel_bins] to tokens [B, n, dim], frequency-major; `keep` [B, n] names the patches to
        hear (patchout; None hears all)."""
        x = self.patch_embed_a(fbanks.transpose(1, 2)[:, None]) + self.pos_embed_a + self.modality_a
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        for block in self.blocks_a:
            x = block(x)
        for block in self.blocks_u:
            x = block(x, "a")
        return self.norm_a(x)

    def visual_tokens(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] to the tokens [B, n, dim] that the shared block sees: what no alignment ever moves."""
        x = self.patch_embed_v(images) + self.pos_embed_v + self.modality_v
        for block in self.blocks_v:
            x = block(x)
        return x

    def see(self, tokens: Tensor) -> Tensor:
        """What `visual_tokens` gave, through the shared block: [B, n, dim] to [B, n, dim]."""
        for block in self.blocks_u_v:
            tokens = block(tokens, "v")
        return self.norm_v(tokens)

    def forward_image(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] to tokens [B, n, dim], row by row."""
        return self.see(self.visual_tokens(images))

    def audio_features(self, fbanks: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, frames, mel_bins] to the mean over tokens [B, dim]."""
        return pool(self.forward_audio(fbanks, keep))

    def visual_features(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] to the mean over tokens [B, dim]."""
        return pool(self.forward_image(images))

    def load_published(self, tensors: dict[str, Tensor], name: str = "The file") -> None:
        """Takes the weights of a public CAV-MAE file, pre-trained or fine-tuned, into both copies of the
        shared block.

        The prefix `module.` is stripped; decoder and classifier are passed over. Raises InputError where a
        tower's weight is missing or has another size, or where the file holds something unknown.
        """
        self.take(tower_weights(tensors), name)

    def take(self, weights: dict[str, Tensor], name: str) -> None:
        """Loads all weights, or raises InputError naming the first that is missing, unknown or of another
        size."""
        take(self, weights, name)


def tower_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A public file's tensors as `CAVMAE` names them: without the prefix `module.`, the decoder and the
    classifier, and with the shared block twice."""
    weights = {key.removeprefix("module."): value for key, value in tensors.items()}
    weights = {key: value for key, value in weights.items() if not key.startswith(DECODER + CLASSIFIER)}
    for key in [key for key in weights if key.startswith("blocks_u.")]:
        weights.setdefault(key.replace("blocks_u.", "blocks_u_v."), weights[key])
    return weights


def take(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Loads all of a part's weights from the file called `name`, or raises InputError as `check` does."""
    check(module, weights, name)
    module.load_state_dict(weights)


def check(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Raises InputError, naming the first, where the file called `name` lacks weights of a module, or holds
    unknown ones or other sizes. The module may be on the meta device, where it takes no memory."""
    own = module.state_dict()
    for problem, keys in (
        ("lacks", sorted(own.keys() - weights.keys())),
        ("holds unknown", sorted(weights.keys() - own.keys())),
        ("holds other sizes of", [k for k in own if k in weights and own[k].shape != weights[k].shape]),
    ):
        if keys:
            raise InputError(
                f"'{name}' {problem} {len(keys)} of CAV-MAE's weights ({keys[0]}, ...): choose another "
                "file, or save or download it again."
            )
