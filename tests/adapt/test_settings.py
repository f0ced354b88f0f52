"""The settings of a token's training."""

import pytest

from aai.adapt.settings import TEMPLATES, TrainSettings
from aai.errors import InputError


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(norm="long"), "'long'"),
        (dict(chunk=-1), "-1"),
        (dict(validate=-1), "-1"),
        (dict(patience=2), "needs a validation"),
    ],
)
def test_options_that_cannot_be_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainSettings(**change)


def test_sets_of_templates_have_a_name():
    assert len(TEMPLATES["objects"]) == 27 and len(TEMPLATES["styles"]) == 19
    assert all(text.count("*") == 1 for templates in TEMPLATES.values() for text in templates)
    assert TrainSettings(template=" Styles ").templates == TEMPLATES["styles"]
    assert TrainSettings(template="a *\n\n the * ").templates == ("a *", "the *")
