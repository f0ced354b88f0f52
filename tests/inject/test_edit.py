"""Which attention an edit borrows, and when."""

import pytest

from aai.errors import InputError
from aai.inject.edit import STYLE_WINDOWS
from aai.picture.schedule import progress
from aai.prompt import index_projection

LENGTH = 12
RAIN, DOG = ("rain", 0), ("dog", 0)


def test_index_projection_by_hand(token_ids):
    source, edited = token_ids(*"ac"), token_ids(*"acu", RAIN)
    assert index_projection(source, edited)[:6] == (0, 1, 2, -1, -1, 3)
    # Positions 4 and 5 are padding in the source only; from 6 on in both.
    assert index_projection(source, edited)[6:] == tuple(range(6, LENGTH))
    assert index_projection(edited, source)[:5] == (0, 1, 2, 5, -1)
    assert index_projection(edited, edited) == tuple(range(LENGTH))


def test_a_replaced_word_has_no_projection(token_ids):
    assert index_projection(token_ids(*"acn"), token_ids(*"abn"))[:5] == (0, 1, -1, 3, 4)


def test_prompts_of_two_lengths_project(token_ids):
    found = index_projection(token_ids(*"ac"), token_ids(*"acu", RAIN, length=2 * LENGTH))
    assert found[5] == 3 and found[6] == 6 and found[LENGTH:] == (-1,) * LENGTH


def test_progress_counts_the_samplers_own_steps():
    sigmas = [14.6, 5.0, 2.0, 0.5, 0.0]
    assert [progress(s, sigmas) for s in sigmas[:-1]] == [0, 0.25, 0.5, 0.75]
    assert progress(3.0, sigmas) == 0.25 and progress(20.0, sigmas) == 0
    assert progress(0.01, sigmas) == 0.75


def test_windows_open_and_close(edit_of, token_ids):
    edit, told = edit_of(**STYLE_WINDOWS), [token_ids(*"ac"), token_ids(*"ac", RAIN)]
    assert edit.at(0, 10, told, LENGTH).borrows_self and not edit.at(0.2, 10, told, LENGTH).borrows_self
    assert edit.at(0.49, 10, told, LENGTH).mixes[0].inside
    assert not edit.at(0.5, 10, told, LENGTH).mixes[0].inside


@pytest.mark.parametrize("steps", [2, 12, 13, 15, 50])
@pytest.mark.parametrize("window", [(0.0, 0.4), (0.0, 0.2), (0.15, 0.58), (0.0, 1.0), (0.3, 0.3)])
def test_a_self_window_holds_whole_steps(edit_of, steps, window, token_ids):
    """google/prompt-to-prompt: from step int(num_steps * start) on, before int(num_steps * end)."""
    edit, told = edit_of(self_window=window), [token_ids(*"ac"), token_ids(*"ac", RAIN)]
    sigmas = [float(steps - i) for i in range(steps)] + [0.0]
    shares = [progress(sigma, sigmas) for sigma in sigmas[:-1]]
    found = [edit.at(share, steps, told, LENGTH).borrows_self for share in shares]
    start, end = int(steps * window[0]), int(steps * window[1])
    assert found == [start <= step < end for step in range(steps)]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"cross_window": (0, 1.2)}, "cross window 0 to 1.2"),
        ({"self_window": (0.5, 0.2)}, "start first"),
        ({"silence": "loud"}, "choose full or literal"),
        ({"scales": {"rain": -1}}, "opposite"),
        ({"scales": {"rain": 2.5}}, "drowns"),
        ({"scales": {"dog": 1}}, "names <rain>"),
        ({"text": "a city at night"}, "names no sound token"),
    ],
)
def test_bad_edits_are_refused_in_one_sentence(edit_of, settings, words):
    with pytest.raises(InputError, match=words):
        edit_of(**settings)
