"""Local blend: where words look, or a mask, and nowhere else."""

import pytest
import torch
from torch.nn import functional as F

from aai.errors import InputError
from aai.inject.blend import Blend, BlendRun, positions_of, word_positions
from aai.inject.edit import Edit, blended
from aai.picture.model import Conditioning
from aai.prompt import Prompt

TOKEN_IDS = (1, 10, 11, 12, ("rain", 0), 2, None, None)


def test_words_are_found_by_their_pieces():
    assert positions_of((1, 11, 12, 2, None), TOKEN_IDS, "city lights") == (2, 3)
    assert positions_of((1, ("rain", 0), 2), TOKEN_IDS, "*") == (4,)
    alone = {"*": (1, ("rain", 0), 2), "x": (1, 10, 2)}
    assert word_positions(["*", "x"], alone.get, [(1, 10, 2), TOKEN_IDS]) == ((1,), (4, 1))


def test_a_word_that_is_nowhere_is_named():
    with pytest.raises(InputError, match="'sea' is not in the prompt"):
        word_positions(["sea"], lambda word: (1, 99, 2), [TOKEN_IDS, TOKEN_IDS])
    with pytest.raises(InputError, match="not in the prompt"):
        positions_of((1, 2), TOKEN_IDS, "")


@pytest.mark.parametrize(
    "size, layer",
    [((64, 64), (16, 16)), ((64, 96), (16, 24)), ((16, 16), (8, 8)), ((9, 8), (9, 8))],
)
def test_the_layer_is_a_quarter_but_not_too_coarse(size, layer):
    run = BlendRun(Blend(((1,), (1,))), 2, size)
    for places in (size[0] * size[1] * 4, layer[0] * layer[1]):
        assert run.gathered is None
        q, k = torch.randn(2, 1, places, 8), torch.randn(2, 1, 12, 8)
        run.observe(F.scaled_dot_product_attention, q, k, [[0, 1]], size)
    assert run.gathered.shape == (1, 2, *layer)


def test_an_area_does_not_tell_where_the_whole_pictures_words_look():
    run = BlendRun(Blend(((1,), (1,))), 2, (32, 32))
    q, k = torch.randn(2, 1, 64, 8), torch.randn(2, 1, 12, 8)
    run.observe(F.scaled_dot_product_attention, q, k, [[0, 1]], (16, 16))
    assert run.gathered is None and run.mask(0.1) is None
    with pytest.raises(InputError, match="conditioning without areas"):
        run.mask(0.2)
    run.observe(F.scaled_dot_product_attention, q, k, [[0, 1]], (32, 32))
    assert run.mask(0.2) is not None


def test_a_picture_too_small_for_the_models_layers_is_told_apart_from_an_area():
    """As in SDXL below 128 pixels, whose finest attention is at half the latent's side."""
    run = BlendRun(Blend(((1,), (1,))), 2, (10, 14))
    q, k = torch.randn(2, 1, 35, 8), torch.randn(2, 1, 12, 8)
    run.observe(F.scaled_dot_product_attention, q, k, [[0, 1]], (10, 14))
    assert run.mask(0.1) is None
    with pytest.raises(InputError, match="in latents of 14 x 10: draw a larger picture, or use a mask"):
        run.mask(0.2)


def test_gathered_maps_are_the_words_columns():
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(4, 2, 64, 8, generator=generator)
    k = torch.randn(4, 2, 12, 8, generator=generator)
    run = BlendRun(Blend(((3,), (3, 5))), 2, (16, 16))
    run.observe(F.scaled_dot_product_attention, q, k, [[2, 3]], (16, 16))
    maps = (q @ k.mT * 8**-0.5).softmax(-1).mean(1)
    expected = torch.stack([maps[2][:, 3], maps[3][:, [3, 5]].sum(-1)]).view(1, 2, 8, 8)
    torch.testing.assert_close(run.gathered, expected)
    run.observe(F.scaled_dot_product_attention, q, k, [[2, 3]], (16, 16))
    torch.testing.assert_close(run.gathered, 2 * expected)


def test_the_place_is_where_the_map_is_high_widened_by_one():
    run = BlendRun(Blend(((1,), (1,))), 2, (16, 16))
    run.gathered = torch.full((1, 2, 8, 8), 0.01)
    run.gathered[0, 1, 2, 2] = 1
    # The source's own map is even, so it is above the threshold everywhere.
    assert run.mask(1.0).mean() == 1
    run.gathered[0, 0, 6, 6] = 1
    mask = run.mask(1.0)[0, 0, 0]
    assert mask[4, 4] == 1 and mask[12, 12] == 1 and mask[4, 12] == 0 and mask.mean() < 0.4
    assert run.mask(0.1) is None


def test_the_place_is_where_the_edit_changes_most():
    run = BlendRun(Blend(changes=True, start=0.5, threshold=0.5), 3, (8, 8))
    latents = torch.randn(1, 4, 8, 8).repeat(6, 1, 1, 1)
    latents[1, :, 2, 2] += 9
    latents[5, :, 5, 5] += 1
    run.compare(latents)
    assert run.mask(0.4) is None
    mask = run.mask(0.5)
    assert mask.shape == (2, 2, 1, 8, 8)
    # Smoothed over 3x3 places; pictures that do not change at all have none.
    assert mask[0, 0, 0, 1:4, 1:4].all() and mask[0, 0].sum() == 9
    assert mask[1, 1, 0, 4:7, 4:7].sum() == mask[1, 1].sum() == 9
    assert not mask[0, 1].any() and not mask[1, 0].any()


@pytest.mark.parametrize("settings", [{"start": -0.1}, {"threshold": 1.5}])
def test_shares_outside_0_to_1_are_refused(settings):
    with pytest.raises(InputError, match="is no share"):
        Blend(**settings)


def test_a_mask_of_any_size_keeps_the_source_outside():
    given = torch.zeros(37, 50)
    given[:, 25:] = 1
    run = BlendRun(Blend(mask=given), 3, (8, 12))
    latents = torch.randn(6, 4, 8, 12)
    kept = run.blended(latents, 0.0).unflatten(0, (2, 3))
    grouped = latents.unflatten(0, (2, 3))
    assert torch.equal(kept[:, 0], grouped[:, 0])
    assert torch.equal(kept[:, 1:, :, :, :6], grouped[:, :1, :, :, :6].expand(-1, 2, -1, -1, -1))
    assert torch.equal(kept[:, 1:, :, :, 6:], grouped[:, 1:, :, :, 6:])


def test_what_was_blended_is_held_only_where_nothing_may_change():
    run = BlendRun(Blend(mask=torch.tensor([[0.0, 0.25, 1.0, 1.0]]).expand(4, 4)), 2, (4, 4))
    latents = torch.randn(2, 4, 4, 4)
    held = run.restored(latents, 0.0)
    assert torch.equal(held[0], latents[0]) and torch.equal(held[1, ..., 0], latents[0, ..., 0])
    assert torch.equal(held[1, ..., 1:], latents[1, ..., 1:])


def test_masks_that_do_not_fit_are_refused(make_token):
    token = make_token("rain")
    edit = Edit(Prompt("a city"), (Prompt("a city *", (token,)),))

    def encode(prompt):
        return Conditioning(torch.zeros(1, 8, 4), None, (TOKEN_IDS,))

    with pytest.raises(InputError, match="3 masks were given for 1"):
        blended(edit, encode, mask=torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match="shape"):
        blended(edit, encode, mask=torch.zeros(8))
    assert blended(edit, encode) is edit
