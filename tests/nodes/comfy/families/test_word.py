"""A sound stands in a prompt of every family, as one of its own words would."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close


def places(seen, vectors):
    """Where the rows of a word begin in what a text encoder got."""
    rows = seen.unfold(0, len(vectors), 1).movedim(-1, 1)
    return [i for i, found in enumerate(rows) if torch.allclose(found.float(), vectors, atol=1e-5, rtol=0)]


def test_its_vectors_are_what_the_text_encoders_see(tiny, token, encode):
    cond, seen = encode("a photo of *, and again <rain> at night", token)
    assert set(seen) == set(tiny.widths)
    found = {key: places(seen[key], vectors) for key, vectors in token.vectors.items()}
    assert all(len(at) == 2 for at in found.values()), found
    # The conditioning knows where: the encoder's places, less what a family cuts off.
    assert len(cond.token_ids[0]) == cond.cross.shape[1]
    positions = cond.positions["rain"]
    assert len(positions) in (4, 8)
    distances = {tuple(b - a for a, b in zip(at, at[1:])) for at in found.values()}
    assert (positions[2] - positions[0],) in distances and positions[1] == positions[0] + 1


def test_a_word_of_its_own_vectors_is_that_word(tiny, token, encode, pack):
    """The templates, masks, scales and cuts are core's."""
    clip, tokenizer = pack.part("nodes.comfy.clip"), pack.part("nodes.comfy.tokenizer")
    rows = {}
    for key in tiny.widths:
        table = clip.vocabulary(tiny.clip, key)
        with torch.inference_mode():
            ids = torch.tensor(tokenizer.word_ids(clip.tokenizer_of(tiny.clip, key), "rain"))
            rows[key] = table(ids, out_dtype=torch.float32).clone()
    cond, _ = encode("a photo of * at night", replace(token, vectors=rows))
    core, _ = encode("a photo of rain at night", by_core=True)
    assert_close(cond.cross, core.pop("cond"), atol=1e-5, rtol=1e-5)
    pooled = core.pop("pooled_output")
    assert (pooled is None) == (cond.pooled is None)
    if pooled is not None:
        assert_close(cond.pooled, pooled, atol=1e-5, rtol=1e-5)
    assert set(core) == set(cond.extra)
    for key, value in core.items():
        assert_close(cond.extra[key], value, atol=1e-5, rtol=1e-5)
    # And another word is another conditioning.
    other, _ = encode("a photo of * at night", replace(token, vectors={k: -v for k, v in rows.items()}))
    assert not torch.allclose(other.cross, cond.cross, atol=1e-3)


def test_core_reads_its_file(tiny, token, encode, comfy, pack):
    of = pack.part("nodes.comfy.clip").tokenizer_of
    reading = [key for key in tiny.widths if of(tiny.clip, key).embedding_directory is not None]
    # With HunyuanVideo core's own tokenizer compares vectors with ids, and ends in an error.
    if not reading or tiny.name == "HunyuanVideo":
        pytest.skip(f"core reads no embedding: in {tiny.name}'s prompts")
    token.save(comfy / "models" / "embeddings" / "tiny.safetensors")
    _, seen = encode("a photo of embedding:tiny at night", by_core=True)
    assert all(len(places(seen[key], token.vectors[key])) == 1 for key in reading)


@pytest.mark.parametrize(
    "text", ["embedding:other*", "a embedding:other* at night", "(embedding:other*:1.2)"]
)
def test_it_may_touch_an_embedding_s_name(tiny, token, encode, comfy, pack, text):
    of = pack.part("nodes.comfy.clip").tokenizer_of
    # HunyuanVideo's own tokenizer ends in an error at any embedding.
    if tiny.name == "HunyuanVideo" or not any(of(tiny.clip, k).embedding_directory for k in tiny.widths):
        pytest.skip(f"core reads no embedding: in {tiny.name}'s prompts")
    replace(token, vectors={k: v + 3 for k, v in token.vectors.items()}).save(
        comfy / "models" / "embeddings" / "other.safetensors"
    )
    touching, _ = encode(text, token)
    apart, seen = encode(text.replace("other*", "other *"), token)
    assert_close(touching.cross, apart.cross)
    assert touching.token_ids == apart.token_ids
    assert all(len(places(seen[key], rows)) == 1 for key, rows in token.vectors.items())


def test_where_it_does_not_fit_a_sentence_says_so(tiny, token, encode, pack):
    refused = pack.part("aai.errors").InputError
    key = list(token.vectors)[-1]
    wide = {**token.vectors, key: torch.randn(2, tiny.widths[key] + 1)}
    with pytest.raises(refused, match=f"'rain' is of width .*{key} {tiny.widths[key]}"):
        encode("a photo of *", replace(token, vectors=wide))
    with pytest.raises(refused, match="train the token with this model"):
        encode("a photo of *", replace(token, vectors={"gpt9": token.vectors[key]}, f_a=torch.ones(3)))
    if tiny.name == "HiDream":
        with pytest.raises(refused, match="behind what the text encoder t5xxl reads"):
            encode("night " * 150 + "*", token)


def test_an_encoder_that_is_only_pooled_may_lack_it(tiny, token, encode, pack):
    families = pack.part("nodes.comfy.families")
    pooled = families.find(families.POOLED, tiny.clip.cond_stage_model)
    if not pooled:
        pytest.skip(f"{tiny.name} sees every encoder's rows")
    vectors = {key: rows for key, rows in token.vectors.items() if key not in pooled}
    cond, seen = encode("a photo of *", replace(token, vectors=vectors))
    assert len(cond.positions["rain"]) == 2
    without, plain = encode("a photo of ", by_core=True)
    assert all(torch.equal(seen[key], plain[key]) for key in pooled)


def test_anima_takes_no_sound(tiny, encode, pack):
    if tiny.name != "Anima":
        pytest.skip("Anima alone")
    token = pack.part("aai.token").SoundToken("rain", {"qwen3_06b": torch.randn(1, 32)})
    with pytest.raises(pack.part("aai.errors").InputError, match="Anima also reads.*nearest words"):
        encode("a photo of *", token)
