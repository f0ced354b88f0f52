"""Sound tokens kept, loaded and bound to another sound through the nodes, in process."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close


def test_rebinding_takes_another_sound_and_keeps_the_adapter(train, run, embedding, pack):
    token, _ = train()
    other = pack.part("aai.encoders.base").SoundEmbedding(-embedding.f_a, -12.0, "beef", "small")
    (rebound,) = run("AAI_RebindSoundToken", token=token, embedding=other)
    assert_close(rebound.f_adapter["clip_l"], token.f_adapter["clip_l"])
    assert_close(
        rebound.vectors["clip_l"] + token.vectors["clip_l"], 2 * token.f_adapter["clip_l"], atol=1e-6, rtol=0
    )
    assert rebound.loudness == -12.0 and rebound.provenance["sound"] == "beef"


def test_an_empty_name_is_the_sounds(train, embedding, pack):
    heard = pack.part("aai.encoders.base").SoundEmbedding(embedding.f_a, -12.0, "my dog (2).wav", "small")
    token_name = pack.part("nodes.tokens").token_name
    assert (token_name(" ", heard), token_name(" rex ", heard)) == ("my-dog-2", "rex")
    assert (
        token_name("", pack.part("aai.encoders.base").SoundEmbedding(embedding.f_a, -12.0, "", "small"))
        == "sound"
    )
    token, _ = train(name="")
    assert token.name == token_name("", embedding) != ""


def test_two_tokens_of_one_name_are_told_apart_by_a_new_one(train, run, small, embedding, pack):
    token, _ = train(name="twice")
    run("AAI_SaveSoundToken", token=token, name="", overwrite=True)
    (rebound,) = run("AAI_RebindSoundToken", token=token, embedding=embedding, name=" storm ")
    loaded, provenance = run("AAI_LoadSoundToken", file="twice.safetensors", name="other")
    assert (rebound.name, loaded.name) == ("storm", "other") and "name: other" in provenance
    assert run("AAI_LoadSoundToken", file="twice.safetensors")[0].name == "twice"
    stamps = [
        pack.nodes["AAI_LoadSoundToken"].fingerprint_inputs(file="twice.safetensors", name=name)
        for name in ("", "other")
    ]
    assert stamps[0] != stamps[1]
    inputs = dict(clip=small.clip, token=token, prompt="<twice> and a second")
    with pytest.raises(pack.part("aai.errors").InputError, match="named 'twice': rename one"):
        run("AAI_SoundTokenConditioning", **inputs, token_2=token)
    run("AAI_SoundTokenConditioning", **inputs, token_2=loaded)
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot name a sound token"):
        run("AAI_RebindSoundToken", token=token, embedding=embedding, name="a/b")


def test_saving_and_loading(train, run, embeddings_folder, pack):
    token, _ = train(name="kept")
    assert run("AAI_SaveSoundToken", token=token, name="", overwrite=False) == ("embedding:kept",)
    assert run("AAI_SaveSoundToken", token=token, name="", overwrite=False) == ("embedding:kept_2",)
    assert run("AAI_SaveSoundToken", token=token, name="kept", overwrite=True) == ("embedding:kept",)
    assert run("AAI_SaveSoundToken", token=token, name="weather/kept", overwrite=False) == (
        "embedding:weather/kept",
    )
    assert run("AAI_SaveSoundToken", token=token, name="storms/", overwrite=False) == (
        "embedding:storms/kept",
    )
    loaded, provenance = run("AAI_LoadSoundToken", file="kept.safetensors")
    said = {"sound: c0ffee", "encoder: small", "steps: 4", "loudness: -21.5 LUFS"}
    assert said <= set(provenance.splitlines())
    assert torch.equal(loaded.vectors["clip_l"], token.vectors["clip_l"]) and loaded.name == "kept"
    # What stands under the name may be another's by now: only a save that replaces nothing may be skipped.
    for node in ("AAI_SaveSoundToken", "AAI_SaveSoundEncoder"):
        stamps = [
            [pack.nodes[node].fingerprint_inputs(name="kept", overwrite=o) for _ in range(2)]
            for o in (False, True)
        ]
        assert [[a] == [b] for a, b in stamps] == [True, False]
    names = {p.name for p in embeddings_folder.iterdir()}
    assert {"kept.safetensors", "kept_2.safetensors"} <= names and not [n for n in names if n.startswith(".")]
    assert "nothing.safetensors" in pack.nodes["AAI_LoadSoundToken"].validate_inputs(
        file="nothing.safetensors"
    )


@pytest.mark.parametrize(
    ("encoders", "told"), [({"umt5xxl"}, 1), ({"clip_l"}, 0), ({"gemma3_12b", "t5xxl"}, 0)]
)
def test_a_word_that_no_prompt_reads_is_told(pack, run, encoders, told, caplog):
    token = pack.part("aai.token").SoundToken("wave", {name: torch.ones(1, 8) for name in encoders})
    shown = pack.nodes["AAI_SaveSoundToken"].execute(token=token, name="unread", overwrite=True).ui["text"]
    assert shown[0] == "embedding:unread" and len(shown) == 1 + told
    assert all("Sound Token Conditioning" in line for line in shown[1:])
    assert caplog.text.count("embedding:unread") == told


@pytest.mark.parametrize("name", ["बारिश", "ฟ้าผ่า", "heavy rain"])
def test_a_saved_word_is_read_in_every_script(train, run, small, name):
    token, _ = train(name=name, steps=1)
    (word,) = run("AAI_SaveSoundToken", token=token, name="", overwrite=True)
    pieces = small.clip.tokenize(f"a {word} at night")["l"][0]
    assert any(torch.is_tensor(piece[0]) for piece in pieces)
    loaded, _ = run("AAI_LoadSoundToken", file=f"{word.removeprefix('embedding:')}.safetensors")
    run("AAI_SoundTokenConditioning", clip=small.clip, token=loaded, prompt=f"a <{name}> at night")


def test_a_file_of_a_name_has_no_space_of_any_kind(pack):
    file_name = pack.part("nodes.tokens").file_name
    assert file_name("heavy rain\u3000at\u00a0night ") == "heavy_rain_at_night"
    stays_within = pack.part("aai.files").stays_within
    for name in ("雨" * 100, "aux", "etc.", "rain. .", "..."):
        assert stays_within(file_name(name) + "-step500")
    assert file_name("雨" * 100) == "雨" * 60 and file_name("etc.") == "etc" and file_name("aux") == "aux_"


def test_someone_elses_embedding_is_not_replaced(train, run, embeddings_folder, pack):
    from safetensors.torch import save_file

    token, _ = train(name="mine", steps=1)
    file = embeddings_folder / "fire.safetensors"
    save_file({"<fire>": torch.ones(1, 768)}, file)
    before = file.read_bytes()
    with pytest.raises(pack.part("aai.errors").InputError, match="'fire.safetensors'.*not replaced"):
        run("AAI_SaveSoundToken", token=token, name="fire", overwrite=True)
    assert file.read_bytes() == before
    assert run("AAI_SaveSoundToken", token=token, name="fire", overwrite=False) == ("embedding:fire_2",)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/tmp/outside",
        "a:b",
        "two words",
        "雨\u3000音",
        "two\u00a0words",
        "a\\b",
        "rain(loud)",
        "rain[1]",
        "NUL",
        "aux/rain",
        "a./b",
        "nul",
        "a/con.x",
        "rain.",
        "caf\udce9",
        "a/../b",
    ],
)
def test_names_stay_in_the_embeddings_folder(train, run, pack, name):
    token, _ = train(steps=1)
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot name"):
        run("AAI_SaveSoundToken", token=token, name=name, overwrite=False)


def test_a_linked_folder_is_a_folder_and_a_linked_file_is_written(
    train, run, embeddings_folder, pack, tmp_path
):
    read = pack.part("aai.token").load
    rain, dog = train(steps=1)[0], train(steps=1, name="dog")[0]
    (embeddings_folder / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    assert run("AAI_SaveSoundToken", token=rain, name="elsewhere/rain", overwrite=False) == (
        "embedding:elsewhere/rain",
    )
    assert read(tmp_path / "rain.safetensors").name == "rain"
    link = embeddings_folder / "linked.safetensors"
    link.symlink_to(tmp_path / "rain.safetensors")
    assert run("AAI_SaveSoundToken", token=dog, name="linked", overwrite=True) == ("embedding:linked",)
    assert link.is_symlink() and read(tmp_path / "rain.safetensors").name == "dog"


@pytest.mark.parametrize("name", ["../outside.safetensors", "sub/../../outside.safetensors", "absolute"])
def test_no_name_reads_outside_the_embeddings_folder(train, run, embeddings_folder, pack, name):
    token, _ = train(steps=1)
    outside = embeddings_folder.parent / "outside.safetensors"
    (embeddings_folder / "sub").mkdir(exist_ok=True)
    token.save(outside)
    name = str(outside) if name == "absolute" else name
    assert "There is no token" in pack.nodes["AAI_LoadSoundToken"].validate_inputs(file=name)
    with pytest.raises(pack.part("aai.errors").InputError, match="There is no token"):
        run("AAI_LoadSoundToken", file=name)
