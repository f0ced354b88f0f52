"""The tokenizer and the text tower of SoundWorld, made."""

import numpy as np
import torch

from aai.soundworld.build.text import perturb
from aai.soundworld.captions import corpus


def test_most_words_of_soundworld_are_one_piece_and_none_is_unknown(caption_encoder):
    words = list(dict.fromkeys(corpus()))
    pieces = [caption_encoder.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert np.mean([len(p) == 1 for p in pieces]) > 0.8
    for word, ids in zip(words, pieces):
        assert caption_encoder.tokenizer.decode(ids).strip() == word
    assert len(caption_encoder.tokenizer("xylophone", add_special_tokens=False)["input_ids"]) > 1


def test_a_perturbed_word_is_as_far_off_as_asked():
    words = torch.randn(3, 192, generator=torch.Generator().manual_seed(0))
    amount = torch.tensor([[0.0], [0.5], [0.8]])
    off = (perturb(words, amount) - words).norm(dim=-1) / words.norm(dim=-1)
    torch.testing.assert_close(off, amount[:, 0])
