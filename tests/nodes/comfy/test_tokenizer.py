"""Sound tokens in the token lists of core's tokenizers that are not CLIP's."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module")
def tokenizer(pack):
    return pack.part("nodes.comfy.tokenizer")


@pytest.fixture(scope="module")
def t5(comfy):
    from comfy.text_encoders.flux import T5XXLTokenizer

    return T5XXLTokenizer()


@pytest.fixture(scope="module")
def qwen(comfy):
    from comfy.text_encoders.qwen_image import Qwen25_7BVLITokenizer

    return Qwen25_7BVLITokenizer()


def ids(tokenizer, text: str) -> list[int]:
    return [piece for piece, _ in tokenizer.tokenize_with_weights(text)[0]]


def test_the_words_around_a_token_are_those_around_a_word(tokenizer, qwen):
    rows = (("rain", torch.randn(1, 8)),)
    marked = tokenizer.for_words(qwen, rows)
    text = "user\n{} at night<|im_end|>\nassistant\n"
    found, plain = (
        ids(marked, text.format(f"a photo of {tokenizer.mark(0)}")),
        ids(qwen, text.format("a photo of rain")),
    )
    place = plain.index(tokenizer.word_ids(qwen, "rain")[0])
    assert found[place] < 0 and found[:place] + plain[place : place + 1] + found[place + 1 :] == plain
    # What there was is as it was.
    assert ids(qwen, "a photo") == ids(marked, "a photo")


def test_vectors_take_their_places_with_the_weight_of_their_words(tokenizer, t5):
    rows = (("rain", torch.randn(2, 8)), ("dog", torch.randn(1, 8)))
    text = f"{tokenizer.mark(1)} and ({tokenizer.mark(0)}, at night:1.5)"
    chunks = tokenizer.for_words(t5, rows).tokenize_with_weights(text)
    token_ids = tokenizer.token_ids_of_words(chunks, rows, t5.pad_token, t5.end_token)
    assert token_ids[0] == ("dog", 0) and token_ids[2:4] == (("rain", 0), ("rain", 1))
    (chunk,) = tokenizer.filled(chunks, rows)
    assert torch.equal(chunk[0][0], rows[1][1][0]) and chunk[0][1] == 1.0
    assert torch.equal(chunk[3][0], rows[0][1][1]) and chunk[3][1] == 1.5
    # The end token is read, what follows it is padding.
    end = token_ids.index(t5.end_token)
    assert len(token_ids) == len(chunk) == 256 and set(token_ids[end + 1 :]) == {None}


def test_padding_at_either_side_is_none(tokenizer):
    chunks = [[(0, 1.0), (0, 1.0), (7, 1.0), (0, 1.0), (8, 1.0), (0, 1.0)]]
    assert tokenizer.token_ids_of_words(chunks, (), 0, None) == (None, None, 7, 0, 8, None)


def test_a_token_without_rows_leaves_no_trace(tokenizer, t5):
    marked = tokenizer.for_words(t5, (("rain", torch.zeros(0, 8)),))
    assert ids(marked, f"a photo of {tokenizer.mark(0)}") == ids(t5, "a photo of")


def test_what_is_no_word_has_a_name(tokenizer):
    picture = {"type": "image", "data": torch.ones(2, 2)}
    chunks = [[(5, 1.0), (torch.ones(4), 1.0), (picture, 1.0)]]
    five, embedding, image = tokenizer.token_ids_of_words(chunks, (), 0, None)
    assert five == 5 and embedding.startswith("embedding ") and image.startswith("embedding ")
