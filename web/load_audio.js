// A player for the sound that AAI_LoadAudio holds. Core's own AUDIO_UI widget: only core's nodes get it by themselves.
import { app } from "../../scripts/app.js";

app.registerExtension({
    name: "AAI.LoadAudio",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name !== "AAI_LoadAudio") return;
        // Last, and before the upload button, which looks for the player: widgets that keep a value come first.
        const { upload, ...widgets } = nodeData.input.required;
        nodeData.input.required = { ...widgets, audioUI: ["AUDIO_UI", {}], ...(upload ? { upload } : {}) };
    },
});
