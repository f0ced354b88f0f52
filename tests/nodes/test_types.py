"""What the nodes' schemas share."""

from __future__ import annotations

import pytest
import torch


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


def test_no_node_takes_a_literal_in_the_place_of_a_link(pack, run):
    """As a graph that is posted may have one; every other input is as a front end would send it."""
    from comfy_api.latest import io

    tried = 0
    for node_id, node in pack.nodes.items():
        schema = node.GET_SCHEMA()
        widgets = {slot.id: _default(slot) for slot in schema.inputs if isinstance(slot, io.WidgetInput)}
        links = [slot for slot in schema.inputs if not isinstance(slot, io.WidgetInput)]
        made = {slot.id: object() for slot in links}
        for slot in links:
            for literal in ("x", 7, 0.5, True, [], ["x", [1]], {}, {"waveform": [0.0], "samples": None}):
                with pytest.raises(Exception) as refusal:
                    run(node_id, **widgets, **{**made, slot.id: literal})
                assert type(refusal.value).__name__ == "InputError", (node_id, slot.id, literal)
                assert f"{schema.display_name} takes '{slot.id}' from another" in str(refusal.value)
                tried += 1
    assert tried > 200


def test_what_a_node_gave_is_no_literal(types):
    tensor = torch.zeros(1)
    conditioning = [[tensor, {"pooled_output": None}]]
    for given in (tensor, conditioning, {"samples": tensor}, [(1, 2), tensor], object()):
        assert not types._is_literal(given)


def _default(slot):
    options = getattr(slot, "options", None)
    return options[0] if options else slot.default
