"""What the nodes' schemas share."""

from __future__ import annotations

import pytest


@pytest.fixture
def types(pack):
    return pack.part("nodes.types")


def test_folding_leaves_in_sight_what_is_named_and_what_is_no_widget(types):
    from comfy_api.latest import io

    def schema() -> io.Schema:
        slots = [io.Latent.Input("latent"), io.Int.Input("steps"), io.Boolean.Input("fast")]
        return io.Schema(node_id="AAI_Test", inputs=slots)

    folded = types.fold(schema(), in_sight=["steps"])
    assert [slot.id for slot in folded.inputs] == ["latent", "steps", "fast"]
    known = hasattr(folded.inputs[0], "advanced")
    assert [bool(getattr(slot, "advanced", None)) for slot in folded.inputs] == [False, False, known]


def test_search_words_go_where_comfyui_takes_them(types):
    from comfy_api.latest import io

    schema = io.Schema(node_id="AAI_Test", **types.search_aliases("tag audio"))
    assert getattr(schema, "search_aliases", ["tag audio"]) == ["tag audio"]


def test_a_seed_has_64_bits_and_its_control(types):
    seed = types.seed_input("token")
    assert (seed.id, seed.default, seed.max) == ("seed", 0, 2**64 - 1) and seed.control_after_generate
    assert "same token" in seed.tooltip
