"""Prompts without some of their words."""

import pytest

from aai.errors import InputError
from aai.inject.words import WordScale, check_words, without_words
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
        ("(heavy:1.2) rain", ["heavy"], "(:1.2) rain", {"heavy"}),
    ],
)
def test_a_prompt_without_words(tokens, text, words, left, found):
    shorter, has = without_words(Prompt(text, tokens), words)
    assert (shorter.text, has) == (left, found)
    assert without_words(shorter, words)[1] == set()


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
