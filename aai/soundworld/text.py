"""SoundWorld's text tower and tokenizer, and how they are made.

The tower learns from captions alone what they say (which event, how strong, where), and to read its own
output as a word: "a photo of *" with the embedding of "heavy rain" at the star means "a photo of heavy rain".
Stable Diffusion's CLIP has no such training; here it gives a sound's embedding f_a a meaning before eq. 6
adapts it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..align.train import set_rate
from .captions import Caption, corpus, phrase, random_caption
from .models import DIM, TEXT_CONFIG
from .world import EVENTS, SCENES

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


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


def load_tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def text_config(tokenizer):
    """The tower's transformers config: TEXT_CONFIG with this tokenizer's vocabulary."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **TEXT_CONFIG,
    )


def build_text_tower(tokenizer) -> nn.Module:
    from transformers import CLIPTextModel

    model = CLIPTextModel(text_config(tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=0.03)
    return model


def load_text(folder: Path) -> tuple:
    """The tokenizer and the trained tower of a weights folder."""
    from . import read_weights

    tokenizer = load_tokenizer(folder / "tokenizer")
    model = build_text_tower(tokenizer)
    own = model.state_dict()
    # Files hold transformers' published keys (text_model.*); transformers 5 leaves the prefix out in memory.
    saved = {
        key if key in own else key.removeprefix("text_model."): v
        for key, v in read_weights("text", folder).items()
    }
    model.load_state_dict(saved)
    return tokenizer, model.eval().requires_grad_(False)


def hidden_states(model: nn.Module, embeddings: Tensor) -> Tensor:
    """Word embeddings [B, L, D] (no positions yet) to last hidden states [B, L, D] after the final
    LayerNorm."""
    tower = getattr(model, "text_model", model)
    x = embeddings + tower.embeddings.position_embedding.weight[: embeddings.shape[1]]
    length = x.shape[1]
    mask = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)[None, None]
    return tower.final_layer_norm(tower.encoder(inputs_embeds=x, attention_mask=mask).last_hidden_state)


def scale_of(model: nn.Module) -> float:
    """s: the mean norm of the vocabulary's embeddings (method: e = s f/|f| + f_adapter)."""
    return float(model.get_input_embeddings().weight.detach().norm(dim=-1).mean())


class Reader:
    """Encodes captions with a tokenizer and a tower; a starred caption's `*` takes a word vector [D]. It is a
    TextTower (align/text.py), too."""

    name, dim = "SoundWorld", DIM

    def __init__(self, tokenizer, model: nn.Module):
        self.tokenizer, self.model = tokenizer, model
        self.star = tokenizer("*", add_special_tokens=False)["input_ids"][0]

    def ids(self, texts: list[str], length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids [B, L] padded with the end token, and each text's end position [B]."""
        rows = [self.tokenizer(t)["input_ids"] for t in texts]
        length = length or max(map(len, rows))
        ends = torch.tensor([len(r) - 1 for r in rows])
        pad = self.tokenizer.eos_token_id
        return torch.tensor([(r + [pad] * length)[:length] for r in rows]), ends

    def states(
        self, texts: list[str], words: Tensor | None = None, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [B, L, D] and sentence embeddings [B, D]; `words` [B, D] stand at each row's `*`."""
        ids, ends = self.ids(texts, length)
        embeddings = self.model.get_input_embeddings()(ids)
        if words is not None:
            embeddings = torch.where((ids == self.star)[..., None], words[:, None], embeddings)
        states = hidden_states(self.model, embeddings)
        return states, states[torch.arange(len(texts)), ends]

    def sentence(self, texts: list[str]) -> Tensor:
        return self.states(texts)[1]

    @torch.no_grad()
    def embed(self, texts: list[str]) -> Tensor:
        """B texts to [B, DIM], as alignment asks for them."""
        return self.sentence(texts) if texts else torch.zeros(0, DIM)


def as_word(f: Tensor, s: float) -> Tensor:
    """A sentence or sound embedding [..., D] as a word of the vocabulary's size: s f/|f|."""
    return s * F.normalize(f, dim=-1)


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
    """Trains the tower; returns it with the share of unseen starred captions whose event it reads right."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_text_tower(tokenizer)
    reader = Reader(tokenizer, model)
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
        plain = reader.sentence([c.plain for c in captions])
        loss, right = attributes(plain, captions)
        starred = [c for c in captions if c.starred]
        meaning = reader.sentence([c.word for c in starred])
        phrases = [Caption(c.word, None, c.event, c.intensity) for c in starred]
        loss = loss + attributes(meaning, phrases)[0]
        words = as_word(meaning, scale_of(model))
        words = perturb(words, torch.rand(len(words), 1) * 0.8)
        read = reader.states([c.text for c in starred], words)[1]
        wanted = plain[[i for i, c in enumerate(captions) if c.starred]].detach()
        word_loss, word_right = attributes(read, starred)
        likeness = 1 - F.cosine_similarity(read, wanted, dim=-1).mean()
        loss = loss + word_loss + 2 * likeness
        return loss, {
            "loss": loss.item(),
            "event": right.item(),
            "starred": word_right.item(),
            "apart": likeness.item(),
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


def label_phrases() -> list[str]:
    """The words that "nearest words" chooses from: the events, without a level."""
    return [phrase(event, None) for event in EVENTS]
