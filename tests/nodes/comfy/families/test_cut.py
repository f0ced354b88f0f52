"""The rows of a conditioning that a word stands in are those that its vectors move."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch.testing import assert_close

from bench import tiny_models

HIDREAM = tiny_models.FAMILIES["HiDream"]
FAMILIES = {
    **tiny_models.FAMILIES,
    "HiDream without T5": replace(
        HIDREAM, given={"t5": False}, unet={**HIDREAM.unet, "caption_channels": [4096, tiny_models.WIDTH]}
    ),
    "LongCat-Image": tiny_models.Family(
        "LongCat-Image", "longcat_image", "LongCatImageTokenizer", "te", {"qwen25_7b": tiny_models.LLM},
        "LongCatImage", tiny_models.flux(vec_in_dim=None, guidance_embed=False), given={},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request, hold):
    held = hold(tiny_models.build, FAMILIES[request.param])
    held.name = request.param
    return held


def test_a_word_moves_the_rows_that_it_stands_in(tiny, token, encode):
    if tiny.name == "HiDream without T5":
        pytest.skip("its rows are empty")
    cond, _ = encode("a photo of * at night", token)
    other, _ = encode(
        "a photo of * at night", replace(token, vectors={k: -v for k, v in token.vectors.items()})
    )
    places = sorted(cond.positions["rain"])
    moved = (cond.cross - other.cross)[0].abs().amax(-1)
    first, *_ = moved.gt(1e-5).nonzero()[:, 0].tolist()
    if first == places[0]:
        return
    # An encoder that reads both ways moves all rows, and the word's own as much as any.
    assert first == 0 and {"t5xxl", "umt5xxl", "pile_t5xl"} & tiny.widths.keys()
    assert set(moved.topk(len(places)).indices.tolist()) & set(places)


def test_without_t5_hidream_s_rows_are_no_words(tiny, pack, run, token, edit, draw, text, empty):
    """Edits and weights go through the rows beside them, and a heat map has nothing to look at."""
    if tiny.name != "HiDream without T5":
        pytest.skip("whose rows are empty")
    refused = pack.part("aai.errors").InputError
    nothing = dict(windows="as set below", cross_end=0.0, self_end=0.0)
    source, silent, edited = draw(*edit(scale="0, 1", **nothing))
    assert_close(source[None], draw(tiny.model, text("a photo of a city"), empty()), atol=1e-4, rtol=1e-4)
    assert_close(silent, source, atol=1e-4, rtol=1e-4)
    assert (edited - source).abs().max() > 1e-3
    positive = run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt="a photo of *")[0]
    with pytest.raises(refused, match="Without t5xxl .* a heat map needs"):
        run("AAI_AttentionHeatmap", model=tiny.model, conditioning=positive)
    with pytest.raises(refused, match="Without t5xxl .* silence literal needs"):
        edit(silence="literal")


def test_a_word_that_is_cut_off_is_missed(tiny, pack):
    if tiny.name != "LongCat-Image":
        pytest.skip("whose template is cut off on both sides")
    clip, word = pack.part("nodes.comfy.clip"), ("rain", 0)
    assert clip.placed(tiny.clip, (1, 2, word, 151645, 3), 2) == (2, word)
    for prompt in ((word, 2, 5, 151645, 3), (1, 2, 5, 151645, word)):
        with pytest.raises(pack.part("aai.errors").InputError, match="'rain' stands in a part .* cuts off"):
            clip.placed(tiny.clip, prompt, 2)
