from __future__ import annotations

import logging
import random
import time

import pytest

from aai.errors import InputError
from aai.prompt import SLOT, Prompt, in_words, index_projection


def words(prompt: Prompt) -> list[str]:
    return [piece if isinstance(piece, str) else f"[{piece.name}]" for piece in prompt.pieces()]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a photo of *", ["a photo of ", "[rain]"]),
        ("*", ["[rain]"]),
        ("A*, at night", ["A", "[rain]", ", at night"]),
        ("<dog> under *, <rain>", ["[dog]", " under ", "[rain]", ", ", "[rain]"]),
        ("**", ["[rain]", "[rain]"]),
        (r"a 5 \* 3 room \<dog>, *", ["a 5 * 3 room <dog>, ", "[rain]"]),
        ("(a <dog>:1.3) i <3 it", ["(a ", "[dog]", ":1.3) i <3 it"]),
        ("a city", ["a city"]),
        ("", []),
    ],
)
def test_pieces(make_token, text, expected):
    assert words(Prompt(text, (make_token("rain"), make_token("dog")))) == expected


def test_without_tokens_a_star_is_a_star():
    assert words(Prompt("a 5 * 3 room")) == ["a 5 * 3 room"]


def test_an_unknown_name_is_refused(make_token):
    with pytest.raises(InputError, match="<snow>.*<rain>"):
        Prompt("a photo of <snow>", (make_token("rain"),)).pieces()
    with pytest.raises(InputError, match="<snow>.*none"):
        Prompt("a photo of <snow>").pieces()


def test_two_tokens_of_one_name_are_refused(make_token):
    with pytest.raises(InputError, match="'rain'"):
        Prompt("*", (make_token("rain"), make_token("rain")))


def test_used_tokens_in_order(make_token):
    rain, dog, fire = make_token("rain"), make_token("dog"), make_token("fire")
    assert Prompt("<dog> and * and <dog>", (rain, dog, fire)).used() == [dog, rain]


@pytest.mark.parametrize("text", ["a photo of rain, at night", "", "A PHOTO  of the city!", "rain " * 90])
def test_plain_text_has_the_tokenizers_ids(make_tokenizer, text):
    tokenizer = make_tokenizer()
    whole = tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
    layout = Prompt(text).layout(lambda t: tokenizer(t)["input_ids"])
    assert layout.ids == whole and layout.slots == [] and layout.positions == {}
    assert layout.end == whole.index(tokenizer.eos_token_id)


@pytest.mark.parametrize(
    "text",
    ["a photo of <rain>, at night", "<rain>", "the <rain>.", "A<rain>,<dog> and <rain>", "<dog>'s city"],
)
def test_ids_around_tokens_are_the_tokenizers(make_tokenizer, make_token, text):
    tokens = (make_token("rain", rows=2), make_token("dog"))
    plain, knowing = make_tokenizer(), make_tokenizer()
    knowing.add_tokens(["<rain>", "<rain>_1", "<dog>"])
    # As diffusers expands a token of several vectors.
    whole = knowing(text.replace("<rain>", "<rain><rain>_1"), padding="max_length", max_length=77)[
        "input_ids"
    ]
    layout = Prompt(text, tokens).layout(lambda t: plain(t)["input_ids"])
    first = len(plain)
    assert layout.ids == [SLOT if i >= first else i for i in whole]
    rows = [(s.position, knowing.convert_ids_to_tokens(whole[s.position])) for s in layout.slots]
    assert rows == [(s.position, f"<{s.name}>" + (f"_{s.row}" if s.row else "")) for s in layout.slots]
    assert layout.positions == {
        name: [s.position for s in layout.slots if s.name == name] for name in {s.name for s in layout.slots}
    }


def test_positions_by_hand(make_tokenizer, make_token):
    tokenizer = make_tokenizer()
    prompt = Prompt("a photo of <rain> and <dog>, *", (make_token("rain", rows=2), make_token("dog")))
    layout = prompt.layout(lambda t: tokenizer(t)["input_ids"], pad=0)
    # begin a photo of rain rain and dog , rain rain end
    assert layout.positions == {"rain": [4, 5, 9, 10], "dog": [7]} and layout.end == 11
    assert layout.ids[12:] == [0] * 65 and not layout.truncated


def test_long_prompts_lose_words_with_a_warning_but_never_a_token(make_tokenizer, make_token, caplog):
    def tokenize(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    tokenizer = make_tokenizer()
    rain = make_token("rain", rows=2)
    fits = Prompt("city " * 73 + "*", (rain,)).layout(tokenize)
    assert (
        not fits.truncated and fits.positions["rain"] == [74, 75] and fits.ids[76] == tokenizer.eos_token_id
    )
    with caplog.at_level(logging.WARNING, logger="aai.prompt"):
        long = Prompt("* " + "city " * 80, (rain,)).layout(tokenize)
    assert long.truncated and len(long.ids) == 77 and long.end == 76
    assert "82 pieces" in caplog.text and "first 75" in caplog.text
    for before in (74, 75, 90):
        with pytest.raises(InputError, match="'rain'.*75"):
            Prompt("city " * before + "*", (rain,)).layout(tokenize)


def test_a_token_for_another_text_encoder_is_refused(make_tokenizer, make_token):
    with pytest.raises(InputError, match="'rain'.*clip_h.*clip_l"):
        Prompt("*", (make_token(encoder="clip_h"),)).layout(lambda t: make_tokenizer()(t)["input_ids"])


def test_index_projection_is_needleman_wunschs_and_takes_long_prompts():
    """Cell by cell as in the textbook, for random prompts; 5,000 positions in seconds."""

    def textbook(source, edited):
        score = [[0] * (len(edited) + 1) for _ in range(len(source) + 1)]
        for i, there in enumerate(source, 1):
            for j, here in enumerate(edited, 1):
                met = score[i - 1][j - 1] + (1 if there == here else -1)
                score[i][j] = max(met, score[i - 1][j], score[i][j - 1])
        found, i, j = [-1] * len(edited), len(source), len(edited)
        while i and j:
            if source[i - 1] == edited[j - 1]:
                found[j - 1] = i - 1
                i, j = i - 1, j - 1
            elif score[i - 1][j] >= score[i][j - 1]:
                i -= 1
            else:
                j -= 1
        return tuple(found)

    draw = random.Random(0)
    pieces = [0, 1, 2, 3, "embedding:x", ("rain", 0), ("rain", 1)]
    for _ in range(50):
        source, edited = (tuple(draw.choices(pieces, k=draw.randrange(1, 25))) for _ in range(2))
        assert index_projection(source, edited) == textbook(source, edited)
    long = tuple(draw.choices(pieces, k=5000))
    begin = time.perf_counter()
    assert index_projection(long, long) == tuple(range(5000))
    assert time.perf_counter() - begin < 10


def test_a_full_width_star_is_a_star(make_token):
    rain = make_token("rain")
    assert Prompt("\u591c\u306e\uff0a", (rain,)).pieces() == ["\u591c\u306e", rain]
    assert Prompt("\\\uff0a and *", (rain,)).pieces() == ["\uff0a and ", rain]
    assert Prompt("\uff0a").pieces() == ["\uff0a"]


def test_a_text_in_words_has_them_where_a_prompt_has_tokens(make_token):
    text = "a \\*shiny\\* \\<b> \\city under *, \uff0a"
    assert in_words(text, r"\1") == r"a *shiny* <b> \city under \1, \1"
    pieces = Prompt(text, (make_token("rain"),)).pieces()
    assert in_words(text, "rain") == "".join(p if isinstance(p, str) else p.name for p in pieces)
    assert in_words("<lora:x:1> *", "rain") == "<lora:x:1> rain"


@pytest.mark.parametrize("name", ["caf\u00e9 noir", "cafe\u0301 noir", " caf\u00e9 noir "])
def test_a_token_is_found_however_its_name_was_typed(make_token, name):
    cafe = make_token("caf\u00e9 noir")
    assert Prompt(f"a <{name}>", (cafe,)).pieces() == ["a ", cafe]
    assert Prompt("a <cafe\u0301 noir>", (make_token(name),)).used()
    with pytest.raises(InputError, match="caf"):
        Prompt("*", (cafe, make_token(name)))
