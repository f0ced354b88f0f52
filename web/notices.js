// What went wrong, on the node where it did: the pack's own sentences, which newer front ends keep behind a
// button, and a server that went away.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addView, element, nodeAt, viewElement } from "./view.js";

const NOTICES = new Map();
let running; // {node, step, total} of the pack's node that runs

function say(node, sentence) {
    if (!node || NOTICES.has(node)) return;
    const root = viewElement("notice", "what went wrong", element("p", { class: "aai-message", role: "alert" }, sentence));
    const lines = Math.ceil((sentence.length * 6.5) / Math.max(node.size[0] - 50, 100)) + 1;
    NOTICES.set(node, addView(node, "notice", root, { height: 24 + 17 * Math.min(lines, 9) }));
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.graph?.setDirtyCanvas(true, true);
}

function clear() {
    for (const [node, widget] of NOTICES) {
        const index = node.widgets.indexOf(widget);
        if (index >= 0) node.widgets.splice(index, 1);
        widget.onRemove?.();
        node.setSize([node.size[0], Math.max(node.size[1] - widget.options.getMinHeight(), node.computeSize()[1])]);
        node.graph?.setDirtyCanvas(true, true);
    }
    NOTICES.clear();
}

app.registerExtension({
    name: "AAI.Notices",
    setup() {
        api.addEventListener("promptQueued", clear);
        api.addEventListener("execution_start", clear);
        api.addEventListener("execution_error", ({ detail }) => {
            running = undefined;
            const sentence = detail.exception_message?.trim();
            if (sentence && detail.exception_type?.endsWith("InputError")) say(nodeAt(detail.node_id), sentence);
        });
        api.addEventListener("executing", ({ detail }) => {
            const id = detail?.node ?? detail;
            const node = id ? nodeAt(id) : undefined;
            running = node?.comfyClass?.startsWith("AAI_") ? { node } : undefined;
        });
        api.addEventListener("progress", ({ detail }) => {
            if (running) Object.assign(running, { step: detail.value, total: detail.max });
        });
        api.addEventListener("reconnecting", () => {
            if (!running) return;
            const { node, step, total } = running;
            running = undefined;
            const at = step === undefined ? "" : `, at step ${step} of ${total}`;
            say(node, `The server went away while this node ran${at}. Start ComfyUI again, then press Run.`);
        });
    },
});
