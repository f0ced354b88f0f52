"""Joint attention in which rows borrow from one another is what the formulas say, with maps."""

import math

import pytest
import torch
from torch.nn import functional as F

from aai.inject.joint import (
    JointInjection,
    WordedInjection,
    borrowed_image,
    grouped_attention,
    image_of,
    own_rows,
    shared,
)

RAIN, DOG = ("rain", 0), ("dog", 0)
HEADS, WIDTH, PLACES = 2, 8, 64


def attend(q, k, v, queries, rows):
    return F.scaled_dot_product_attention(q, k, v)


def qkv(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, HEADS, length, WIDTH, generator=generator) for _ in range(3)]


def weights_of(query, keys):
    scores = [sum(query[x] * key[x] for x in range(WIDTH)).item() / math.sqrt(WIDTH) for key in keys]
    weights = [math.exp(s - max(scores)) for s in scores]
    return [w / sum(weights) for w in weights]


def by_loops(q, k, v, text, borrows, row_of_value):
    """Rows source and edited, entry by entry: `row_of_value(j)` is [heads, d], the edited row's value at text
    place j of the sequence as the image's queries see it."""
    length = q.shape[2]
    inside = range(length)[text]
    out = torch.zeros(HEADS, length, WIDTH, dtype=torch.float64)
    q, k, v = q.double(), k.double(), v.double()
    for head in range(HEADS):
        keys = [k[0 if borrows and j not in inside else 1, head, j] for j in range(length)]
        for n in range(length):
            of_image = n not in inside
            weights = weights_of(q[0 if borrows and of_image else 1, head, n], keys)
            for j, weight in enumerate(weights):
                value = row_of_value(j)[head].double() if of_image and j in inside else v[1, head, j]
                out[head, n] += weight * value
    return out


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("borrows", [True, False])
@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("scales", [{}, {"rain": 0.4}, {"rain": 0.0, "dog": 1.7}])
@pytest.mark.parametrize("silence", ["full", "literal"])
def test_an_edit_is_what_loops_over_maps_give(edit_of, token_ids, scales, silence, text_first, borrows):
    source, edited = token_ids(*"abc"), token_ids(*"axc", RAIN, *"u", DOG)
    window = (0, 0.5) if borrows else (0, 0)
    edit = edit_of("a c <rain> u <dog>", scales=scales, silence=silence, self_window=window)
    injection = edit.joint_at(0.0, 10, [source, edited])
    length = len(edited) + PLACES
    text = slice(0, len(edited)) if text_first else slice(PLACES, length)
    q, k, v = qkv(2, length)
    found = injection.joint_attention(attend, q, k, v, [[0, 1]], text)

    def own_row(at):
        piece = edited[at - text.start]
        letter = silence == "literal" and isinstance(piece, tuple)
        return (scales.get(piece[0], 1.0) if letter else 1.0) * v[1, :, at]

    expected = by_loops(q, k, v, text, borrows, own_row)
    if silence == "full":
        # The edited picture's image over the source's text, its keys and its values.
        k, v = k.clone(), v.clone()
        share, plain = max(scales.get("rain", 1.0), scales.get("dog", 1.0)), v.clone()
        k[1, :, text], v[1, :, text] = k[0, :, text], v[0, :, text]
        beside = by_loops(q, k, v, text, borrows, lambda at: v[1, :, at])
        image = image_of(text, length)
        expected[:, image] = beside[:, image] + share * (expected[:, image] - beside[:, image])
        v = plain
    assert relative_error(found[1], expected) < 1e-5
    assert relative_error(found[0], F.scaled_dot_product_attention(q, k, v)[0]) < 1e-6


@pytest.mark.parametrize("text_first", [True, False])
def test_scale_0_is_the_source(edit_of, token_ids, text_first):
    """Where the pictures are still alike, the image finds what the source's finds."""
    source, edited = token_ids(*"abc"), token_ids(*"axc", RAIN)
    text = slice(0, 12) if text_first else slice(PLACES, 12 + PLACES)
    q, k, v = qkv(2, 12 + PLACES)
    image = image_of(text, 12 + PLACES)
    for x in (q, k, v):
        x[1, :, image] = x[0, :, image]
    injection = edit_of("a c <rain>", scales={"rain": 0.0}).joint_at(0.0, 10, [source, edited])
    found = injection.joint_attention(attend, q, k, v, [[0, 1]], text)
    assert torch.allclose(found[1, :, image], found[0, :, image], atol=1e-6)
    assert not torch.allclose(found[1, :, text], found[0, :, text], atol=1e-2)


@pytest.mark.parametrize("text_first", [True, False])
def test_words_are_scaled_from_the_prompt_without_them(text_first):
    """Rows 0 and 2 carry the prompt without a word, row 1 the prompt."""
    length = 12 + PLACES
    text = slice(0, 12) if text_first else slice(PLACES, length)
    q, k, v = qkv(3, length, seed=1)
    words = [(0, 1, 0.3), (2, 1, 1.8)]
    found = grouped_attention(attend, q, k, v, text, [], words)
    image, plain = image_of(text, length), F.scaled_dot_product_attention(q, k, v)

    def with_text_of(row):
        """Row 1 over another's text, with maps."""
        keys, values = k[[1, 1]].clone(), v[[1, 1]].clone()
        keys[:, :, text], values[:, :, text] = k[row, :, text], v[row, :, text]
        return by_loops(q[[1, 1]], keys, values, text, False, lambda at: values[1, :, at])

    own = with_text_of(1)
    expected = own.clone()
    for row, _, weight in words:
        expected[:, image] += (weight - 1) * (own - with_text_of(row))[:, image]
    assert relative_error(found[1], expected) < 1e-5
    assert torch.allclose(found[[0, 2]], plain[[0, 2]], atol=1e-6)
    turned = grouped_attention(attend, q, k, v, text, [], words[::-1])
    assert torch.allclose(found, turned, atol=1e-6)
    nothing = grouped_attention(attend, q, k, v, text, [], [(0, 1, 1.0)])
    assert torch.equal(nothing, plain)


@pytest.mark.parametrize("silence", ["full", "literal"])
def test_at_weight_0_an_edit_is_the_one_to_the_prompt_without_the_word(edit_of, token_ids, silence):
    """Row 2 runs beside the pair; its image is as the edited one's, as it is in every layer."""
    source, whole, without = (token_ids(*text) for text in ("a", ("a", RAIN, "c"), ("a", RAIN)))
    edit = edit_of("a <rain> c", scales={"rain": 0.6}, silence=silence, self_window=(0, 0.5))
    own, other = (edit.joint_at(0.0, 10, [source, ids]) for ids in (whole, without))
    text, (q, k, v) = slice(0, 12), qkv(3, 12 + PLACES, seed=4)
    for x in (q, k, v):
        x[2, :, 12:] = x[1, :, 12:]
    injection = WordedInjection(own, ((other, [[0, 2]]),), ((2, 1, 0.0),))
    found = injection.joint_attention(attend, q, k, v, [[0, 1]], text)
    expected = other.joint_attention(attend, *(x[[0, 2]] for x in (q, k, v)), [[0, 1]], text)
    assert torch.allclose(found[1, :, 12:], expected[1, :, 12:], atol=1e-5)
    assert torch.allclose(found[2], expected[1], atol=1e-5)
    kept = own.joint_attention(attend, *(x[:2] for x in (q, k, v)), [[0, 1]], text)
    assert not torch.allclose(found[1, :, 12:], kept[1, :, 12:], atol=1e-2)


def test_scale_1_is_one_plain_call(edit_of, token_ids):
    source, edited = token_ids(*"ac"), token_ids(*"ac", RAIN)
    injection = edit_of("a c <rain>", self_window=(0, 0)).joint_at(0.0, 10, [source, edited])
    calls = []

    def counted(q, k, v, queries, rows):
        calls.append(queries)
        return attend(q, k, v, queries, rows)

    q, k, v = qkv(2, 12 + PLACES)
    found = injection.joint_attention(counted, q, k, v, [[0, 1]], slice(0, 12))
    assert torch.equal(found, F.scaled_dot_product_attention(q, k, v)) and calls == [slice(0, 12 + PLACES)]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_an_edit_to_the_same_prompt_is_the_source(edit_of, token_ids, scale):
    prompt = token_ids(*"ac", RAIN)
    edit = edit_of("a c <rain>", source="a c <rain>", scales={"rain": scale}, self_window=(0, 0.5))
    q, k, v = (x.expand(2, -1, -1, -1).clone() for x in qkv(1, 12 + PLACES))
    text = slice(0, 12)
    found = edit.joint_at(0.0, 10, [prompt, prompt]).joint_attention(attend, q, k, v, [[0, 1]], text)
    assert torch.allclose(found[1], found[0], atol=1e-6)


def test_several_pictures_of_several_pairs():
    """Each edited row by itself gives what it gives among others, and rows of no group stay."""
    mixes = own_rows([1.0, 0.5] * 6), shared(12, 0.5)
    injection = JointInjection(mixes, borrows=True)
    text, (q, k, v) = slice(0, 12), qkv(7, 12 + PLACES, seed=2)
    groups = [[1, 2, 3], [4, 5, 6]]
    found = injection.joint_attention(attend, q, k, v, groups, text)
    for first, *edited in groups:
        for mix, row in zip(mixes, edited):
            alone = JointInjection((mix,), borrows=True)
            pair = [x[[first, row]] for x in (q, k, v)]
            expected = alone.joint_attention(attend, *pair, [[0, 1]], text)
            assert torch.allclose(found[row], expected[1], atol=1e-5)
    assert torch.allclose(found[0], F.scaled_dot_product_attention(q, k, v)[0], atol=1e-5)


def test_the_text_is_never_borrowed():
    (x, _, _), text = qkv(2, 12 + PLACES), slice(PLACES, 12 + PLACES)
    borrowed = borrowed_image(x, [[0, 1]], text)
    assert torch.equal(borrowed[1, :, text], x[1, :, text]) and image_of(text, 76) == slice(0, PLACES)
    assert torch.equal(borrowed[1, :, :PLACES], x[0, :, :PLACES]) and torch.equal(borrowed[0], x[0])


def test_places_that_no_prompt_tells_of():
    """Registers in front and another encoder's rows behind keep their weight."""
    letter = own_rows([1.0, 0.2, 1.0, 1.0]).fitted(1, 6)
    assert letter.own.tolist() == pytest.approx([1.0, 1.0, 0.2, 1.0, 1.0, 1.0])
