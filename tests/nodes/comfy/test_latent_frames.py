"""Where a clip's latent frames stand among a transformer's queries, and what each part of them reads."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

LENGTH, EACH = 3, 2


@pytest.fixture
def part(pack):
    return pack.part("nodes.comfy.latent_frames")


@pytest.fixture
def film(pack):
    """Two takes, of the conditioning's own text at 1 and of a second one at 0.5; the third stands for
    none."""
    frames = pack.part("aai.inject.latent_frames")
    model = pack.part("aai.picture.model")
    texts = tuple(model.Conditioning(torch.zeros(1, LENGTH, 4)) for _ in range(2))
    takes = (frames.Take(0), frames.Take(1, 0.5))
    return frames.LatentFilm((0, 1, 0), takes, texts, ((("a",),),), without=2)


def read(q, k, v, text):
    there = slice(text * LENGTH, (text + 1) * LENGTH)
    return scaled_dot_product_attention(q, k[:, there], v[:, there])


def test_references_in_front_and_guides_behind_read_the_prompt_itself(part, film):
    takes = [0, 1, None]
    call = part.FilmCall(film, LENGTH, takes, 1, EACH, [1], [[], []], [])
    generator = torch.Generator().manual_seed(0)
    # One of a reference, two frames of two, a guide of two, and one more that was left of another guide.
    q = torch.randn(2, 1 + 2 * EACH + EACH + 1, 4, generator=generator)
    k, v = (torch.randn(2, 3 * LENGTH, 4, generator=generator) for _ in range(2))
    asked = []

    def cross(injections, texts, q, k, v, mask):
        asked.append((q.shape[1], texts))
        return scaled_dot_product_attention(q, k, v)

    found = call.attention(cross, q, k, v, None)
    plain = read(q, k, v, 0)
    torch.testing.assert_close(found[0], plain[0])
    own = [0, 1, 2, 5, 6, 7]
    torch.testing.assert_close(found[1, own], plain[1, own])
    there, without = (read(q[1:, 3:5], k[1:], v[1:], text) for text in (1, 2))
    torch.testing.assert_close(found[1:, 3:5], torch.lerp(without, there, 0.5))
    assert [count for count, _ in asked] == [1, 2, 2, 2, 2, 1]
    assert sorted(str(texts) for _, texts in asked) == ["{1: 1}", "{1: 2}", *["{}"] * 4]


def test_a_mask_is_each_text_s_own(part, film):
    call = part.FilmCall(film, LENGTH, [0, 1], 0, EACH, [0], [[], []], [])
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 2 * EACH, 4, generator=generator)
    k, v = (torch.randn(1, 3 * LENGTH, 4, generator=generator) for _ in range(2))
    mask = torch.zeros(1, 1, 3 * LENGTH)
    # Of the second text the last place counts for nothing, and so for what is read in its place.
    mask[..., 2 * LENGTH - 1] = -1e9
    other = v.clone()
    other[:, 2 * LENGTH - 1] = 100.0

    def cross(injections, texts, q, k, v, mask):
        return scaled_dot_product_attention(q, k, v, mask)

    found = call.attention(cross, q, k, v, mask)
    torch.testing.assert_close(call.attention(cross, q, k, other, mask), found)
    assert (call.attention(cross, q, k, other, None) - found).abs().max() > 1


def test_a_row_s_padding_is_that_of_the_text_it_reads(part, pack, film):
    padding = pack.part("nodes.comfy.mask").Padding([2, 3, 4], 3, 0, False)
    longer = pack.part("aai.picture.model").Conditioning(torch.zeros(1, 2, 4))
    shorter = part.replace(film, texts=(film.texts[0], longer))
    call = part.FilmCall(shorter, 4, [0], 0, EACH, [1], [[], []], [])
    assert call.padding(padding, {}) is padding
    found = call.padding(padding, {1: 2})
    assert found.lengths == [2, 2, 4] and found.own == 4


def test_the_texts_that_one_device_has_made_are_read_on_another(part, film):
    """Core's work on several GPUs shares one run among them."""
    call = part.FilmCall(film, LENGTH, [0, 1], 0, EACH, [0], [[], []], [])
    context = torch.zeros(2, LENGTH, 4, device="meta")
    longer, _ = call.with_texts(context, {}, torch.zeros(2 * LENGTH, 4))
    assert longer.device == context.device and longer.shape == (2, 3 * LENGTH, 4)
