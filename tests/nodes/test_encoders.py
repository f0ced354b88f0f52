"""Sound encoders in models/audio_encoders: what is offered, found, refused and saved."""

from __future__ import annotations

import pytest


def test_the_lists_show_a_clap_as_one(pack, clap):
    names = pack.part("nodes.encoders").names()
    assert clap in names and not any(name.startswith(f"{clap}/") for name in names)
    bridge, load = (
        pack.nodes[f"AAI_{n}"].define_schema() for n in ("BridgeSoundEncoder", "LoadSoundEncoder")
    )
    assert clap in bridge.inputs[0].options and clap in load.inputs[0].options


@pytest.mark.parametrize("name", ["../outside", "", 'a"b', "a:b"])
def test_names_that_are_none_are_refused(run, pack, ear, name):
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot name a sound encoder"):
        pack.part("nodes.encoders").save(ear, name)


def test_what_is_missing_is_refused_before_anything_runs(pack):
    answer = pack.nodes["AAI_LoadSoundEncoder"].validate_inputs(encoder="audio_model.21.pth.missing")
    for part in (
        "audio_encoders",
        "github.com/YuanGongND/cav-mae",
        "BSD-2-Clause",
        "clap-htsat",
        "Apache-2.0",
    ):
        assert part in answer
    answer = pack.nodes["AAI_BridgeSoundEncoder"].validate_inputs(clap="nowhere")
    assert "'nowhere'" in answer
    answer = pack.nodes["AAI_AlignAudioEncoder"].validate_inputs(dataset="nowhere")
    assert "no folder 'nowhere'" in answer
