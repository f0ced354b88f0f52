"""The text tower at work: captions, and words in a caption's star."""

import torch
from torch.nn import functional as F

from aai.soundworld.text import as_word, label_phrases, scale_of


def test_a_starred_caption_reads_the_word_that_stands_there(caption_encoder):
    words = as_word(torch.randn(2, 192), scale_of(caption_encoder.model))
    torch.testing.assert_close(words.norm(dim=-1), torch.full((2,), scale_of(caption_encoder.model)))
    texts = ["a photo of *", "a photo of *"]
    states, sentences = caption_encoder.states(texts, words, length=77)
    assert states.shape == (2, 77, 192)
    star = caption_encoder.tokenizer(texts[0])["input_ids"].index(caption_encoder.star)
    torch.testing.assert_close(states[0, :star], states[1, :star])
    assert not torch.allclose(sentences[0], sentences[1], atol=1e-3)


def test_every_star_reads_its_own_word(caption_encoder):
    words = as_word(torch.randn(3, 192), scale_of(caption_encoder.model))
    texts = ["a photo of * and *", "a city", "a city under *"]
    states, _ = caption_encoder.states(texts, words, length=77)
    swapped, _ = caption_encoder.states(texts[:1], words[[0, 2]], length=77)
    second = caption_encoder.tokenizer(texts[0])["input_ids"].index(caption_encoder.star) + 2
    torch.testing.assert_close(states[0, :second], swapped[0, :second])
    assert not torch.allclose(states[0, second], swapped[0, second], atol=1e-3)
    torch.testing.assert_close(states[1], caption_encoder.states(texts[1:2], length=77)[0][0])
    torch.testing.assert_close(states[2], caption_encoder.states(texts[2:], words[2:], length=77)[0][0])


def test_states_are_the_towers_own(caption_encoder):
    texts = ["a photo of rain", "a city"]
    ids, ends = caption_encoder.ids(texts, length=77)
    states, sentences = caption_encoder.states(texts, length=77)
    torch.testing.assert_close(states, caption_encoder.model(input_ids=ids).last_hidden_state)
    assert (ids[torch.arange(2), ends] == caption_encoder.tokenizer.eos_token_id).all()
    assert ends.tolist() == [5, 3]
    torch.testing.assert_close(sentences, states[torch.arange(2), ends])


def test_no_texts_have_no_embeddings(caption_encoder):
    assert caption_encoder.embed([]).shape == (0, caption_encoder.dim)
    phrases = label_phrases()
    embeddings = caption_encoder.embed(phrases)
    assert embeddings.shape == (len(phrases), 192) and not embeddings.requires_grad
    assert len(F.normalize(embeddings, dim=-1).unique(dim=0)) == len(phrases)
