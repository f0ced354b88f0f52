"""Prompts without some of their words."""

import pytest
import torch

from aai.errors import InputError
from aai.inject.words import WordScale, aligned, check_words, values_at, without_words
from aai.prompt import Prompt


@pytest.fixture
def tokens(make_token):
    return make_token("rain"), make_token("dog", seed=1)


@pytest.mark.parametrize(
    "text, words, left, found",
    [
        ("a city in heavy rain", ["heavy"], "a city in rain", {"heavy"}),
        ("Heavy rain, heavily", ["heavy", "rain"], ", heavily", {"heavy", "rain"}),
        ("a city in heavy rain", ["heavy rain"], "a city in", {"heavy rain"}),
        ("a city", ["it", "sea"], "a city", set()),
        ("a city under * and <dog>", ["rain"], "a city under and <dog>", {"rain"}),
        ("a city under * and <dog>", ["dog", "city"], "a under <rain> and", {"dog", "city"}),
        (r"5 \* 4 \< 30 rain", ["30"], r"5 \* 4 \< rain", {"30"}),
        ("\u591c\u306e\u96e8\u306e\u8857", ["\u96e8\u306e"], "\u591c\u306e\u8857", {"\u96e8\u306e"}),
        ("(heavy:1.2) rain", ["heavy"], "rain", {"heavy"}),
    ],
)
def test_a_prompt_without_words(tokens, text, words, left, found):
    shorter, has = without_words(Prompt(text, tokens), words)
    assert (shorter.text, has) == (left, found)
    assert without_words(shorter, words)[1] == set()


@pytest.mark.parametrize(
    "text, words, left, found",
    [
        ("a city in rain, *", ["rain"], "a city in rain,", {"rain"}),
        ("rain, <dog> and *", ["rain"], "rain, <dog> and", {"rain"}),
        ("rain, <dog>", ["rain"], ", <dog>", {"rain"}),
        ("heavy rain, *", ["heavy rain", "rain"], ",", {"heavy rain", "rain"}),
    ],
)
def test_a_tokens_name_is_not_the_plain_word(tokens, text, words, left, found):
    """Where the prompt has no token of that name, it is."""
    shorter, has = without_words(Prompt(text, tokens), words)
    assert (shorter.text, has) == (left, found)


def test_a_word_that_no_prompt_has_is_named():
    with pytest.raises(
        InputError, match="neither a sound token <sea> \\(there is <rain>\\) nor the word 'sea'"
    ):
        check_words({"city"}, ["city", "sea"], ["rain"])
    check_words({"city"}, ["city"], [])


def test_a_scale_for_each_picture():
    word = WordScale(("heavy",), (0.5, 1.0), {(1, 2): object()})
    assert [word.of(i) for i in range(3)] == [0.5, 1.0, 0.5] and word.changes
    assert not WordScale(("heavy",), (1.0,), word.without).changes
    assert not WordScale(("heavy",), (0.5,), {}).changes


@pytest.mark.parametrize(
    "source, edited, places",
    [
        ("abc", "axc", (0, 1, 2, 3, 4)),
        ("ac", "abc", (0, 1, -1, 2, 3)),
        ("abc", "ac", (0, 1, 3, 4)),
        ("abbc", "axc", (0, 1, 2, 4, 5)),
        ("a", "xyza", (0, -1, -1, -1, 1, 2)),
    ],
)
def test_what_stands_between_the_same_neighbours_is_aligned(token_ids, source, edited, places):
    ids = [token_ids(*text, length=0) for text in (source, edited)]
    assert aligned(*ids) == places
    padded = [token_ids(*text, length=12) for text in (source, edited)]
    assert aligned(*padded)[: len(places)] == places


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_value_rows_go_from_the_prompt_without_a_word_to_the_whole_one(token_ids, scale):
    whole, without = token_ids(*"abc", length=8), token_ids(*"ac", length=8)
    own, other = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0)).unbind()
    found = values_at(scale, whole, without, own, other)
    # The word's own row is scaled; what follows it comes from a place before.
    lost = torch.stack([other[0], other[1], 0 * own[2], other[2], other[3], *other[5:]])
    assert torch.allclose(found, lost + scale * (own - lost), atol=1e-6)


def test_padding_that_the_other_does_not_have_stays(token_ids):
    own, other = torch.ones(8, 1), torch.full((8, 1), 3.0)
    found = values_at(0.0, token_ids(*"ab", length=8), token_ids(*"abcd", length=8), own, other)
    assert found[:, 0].tolist() == [3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("text", "words", "shorter"),
    [
        ("a city with (heavy:1.3) fire", ["heavy"], "a city with fire"),
        ("a city with (*:1.3)", ["rain"], "a city with"),
        ("a ((heavy rain)) city", ["heavy", "rain"], "a city"),
        ("a (heavy:1.3, cold:1.1) city", ["heavy"], "a (:1.3, cold:1.1) city"),
        (r"a city \(\) with (fire:0.5)", ["fire"], r"a city \(\) with"),
        ("embedding:heavy_rain over a city, rain", ["rain"], "embedding:heavy_rain over a city,"),
        ("embedding:rain over a city", ["rain"], None),
        ("embedding:rain over a city", ["embedding:rain"], "over a city"),
    ],
)
def test_no_weight_without_words_and_no_half_of_an_embedding_is_left(make_token, text, words, shorter):
    tokens = (make_token("rain"),) if "*" in text else ()
    found = without_words(Prompt(text, tokens), words)
    assert found[0].text == (text if shorter is None else shorter)
    assert found[1] == (set() if shorter is None else set(words))
