"""SoundWorld's figures, where what they are to be is known."""

import torch

from aai.soundworld.evaluate import measure
from aai.soundworld.loaders import load_oracle
from aai.soundworld.pictures import render


def test_the_share_named_counts_right_and_wrong_pictures():
    def drawn(event):
        pictures = [torch.from_numpy(render("city", event, 0.7, seed)) for seed in range(2)]
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255

    share = measure.share_named(load_oracle(), {"dog": drawn("dog"), "fire": drawn("rain")})
    assert (share.hits, share.count) == (2, 4)
