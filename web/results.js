// What nodes have found, shown on the nodes.
import { app } from "../../scripts/app.js";
import { loudness, words } from "./bars.js";
import { compare } from "./compare.js";
import { heatmap } from "./heatmap.js";
import { references } from "./references.js";
import { addView, onOutput, viewElement } from "./view.js";

const VIEWS = {
    AAI_EncodeSound: { name: "words", label: "nearest words", make: words, height: 118 },
    AAI_LoudnessReweight: { name: "loudness", label: "loudness and scale", make: loudness, height: 62 },
    AAI_RetrieveReferenceImages: { name: "references", label: "chosen pictures", make: references, height: 112, grows: true },
    AAI_DrawHeatmap: { name: "heatmap", label: "heat map", make: heatmap, height: 320, grows: true },
    AAI_CompareImages: { name: "compare", label: "source and edited picture", make: compare, height: 300, grows: true },
};

app.registerExtension({
    name: "AAI.Results",
    nodeCreated(node) {
        const view = VIEWS[node.comfyClass];
        if (!view) return;
        const root = viewElement(view.name, view.label);
        const show = view.make(root);
        addView(node, view.name, root, view);
        onOutput(node, show);
        node.setSize([Math.max(node.size[0], 300), Math.max(node.size[1], node.computeSize()[1])]);
    },
});
