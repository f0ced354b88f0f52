"""The losses of stage 1, eq. 1-5, as functions of embeddings.

Rows are pairs: sound i belongs with text or picture i. Similarity is the cosine; tau divides it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity(f_a: Tensor, f_m: Tensor, tau: float | Tensor) -> Tensor:
    """sim(f_a, f_m) / tau: [N, D] and [M, D] to [N, M]."""
    return F.normalize(f_a, dim=-1) @ F.normalize(f_m, dim=-1).T / tau


def same_label_targets(labels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Multi-positive targets [N, N]: every row's weight is shared by the columns of its label [N]."""
    same = (labels[:, None] == labels[None, :]).to(dtype)
    return same / same.sum(-1, keepdim=True)


def info_nce(f_a: Tensor, f_m: Tensor, tau: float | Tensor, targets: Tensor | None = None) -> Tensor:
    """L_c, eq. 2-4: the mean of the cross-entropies from sound to the other modality and back.

    f_a, f_m [N, D]. The denominator includes the positive (InfoNCE; eq. 2 as printed leaves it out).
    `targets` [N, N] replaces the one-hot y, for batches in which a label occurs twice.
    """
    logits = similarity(f_a, f_m, tau)
    if targets is None:
        targets = torch.eye(len(f_a), dtype=logits.dtype, device=logits.device)
    return 0.5 * (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T))


def momentum_contrastive(f_a: Tensor, f_v: Tensor, q_a: Tensor, q_v: Tensor, tau: float | Tensor) -> Tensor:
    """L_t, eq. 5: KL(q || p) from sound to picture and back, averaged over the batch.

    p comes from f_a, f_v [N, D]; q from the momentum encoder's q_a, q_v [N, D], without gradient. q_a and q_v
    depend on which branch the momentum encoder is a twin of (`AlignSettings.momentum`): with a twin of the
    frozen visual encoder (the paper's words) q = p and the loss is exactly 0.
    """
    with torch.no_grad():
        q = similarity(q_a, q_v, tau)
    p = similarity(f_a, f_v, tau)
    forth = F.kl_div(p.log_softmax(-1), q.log_softmax(-1), reduction="batchmean", log_target=True)
    back = F.kl_div(p.T.log_softmax(-1), q.T.log_softmax(-1), reduction="batchmean", log_target=True)
    return forth + back


def alignment_loss(a_t: Tensor, a_v: Tensor, l_t: Tensor, alpha: float) -> Tensor:
    """Eq. 1: L_c(A, T) + (1 - alpha) L_c(A, V) + alpha/2 L_t(A, V)."""
    return a_t + (1 - alpha) * a_v + alpha / 2 * l_t
