"""`python -m bench.bridge`: how long it takes to bridge a CLAP of the published size to Stable Diffusion 1's
text encoder, with random weights and one token a word.

Beside it, the same with texts padded to 77 tokens, as ComfyUI encodes them, and embedding 10 s of sound with
the result.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from aai.align.bridge import bridge_clap
from aai.audio import Sound
from aai.encoders.clap import CLAPEncoder, CLAPText
from aai.encoders.clip import CLIPText
from aai.encoders.loaders import load, save


class OneTokenAWord:
    """Stands in for a tokenizer, whose time is negligible beside the model's: the right number of ids."""

    def __init__(self, vocabulary: int, end: int, padded: bool):
        self.vocabulary, self.end, self.padded = vocabulary, end, padded

    def __call__(self, texts, max_length=77, **_):
        rows = [[0, *(4 + hash(w) % (self.vocabulary - 8) for w in t.split()), self.end] for t in texts]
        length = max_length if self.padded else max(map(len, rows))
        ids = torch.tensor([(row + [self.end] * length)[:length] for row in rows])
        return Batch(input_ids=ids, attention_mask=torch.ones_like(ids))


class Batch(dict):
    def to(self, device):
        return Batch({key: value.to(device) for key, value in self.items()})


def main() -> None:
    from transformers import (
        ClapAudioConfig,
        ClapAudioModelWithProjection,
        ClapFeatureExtractor,
        ClapTextConfig,
        ClapTextModelWithProjection,
        CLIPTextConfig,
        CLIPTextModel,
    )

    torch.manual_seed(0)
    extractor = ClapFeatureExtractor(truncation="rand_trunc")
    clap = CLAPEncoder(ClapAudioModelWithProjection(ClapAudioConfig()), extractor, notes={"licence": "none"})
    text = ClapTextModelWithProjection(ClapTextConfig())
    sizes = dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        eos_token_id=49407,
    )
    clip = CLIPTextModel(CLIPTextConfig(**sizes))
    clap_text = CLAPText(text, OneTokenAWord(text.config.vocab_size, 2, padded=False))
    print(f"{torch.get_num_threads()} threads")
    for what, padded in (("texts at their own length", False), ("texts padded to 77", True)):
        tower = CLIPText(OneTokenAWord(49408, 49407, padded), clip)
        begin = time.perf_counter()
        encoder, report = bridge_clap(clap, clap_text, tower)
        print(f"bridge, {report.labels} labels, {what}: {time.perf_counter() - begin:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clap.safetensors"
        begin = time.perf_counter()
        save(encoder, path)
        print(f"save: {time.perf_counter() - begin:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
        begin = time.perf_counter()
        encoder = load(path)
        print(f"load: {time.perf_counter() - begin:.1f} s")
    sound = Sound(0.1 * torch.randn(1, 480000), 48000)
    encoder.embed([sound])
    begin = time.perf_counter()
    encoder.embed([sound])
    print(f"hear 10 s: {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
