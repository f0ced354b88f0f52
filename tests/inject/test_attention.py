"""Attention in which rows borrow from one another is eq. 7 and 8 with maps."""

import math

import pytest
import torch
from torch.nn import functional as F

from aai.errors import InputError
from aai.inject.attention import Injection, borrow, groups_of, rows_of
from aai.inject.edit import Edit
from aai.prompt import Prompt, index_projection

LENGTH = 12
RAIN, DOG = ("rain", 0), ("dog", 0)


def by_loops(q, k, v, source, edited, inside, scales, silence):
    """Eq. 7 and 8 from maps, entry by entry: q [2, H, N, d], k and v [2, H, L, d], rows source and edited."""
    heads, count, width = q.shape[1:]
    length = k.shape[2]
    projection = index_projection(source, edited)
    loudest = max(scales.get(p[0], 1.0) for p in edited if isinstance(p, tuple))
    share = loudest if silence == "full" else 1.0
    out = torch.zeros(heads, count, width, dtype=q.dtype)

    def row_of_map(query, keys):
        scores = [sum(query[x] * key[x] for x in range(width)).item() / math.sqrt(width) for key in keys]
        weights = [math.exp(s - max(scores)) for s in scores]
        return [w / sum(weights) for w in weights]

    for head in range(heads):
        for n in range(count):
            s_src = row_of_map((q[0] if inside else q[1])[head, n], k[0, head])
            s_own = row_of_map(q[1, head, n], k[1, head])
            for j in range(length):
                piece, i = edited[j % len(edited)], projection[j % len(edited)]
                if isinstance(piece, tuple):
                    out[head, n] += scales.get(piece[0], 1.0) * s_own[j] * v[1, head, j]
                elif inside and i >= 0:
                    # A conditioning that repeats a prompt has each piece in every repetition.
                    out[head, n] += share * s_src[i + j // len(edited) * len(edited)] * v[1, head, j]
                else:
                    out[head, n] += share * s_own[j] * v[1, head, j]
                out[head, n] += (1 - share) * s_src[j] * v[0, head, j]
    return out


def random_qkv(rows, heads, count, length, width, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(rows, heads, count, width, generator=generator, dtype=dtype)
    k, v = (torch.randn(rows, heads, length, width, generator=generator, dtype=dtype) for _ in range(2))
    return q, k, v


def crossed(q, k, v, groups, mixes):
    attend = F.scaled_dot_product_attention
    return Injection(mixes).cross_attention(attend, q.clone(), k.clone(), v.clone(), groups)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("silence", ["full", "literal"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("scales", [{}, {"rain": 0.4}, {"rain": 1.7, "dog": 0.0}, {"rain": 0.0, "dog": 0.3}])
def test_cross_attention_is_eq_7_and_8_by_loops(edit_of, scales, inside, silence, token_ids):
    source, edited = token_ids(*"ac"), token_ids(*"axc", RAIN, *"u", DOG)
    edit = edit_of("a c <rain> u <dog>", scales=scales, silence=silence, cross_window=(0, 0.5))
    mixes = edit.at(0.0 if inside else 0.5, 10, [source, edited], LENGTH).mixes
    q, k, v = random_qkv(2, 2, 64, LENGTH, 8, dtype=torch.float64)
    found = crossed(q, k, v, [[0, 1]], mixes)
    expected = by_loops(q, k, v, source, edited, inside, scales, silence)
    assert relative_error(found[1], expected) < 1e-6
    assert torch.equal(found[0], F.scaled_dot_product_attention(q, k, v)[0])


def test_a_repeated_conditioning_changes_nothing(edit_of, token_ids):
    """ComfyUI repeats the shorter prompt where two lengths meet."""
    source, edited = token_ids(*"ac"), token_ids(*"ac", RAIN)
    edit = edit_of(scales={"rain": 0.7})
    q, k, v = random_qkv(2, 2, 16, LENGTH, 8)
    once = crossed(q, k, v, [[0, 1]], edit.at(0, 10, [source, edited], LENGTH).mixes)
    k, v = k.repeat(1, 1, 2, 1), v.repeat(1, 1, 2, 1)
    twice = crossed(q, k, v, [[0, 1]], edit.at(0, 10, [source, edited], 2 * LENGTH).mixes)
    torch.testing.assert_close(once, twice, rtol=1e-5, atol=1e-6)


def with_maps(q, k, v, mix):
    """The edited row from whole maps, in blocks of queries, in double precision."""
    q, k, v = q.double(), k.double(), v.double()
    scale = q.shape[-1] ** -0.5
    moved = torch.zeros(len(mix.given), len(mix.given), dtype=torch.float64)
    moved[torch.arange(len(mix.given)), mix.inverse] = mix.given.double()
    blocks = []
    for start in range(0, q.shape[2], 512):
        block = slice(start, start + 512)
        s_src = (q[0 if mix.inside else 1][:, block] @ k[0].mT * scale).softmax(-1)
        s_own = (q[1][:, block] @ k[1].mT * scale).softmax(-1)
        # Eq. 7's map: columns of the source's, moved, and the edited picture's own.
        edited = s_src @ moved + s_own * mix.own.double()
        blocks.append(edited @ v[1] + mix.kept * s_src @ v[0])
    return torch.cat(blocks, 1)


@pytest.mark.parametrize("side, width", [(8, 160), (16, 80), (32, 64), (64, 40)])
@pytest.mark.parametrize("scales", [{}, {"rain": 0.5, "dog": 2.0}, {"rain": 0.25, "dog": 0.75}])
def test_cross_attention_equals_materialised_maps(edit_of, side, width, scales, token_ids):
    source, edited = token_ids(*"ac", length=77), token_ids(*"axc", RAIN, *"u", DOG, length=77)
    edit = edit_of("a c <rain> u <dog>", scales=scales)
    for share in (0.0, 0.9):
        mixes = edit.at(share, 10, [source, edited], 77).mixes
        q, k, v = random_qkv(2, 2, side * side, 77, width, seed=side)
        found = crossed(q, k, v, [[0, 1]], mixes)
        assert relative_error(found[1].double(), with_maps(q, k, v, mixes[0])) < 1e-5


@pytest.mark.parametrize("side, width", [(8, 160), (16, 80), (32, 64), (64, 40)])
def test_self_attention_equals_materialised_maps(side, width):
    q, k, v = random_qkv(2, 1, side * side, side * side, width)
    found = F.scaled_dot_product_attention(borrow(q, [[0, 1]]), borrow(k, [[0, 1]]), v)
    for start in range(0, side * side, 512):
        block = slice(start, start + 512)
        s_src = (q[0, :, block].double() @ k[0].double().mT * width**-0.5).softmax(-1)
        assert relative_error(found[1, :, block].double(), s_src @ v[1].double()) < 1e-5


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_scale_0_returns_the_source(edit_of, share, token_ids):
    q, k, v = random_qkv(2, 4, 64, LENGTH, 8)
    q[1] = q[0]
    rows = [token_ids(*"ac"), token_ids(*"acu", RAIN)]
    mixes = edit_of(scales={"rain": 0.0}).at(share, 10, rows, LENGTH).mixes
    found = crossed(q, k, v, [[0, 1]], mixes)
    assert torch.equal(found[0], found[1])


def test_an_edit_to_the_same_prompt_returns_the_source(edit_of, token_ids):
    q, k, v = (x.expand(2, -1, -1, -1).clone() for x in random_qkv(1, 4, 64, LENGTH, 8))
    same = token_ids(*"ac", RAIN)
    for share in (0.0, 0.9):
        mixes = edit_of(source="a city under <rain>").at(share, 10, [same, same], LENGTH).mixes
        found = crossed(q, k, v, [[0, 1]], mixes)
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_several_edited_pictures_from_one_source(edit_of, make_token, token_ids):
    rain, dog = make_token("rain"), make_token("dog", seed=1)
    edit = Edit(
        Prompt("a city"),
        (Prompt("a city *", (rain,)), Prompt("a city * *", (dog,))),
        scales=({"rain": 0.5}, {"dog": 2.0}),
    )
    told = [token_ids(*"ac"), token_ids(*"ac", RAIN), token_ids(*"ac", DOG, DOG)]
    q, k, v = random_qkv(8, 2, 16, LENGTH, 8)
    groups = groups_of([2, 3, 4, 5, 6, 7], edit.rows)
    found = crossed(q, k, v, groups, edit.at(0, 10, told, LENGTH).mixes)
    plain = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(found[[0, 1, 2, 5]], plain[[0, 1, 2, 5]])
    one = edit_of("a city <dog> <dog>", scales={"dog": 2.0}).at(0, 10, [told[0], told[2]], LENGTH).mixes
    alone = crossed(q[[5, 7]], k[[5, 7]], v[[5, 7]], [[0, 1]], one)
    torch.testing.assert_close(found[7], alone[1])


@pytest.mark.parametrize(
    "rows, copied", [([1], False), ([1, 3, 5], False), ([2, 3], False), ([1, 2, 4], True)]
)
def test_rows_are_views_where_they_are_evenly_spaced(rows, copied):
    x = torch.randn(6, 3)
    found = rows_of(x, rows)
    assert torch.equal(found, x[rows])
    assert (found.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()) == copied


@pytest.mark.parametrize("size", [(64, 64), (75, 75), (75, 50), (128, 125)])
def test_coarse_layers_are_known_at_any_picture_size(size):
    """Strided convolutions round a layer's sides up."""
    injection = Injection((), borrows_self=True, self_downscale=4)
    for factor in (1, 2, 4, 8):
        places = math.ceil(size[0] / factor) * math.ceil(size[1] / factor)
        x = torch.randn(2, places, 3)
        borrowed = torch.equal(*injection.self_attention(x, [[0, 1]], size))
        assert borrowed == (factor >= 4)


def test_a_batch_that_is_not_of_pairs_is_refused():
    with pytest.raises(InputError, match="draws 2 together"):
        groups_of([0, 1, 2], 2)
