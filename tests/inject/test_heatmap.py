"""Heat maps against attention maps in plain sight."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import interpolate, scaled_dot_product_attention
from torch.testing import assert_close

from aai.errors import InputError
from aai.inject.heatmap import COLOURS, Heatmap, coloured, normalised

TOKEN_IDS = (0, 5, ("rain", 0), ("rain", 1), 7, ("dog", 0), 1, None)
PLAIN = (0, 5, 7, 1, None, None, None, None)


def layer(places: int, seed: int, batch: int = 4, heads: int = 2, length: int = 16):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, places, 8, generator=generator)
    return q, torch.randn(batch, heads, length, 8, generator=generator)


def materialised(q, k, rows, columns):
    weights = (q[rows] @ k[rows].mT / q.shape[-1] ** 0.5).softmax(-1)
    return weights[..., columns].sum(-1).mean(1)


def test_a_copied_models_options_fill_the_heat_map_that_is_read():
    heatmap = Heatmap(["rain"])
    assert copy.deepcopy({"heatmap": heatmap})["heatmap"] is heatmap


def test_a_heat_map_is_the_mean_of_the_materialised_maps():
    heatmap = Heatmap(["rain", "dog"])
    rows, layers = [2, 3], [(16, 24, 0), (8, 12, 1), (8, 12, 2)]
    with heatmap.sampling(2, (16, 24)):
        for h, w, seed in layers:
            heatmap.observe(scaled_dot_product_attention, *layer(h * w, seed), rows, [TOKEN_IDS], (16, 24))
    wanted, shares = torch.zeros(2, 2, 16, 24), torch.zeros(2, 2)
    for h, w, seed in layers:
        q, k = layer(h * w, seed)
        # The conditioning repeats the prompt's 8 places to 16.
        for i, columns in enumerate(([2, 3, 10, 11], [5, 13])):
            maps = materialised(q, k, rows, columns).unflatten(-1, (h, w))
            mean = maps.mean((1, 2), keepdim=True)
            wanted[i] += interpolate((maps / mean)[None], (16, 24), mode="bilinear")[0] / len(layers)
            shares[i] += mean[:, 0, 0] / len(layers)
    assert_close(heatmap.maps(), wanted, atol=1e-5, rtol=1e-5)
    assert_close(heatmap.shares(), shares, atol=1e-6, rtol=1e-5)
    assert_close(heatmap.maps().mean((2, 3)), torch.ones(2, 2), atol=0.05, rtol=0)


def test_a_picture_that_does_not_name_the_token_stays_dark():
    heatmap = Heatmap(["rain"])
    q, k = layer(64, 0, 2, length=8)
    with heatmap.sampling(2, (8, 8)):
        heatmap.observe(scaled_dot_product_attention, q, k, range(2), [PLAIN, TOKEN_IDS], (8, 8))
    source, edited = normalised(heatmap.maps())[0]
    assert source.max() == 0 and edited.max() == 1
    assert heatmap.shares()[0, 0] == 0


def test_layers_that_are_no_grid_of_the_picture_are_left_out():
    heatmap = Heatmap(["rain"])
    with heatmap.sampling(2, (16, 16)):
        for places, size in ((100, (16, 16)), (16, (16, 16)), (64, (8, 8))):
            heatmap.observe(scaled_dot_product_attention, *layer(places, 0), [0, 1], [TOKEN_IDS], size)
    with pytest.raises(InputError, match="No picture has been sampled"):
        heatmap.maps()


def test_a_new_sampling_forgets_the_one_before():
    heatmap = Heatmap(["rain"])
    for count in (2, 3):
        with heatmap.sampling(count, (8, 8)):
            heatmap.observe(
                scaled_dot_product_attention, *layer(64, count), range(count), [TOKEN_IDS], (8, 8)
            )
    again = Heatmap(["rain"])
    with again.sampling(3, (8, 8)):
        again.observe(scaled_dot_product_attention, *layer(64, 3), range(3), [TOKEN_IDS], (8, 8))
    assert torch.equal(heatmap.maps(), again.maps())


def test_a_sampling_that_fails_leaves_the_maps_of_the_one_before():
    heatmap = Heatmap(["rain"])
    with heatmap.sampling(2, (8, 8)):
        heatmap.observe(scaled_dot_product_attention, *layer(64, 1), [0, 1], [TOKEN_IDS], (8, 8))
    before = heatmap.maps()
    with pytest.raises(KeyboardInterrupt), heatmap.sampling(3, (8, 8)):
        heatmap.observe(scaled_dot_product_attention, *layer(64, 2), [0, 1, 2], [TOKEN_IDS], (8, 8))
        raise KeyboardInterrupt
    assert heatmap.pictures == 2 and torch.equal(heatmap.maps(), before)


def test_colours_go_from_dark_to_light():
    shown = coloured(torch.linspace(0, 1, 50).view(1, 5, 10))
    assert shown.shape == (1, 3, 5, 10)
    light = (shown[0] * torch.tensor([0.3, 0.6, 0.1])[:, None, None]).sum(0).flatten()
    assert (light.diff() > 0).all()
    assert_close(shown[0, :, -1, -1], torch.tensor(COLOURS[-1][1]))


@pytest.mark.parametrize("first, size, patch", [(0, (8, 12), 2), (2, (3, 8, 8), 2), (24, (2, 4, 4), 1)])
def test_a_transformers_map_is_the_mean_of_plain_loops(first, size, patch):
    """Joint keys with the text first or last, or the text alone; films by frame."""
    heatmap = Heatmap(["rain", "dog"])
    layer_of = (*size[:-2], *(side // patch for side in size[-2:]))
    places = int(torch.tensor(layer_of).prod())
    layers = [layer(places + extra, seed, batch=2, length=32) for seed, extra in ((0, 0), (1, 5))]
    with heatmap.sampling(2, size):
        for q, k in layers:
            heatmap.observe_patches(
                scaled_dot_product_attention, q, k, [PLAIN, TOKEN_IDS], first, size, patch
            )
    frames = places // (layer_of[-1] * layer_of[-2])
    wanted, shares = torch.zeros(2, 2, places, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for q, k in layers:
        for token, columns in enumerate(([2, 3], [5])):
            found = torch.zeros(places, dtype=torch.float64)
            for head in range(2):
                for place in range(places):
                    scores = torch.stack([q[1, head, place] @ key for key in k[1, head]]).double() / 8**0.5
                    weights = scores.exp() / scores.exp().sum()
                    found[place] += sum(weights[first + column] for column in columns) / 2
            wanted[token, 1] += found / found.mean() / len(layers)
            shares[token, 1] += found.mean() / len(layers)
    maps = heatmap.maps()
    assert maps.shape == (2, 2 * frames, *layer_of[-2:])
    assert_close(maps.double(), wanted.view(2, 2 * frames, *layer_of[-2:]), atol=1e-5, rtol=1e-5)
    assert_close(heatmap.shares().double(), shares, atol=1e-6, rtol=1e-5)


def test_calls_of_another_size_are_left_out():
    heatmap = Heatmap(["rain"])
    with heatmap.sampling(1, (2, 8, 8)):
        for rows, places, size in ((1, 64, (2, 4, 4)), (1, 16, (2, 8, 8)), (2, 32, (2, 8, 8))):
            q, k = layer(places, 0, batch=rows)
            heatmap.observe_patches(scaled_dot_product_attention, q, k, [TOKEN_IDS], 0, size, 2)
    assert heatmap.is_empty


def test_the_frames_of_a_film_that_a_latent_is():
    heatmap = Heatmap(["rain"])
    heatmap._start(2, (3, 8, 8))
    assert heatmap.place_of(6) == [0, 1, 2, 3, 4, 5]
    assert heatmap.place_of(18) == [0, *[1] * 4, *[2] * 4, 3, *[4] * 4, *[5] * 4]
    for images in (2, 7, 16):
        with pytest.raises(InputError, match=f"2 films of 3 latents, but {images} pictures came in"):
            heatmap.place_of(images)
    heatmap._start(2, (8, 8))
    assert heatmap.place_of(2) == [0, 1]
    with pytest.raises(InputError, match="2 pictures, but 4"):
        heatmap.place_of(4)
