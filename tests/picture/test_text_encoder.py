"""transformers' text encoders with sound tokens in place of words."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from aai.picture.diffusers import DiffusersPictureModel
from aai.picture.text_encoder import TextEncoder
from aai.prompt import Prompt


@pytest.fixture
def parts(make_parts):
    return make_parts()


@pytest.fixture
def model(parts):
    return DiffusersPictureModel(**vars(parts))


@pytest.fixture
def encoder(parts):
    return TextEncoder(parts.tokenizer, parts.text_encoder.eval())


def test_a_words_own_vector_is_the_word(encoder, make_token):
    """A token whose vector is the embedding of "rain" gives what the word does, in every position."""
    ids = encoder.tokenize("a photo of rain")
    vector = encoder.vocabulary.weight[ids[-2]].detach()[None]
    prompt = Prompt("a photo of *", (make_token("sound"),))
    with torch.no_grad():
        layout = prompt.layout(encoder.tokenize, length=encoder.length)
        found = encoder.run(layout, {"sound": vector}).last_hidden_state
        word = Prompt("a photo of rain").layout(encoder.tokenize, length=encoder.length)
        wanted = encoder.run(word, {}).last_hidden_state
    assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_text_of_any_length_has_ids_and_an_end_state(encoder):
    ids = encoder.tokenize("rain " * 100)
    assert len(ids) == 102 and encoder.length == 77
    with torch.no_grad():
        whole, cut = encoder.embed("rain " * 100), encoder.embed("rain " * 75)
    assert torch.equal(whole, cut)


def test_end_states_are_the_text_models_pooled_ones(model):
    tower = model._text_encoders["clip_l"]
    ids = tower.tokenizer(
        "a photo of rain", padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        pooled = tower.model(ids).pooler_output
    assert_close(model.embed_text(["a photo of rain"])["clip_l"], pooled, atol=1e-5, rtol=1e-5)


def test_the_text_model_is_left_without_hooks(model, parts, make_token):
    model.encode_prompt(Prompt("*", (make_token(),)))
    assert not parts.text_encoder.get_input_embeddings()._forward_hooks
