"""An edit of a prompt's letters and sound tokens."""

import pytest

from aai.inject.edit import Edit
from aai.prompt import Prompt

BEGIN, END = 1, 2


@pytest.fixture(scope="session")
def token_ids():
    """token_ids("a", "c", ("rain", 0)): words as letters, tokens as (name, row), with padding."""

    def make(*pieces, length=12):
        ids = [BEGIN, *(ord(p) if isinstance(p, str) else p for p in pieces), END]
        return tuple(ids + [None] * (length - len(ids)))

    return make


@pytest.fixture
def edit_of(make_token):
    def make(text="a city under <rain>", source="a city", scales=None, **settings):
        tokens = (make_token("rain"), make_token("dog", seed=1))
        return Edit(
            Prompt(source, tokens), (Prompt(text, tokens),), scales=(scales,) if scales else (), **settings
        )

    return make
