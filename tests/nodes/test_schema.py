"""What the pack shows ComfyUI and its users."""

from __future__ import annotations

IDS = {
    "AAI_LoadSoundWorld", "AAI_LoadAudio", "AAI_LoadSoundEncoder", "AAI_EncodeSound",
    "AAI_RetrieveReferenceImages", "AAI_TrainSoundToken", "AAI_RebindSoundToken", "AAI_SaveSoundToken",
    "AAI_LoadSoundToken", "AAI_SoundTokenConditioning", "AAI_PromptToPromptEdit", "AAI_LoudnessReweight",
    "AAI_InvertImage", "AAI_AlignAudioEncoder", "AAI_BridgeSoundEncoder", "AAI_SaveSoundEncoder",
    "AAI_AttentionHeatmap", "AAI_DrawHeatmap", "AAI_CompareImages",
}  # fmt: skip


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
