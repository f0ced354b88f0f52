// The views that show nodes' results on the nodes.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { loudness, words } from "./bars.js";
import { compare } from "./compare.js";
import { curve } from "./curve.js";
import { heatmap } from "./heatmap.js";
import { t } from "./language.js";
import { note } from "./note.js";
import { nodeOf } from "./prompts.js";
import { references } from "./references.js";
import { timeline } from "./timeline.js";
import { addView, onOutput, showOutput, viewElement } from "./view.js";

const VIEWS = {
    AAI_EncodeSound: { name: "words", label: () => t("nearest words"), make: words, height: 118 },
    AAI_LoudnessReweight: { name: "loudness", label: () => t("loudness and scale"), make: loudness, height: 62, grows: true },
    AAI_SoundTimeline: { name: "timeline", label: () => t("words and loudness over time"), make: timeline, height: 118, grows: true },
    AAI_RetrieveReferenceImages: { name: "references", label: () => t("chosen pictures"), make: references, height: 112, grows: true },
    AAI_TrainSoundToken: { name: "curve", label: () => t("loss curve"), make: curve, height: 130, grows: true },
    AAI_AlignAudioEncoder: { name: "curve", label: () => t("loss curve"), make: curve, height: 130, grows: true },
    AAI_TrainSoundAdapter: { name: "curve", label: () => t("loss curve"), make: curve, height: 130, grows: true },
    AAI_DrawHeatmap: { name: "heatmap", label: () => t("heat map"), make: heatmap, height: 320, grows: true },
    AAI_CompareImages: { name: "compare", label: () => t("source and edited picture"), make: compare, height: 300, grows: true },
};
const NOTED = new Set(["AAI_SaveSoundToken", "AAI_InstantSoundToken", "AAI_BridgeSoundEncoder", "AAI_SaveSoundEncoder"]);

const ROOTS = new WeakMap(); // the views' outermost elements, by their nodes
const TOLD = new WeakMap(); // by their nodes: the sound that a toast told last

/** Whether a person sees an element: not in APP mode, not within a closed subgraph. */
function isSeen(element) {
    const { left, top, width, height } = element?.getBoundingClientRect() ?? {};
    return Boolean(width) && document.elementsFromPoint(left + width / 2, top + height / 2).includes(element);
}

/** Tells of a sound that the encoder does not know, where the node's own warning is not in sight. */
function warn(node, { known, words: heard = [] }) {
    if (known?.[0] !== false) return TOLD.delete(node);
    const sound = JSON.stringify(heard);
    if (TOLD.get(node) === sound || isSeen(ROOTS.get(node)?.querySelector(".aai-outside"))) return;
    TOLD.set(node, sound);
    // Until the pictures are there, which it explains.
    app.extensionManager?.toast?.add({
        severity: "warn", life: 60000, summary: t("outside of what this encoder knows"),
        detail: t("The picture may show what the sound is most like, or nothing clear."),
    });
}

app.registerExtension({
    name: "aaisoundtokens.Results",
    setup() {
        api.addEventListener("aai.curve", ({ detail }) => showOutput(nodeOf(detail.node), detail));
        api.addEventListener("executed", ({ detail }) => {
            const node = nodeOf(detail.node, detail.prompt_id);
            // Outputs of other packs' nodes may have the same names. The node itself shows its output before the toast.
            if (node?.comfyClass !== "AAI_EncodeSound" || !detail.output) return;
            setTimeout(() => warn(node, detail.output));
        });
    },
    nodeCreated(node) {
        if (NOTED.has(node.comfyClass)) onOutput(node, note(node));
        const view = VIEWS[node.comfyClass];
        if (!view) return;
        const root = viewElement(view.name, view.label());
        ROOTS.set(node, root);
        const show = view.make(root);
        addView(node, view.name, root, view);
        onOutput(node, show);
        node.setSize([Math.max(node.size[0], 300), Math.max(node.size[1], node.computeSize()[1])]);
    },
});
