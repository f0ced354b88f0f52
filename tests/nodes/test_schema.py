"""What the pack shows ComfyUI and its users."""

from __future__ import annotations

import math

IDS = {
    "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_LoadSoundEncoder", "AAI_EncodeSound",
    "AAI_RetrieveReferenceImages", "AAI_TrainSoundToken", "AAI_RebindSoundToken", "AAI_SaveSoundToken",
    "AAI_LoadSoundToken", "AAI_SoundTokenConditioning", "AAI_PromptToPromptEdit", "AAI_LoudnessReweight",
    "AAI_InvertImage", "AAI_AlignAudioEncoder", "AAI_BridgeSoundEncoder", "AAI_SaveSoundEncoder",
    "AAI_AttentionHeatmap", "AAI_DrawHeatmap", "AAI_CompareImages", "AAI_SoundTimeline", "AAI_JoinFrames",
    "AAI_TimelineValues", "AAI_TrainSoundAdapter",
    "AAI_LoadSoundAdapter", "AAI_InstantSoundToken",
}  # fmt: skip
IN_SIGHT = {
    "AAI_TrainSoundToken": ["name", "steps", "rate", "seed"],
    "AAI_TrainSoundAdapter": ["dataset", "name", "steps", "rate", "seed"],
    "AAI_AlignAudioEncoder": ["dataset", "steps", "rate", "seed", "name"],
    "AAI_BridgeSoundEncoder": ["clap", "sounds", "labels"],
    "AAI_RetrieveReferenceImages": ["library", "k", "clip_model"],
    "AAI_PromptToPromptEdit": ["source_prompt", "edited_prompt", "scale", "windows"],
    "AAI_SoundTimeline": ["frame_rate", "file", "start", "length", "hold", "release", "gain"],
}
"""The widgets of these nodes that are no advanced ones; every other node shows all of its own."""


def test_ids_are_final(pack):
    assert IDS <= set(pack.nodes)
    assert all(node_id.startswith("AAI_") for node_id in pack.nodes)


def test_every_input_and_output_has_a_tooltip_and_every_node_a_description(pack):
    for node_id, node in pack.nodes.items():
        schema = node.GET_SCHEMA()
        assert schema.description, node_id
        assert schema.category == "AAI Sound Tokens", node_id
        for slot in [*(schema.inputs or []), *(schema.outputs or [])]:
            assert slot.tooltip, f"{node_id}.{slot.id}"


def test_a_number_is_as_fine_as_it_is_typed(pack):
    """ComfyUI's front end rounds what is typed to its step's digits, whatever `round` says."""
    for node_id, node in pack.nodes.items():
        for slot in node.GET_SCHEMA().inputs or []:
            if slot.io_type != "FLOAT" or slot.step is None:
                continue
            assert getattr(slot, "round", None) is None, f"{node_id}.{slot.id}"
            for value in (slot.min, slot.max, slot.default):
                digits = max(0, -math.floor(math.log10(slot.step)))
                assert value is None or round(value, digits) == value, f"{node_id}.{slot.id}"
    steps = {(n, i.id): i.step for n, node in pack.nodes.items() for i in node.GET_SCHEMA().inputs or []
             if i.io_type == "FLOAT"}  # fmt: skip
    assert steps["AAI_TrainSoundToken", "rate"] <= 1e-6 and steps["AAI_AlignAudioEncoder", "rate"] <= 1e-7
    assert steps["AAI_TrainSoundToken", "average"] <= 1e-4
    assert steps["AAI_SoundTimeline", "frame_rate"] <= 1e-3


def test_slots_have_ids_of_their_own(pack):
    for node_id, node in pack.nodes.items():
        schema = node.GET_SCHEMA()
        ids = [slot.id for slot in [*(schema.inputs or []), *(schema.outputs or [])]]
        assert None not in ids and len(ids) == len(set(ids)), node_id


def test_display_names_do_not_repeat_cores(pack, comfy_path):
    import nodes

    shown = set(nodes.NODE_DISPLAY_NAME_MAPPINGS.values()) | {"Load Audio"}
    for node in pack.nodes.values():
        assert node.GET_SCHEMA().display_name not in shown


def test_the_door_is_all_there_is(pack):
    assert pack.module.WEB_DIRECTORY == "./web"
    assert not hasattr(pack.module, "NODE_CLASS_MAPPINGS")


def test_every_node_is_found_by_other_words_where_comfyui_knows_them(pack):
    schemas = [node.GET_SCHEMA() for node in pack.nodes.values()]
    if not hasattr(schemas[0], "search_aliases"):
        return
    assert [s.node_id for s in schemas if not s.search_aliases] == []


def test_what_most_people_never_touch_is_folded_where_comfyui_folds(pack):
    from comfy_api.latest import io

    folds = hasattr(io.Boolean.Input("on"), "advanced")
    assert set(pack.nodes) >= set(IN_SIGHT)
    for node_id, node in pack.nodes.items():
        # As the front end gets it: {"required": {id: [type, {"advanced": True, ...}]}, ...}
        slots = node.GET_NODE_INFO_V1()["input"]
        options = {
            name: slot[1] for kind in ("required", "optional") for name, slot in slots.get(kind, {}).items()
        }
        widgets = [s.id for s in node.GET_SCHEMA().inputs or [] if isinstance(s, io.WidgetInput)]
        wanted = IN_SIGHT.get(node_id, widgets) if folds else widgets
        assert [name for name in widgets if not options[name].get("advanced")] == wanted, node_id
        assert not [name for name in options if name not in widgets and options[name].get("advanced")], (
            node_id
        )
