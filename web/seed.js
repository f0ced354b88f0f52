// A node that trains keeps its seed: the front end's own choice for a new node, a new seed after every run, would
// train again for each change elsewhere. Saved workflows bring their own choice after this.
import { app } from "../../scripts/app.js";

const TRAINING = new Set(["AAI_TrainSoundToken", "AAI_TrainSoundAdapter", "AAI_AlignAudioEncoder"]);

app.registerExtension({
    name: "aaisoundtokens.Seed",
    nodeCreated(node) {
        if (!TRAINING.has(node.comfyClass)) return;
        const control = node.widgets?.find((widget) => widget.name === "control_after_generate");
        if (control) control.value = "fixed";
    },
});
