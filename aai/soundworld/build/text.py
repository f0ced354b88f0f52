"""How SoundWorld's tokenizer and text tower are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...optim import set_rate
from ..captions import Caption, corpus, random_caption
from ..models import DIM
from ..text import BOS, EOS, CaptionEncoder, as_word, build_text_tower, scale_of
from ..world import EVENTS, SCENES


def build_tokenizer(folder: Path) -> None:
    """Writes vocab.json and merges.txt of a byte-level CLIP tokenizer in which most of SoundWorld's words are
    one token."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = alphabet + [c + "</w>" for c in alphabet]
    known = set(vocabulary)
    merges: list[str] = []
    for word in dict.fromkeys(corpus()):
        parts = list(word[:-1]) + [word[-1] + "</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            parts[:2] = ["".join(parts[:2])]
            if parts[0] not in known:
                known.add(parts[0])
                vocabulary.append(parts[0])
                merges.append(pair)
    vocabulary += [BOS, EOS]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8", newline="\n")
    lines = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(lines, encoding="utf-8", newline="\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "unk_token": EOS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def perturb(words: Tensor, amount: Tensor | float) -> Tensor:
    """Words [B, D] with a random vector of length `amount` times their own added: what an adapter may do to
    them."""
    noise = F.normalize(torch.randn_like(words), dim=-1)
    return words + noise * words.norm(dim=-1, keepdim=True) * amount


def _targets(captions: list[Caption]) -> tuple[Tensor, Tensor, Tensor]:
    event = torch.tensor([len(EVENTS) if c.event is None else EVENTS.index(c.event) for c in captions])
    scene = torch.tensor([len(SCENES) if c.scene is None else SCENES.index(c.scene) for c in captions])
    intensity = torch.tensor(
        [-1.0 if c.intensity is None else (int(c.intensity * 5) + 0.5) / 5 for c in captions]
    )
    return event, scene, intensity


def train_text(
    tokenizer,
    steps: int = 800,
    batch: int = 64,
    rate: float = 1e-3,
    seed: int = 0,
    report: Callable[[int, dict], None] | None = None,
) -> tuple[nn.Module, float]:
    """Trains the tower; returns it with the share of unseen starred captions whose event it gets right."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_text_tower(tokenizer)
    encoder = CaptionEncoder(tokenizer, model)
    heads = nn.ModuleDict(
        {
            "event": nn.Linear(DIM, len(EVENTS) + 1),
            "scene": nn.Linear(DIM, len(SCENES) + 1),
            "intensity": nn.Linear(DIM, 1),
        }
    )
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)

    def attributes(f: Tensor, captions: list[Caption]) -> tuple[Tensor, Tensor]:
        unit = F.normalize(f, dim=-1) * 8
        event, scene, intensity = _targets(captions)
        logits = heads["event"](unit)
        error = (heads["intensity"](unit)[:, 0].sigmoid() - intensity)[intensity >= 0].square().mean()
        loss = F.cross_entropy(logits, event) + F.cross_entropy(heads["scene"](unit), scene) + 10 * error
        return loss, (logits.argmax(-1) == event).float().mean()

    def step_on(captions: list[Caption]) -> tuple[Tensor, dict]:
        plain = encoder.sentence([c.plain for c in captions])
        loss, right = attributes(plain, captions)
        starred = [c for c in captions if c.starred]
        meaning = encoder.sentence([c.word for c in starred])
        phrases = [Caption(c.word, None, c.event, c.intensity) for c in starred]
        loss = loss + attributes(meaning, phrases)[0]
        words = as_word(meaning, scale_of(model))
        words = perturb(words, torch.rand(len(words), 1) * 0.8)
        sentences = encoder.states([c.text for c in starred], words)[1]
        targets = plain[[i for i, c in enumerate(captions) if c.starred]].detach()
        word_loss, word_right = attributes(sentences, starred)
        distance = 1 - F.cosine_similarity(sentences, targets, dim=-1).mean()
        loss = loss + word_loss + 2 * distance
        return loss, {
            "loss": loss.item(),
            "event": right.item(),
            "starred": word_right.item(),
            "apart": distance.item(),
        }

    for step in range(steps):
        set_rate(optimizer, rate, step, steps, warmup=50)
        loss, figures = step_on([random_caption(rng, starred=0.6) for _ in range(batch)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if report:
            report(step, figures)
    with torch.no_grad():
        _, figures = step_on(
            [random_caption(np.random.default_rng(10_000 + i), starred=1.0) for i in range(400)]
        )
    return model.eval().requires_grad_(False), figures["starred"]
