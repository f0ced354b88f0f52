"""CLIP with a ResNet for eyes (RN50), which transformers does not have: AudioCLIP's towers for pictures and
texts. The names of the weights are those of openai/CLIP."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LAYERS, HEAD = 64, (3, 4, 6, 3), 64
VOCABULARY, LENGTH, END = 49408, 77, 49407


class Bottleneck(nn.Module):
    """Where a stride is, pictures are averaged before it."""

    def __init__(self, channels: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or channels != 4 * planes:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(channels, 4 * planes, 1, bias=False)),
                        ("1", nn.BatchNorm2d(4 * planes)),
                    ]
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.pool(self.bn2(self.conv2(out)).relu())
        return (self.bn3(self.conv3(out)) + (self.downsample(x) if self.downsample else x)).relu()


class AttentionPool(nn.Module):
    """The mean of a picture's places looks at them all: [B, C, h, w] to [B, dim]."""

    def __init__(self, side: int, channels: int, dim: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(side**2 + 1, channels))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (each.unflatten(-1, (-1, HEAD)).transpose(1, 2) for each in (q, k, v))
        return self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))


class PictureTower(nn.Module):
    """Pictures [B, 3, S, S], normalised as CLIP's are, to [B, dim]."""

    def __init__(self, dim: int = 1024, size: int = 224, layers: tuple[int, ...] = LAYERS):
        super().__init__()
        half = WIDTH // 2
        for number, (channels, out, stride) in enumerate(
            ((3, half, 2), (half, half, 1), (half, WIDTH, 1)), 1
        ):
            setattr(self, f"conv{number}", nn.Conv2d(channels, out, 3, stride, 1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(out))
        channels = WIDTH
        for number, count in enumerate(layers):
            planes, stride = WIDTH * 2**number, 1 if number == 0 else 2
            blocks = [Bottleneck(channels, planes, stride)]
            channels = 4 * planes
            blocks += [Bottleneck(channels, planes) for _ in range(count - 1)]
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(size // 32, channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = norm(conv(x)).relu()
        x = F.avg_pool2d(x, 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A causal transformer's block, [B, T, width] to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = (
            ("c_fc", nn.Linear(width, 4 * width)),
            ("gelu", QuickGELU()),
            ("c_proj", nn.Linear(4 * width, width)),
        )
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        y, later = self.ln_1(x), torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=later)[0]
        return x + self.mlp(self.ln_2(x))


class CLIPResNet(nn.Module):
    """Both towers of CLIP RN50, into a joint space of `dim` numbers."""

    def __init__(self, dim: int = 1024, width: int = 512, depth: int = 12):
        super().__init__()
        self.visual = PictureTower(dim)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(torch.zeros(LENGTH, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, dim))

    def read(self, ids: Tensor) -> Tensor:
        """Token ids [B, T], each with an end, to [B, dim]; what stands behind the end is not read."""
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        x = self.ln_final(self.transformer.resblocks(x))
        ends = (ids == END).int().argmax(-1)
        return x[torch.arange(len(x), device=x.device), ends] @ self.text_projection
