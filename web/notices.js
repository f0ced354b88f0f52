// What went wrong, on the node where it did: the pack's own sentences, which newer front ends keep behind a
// button, and a server that went away.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { t } from "./language.js";
import { addView, element, nodeAt, viewElement } from "./view.js";

const NOTICES = new Map();
let running; // {node, step, total} of the pack's node that runs

function say(node, sentence, isOfConnection = false) {
    if (!node || NOTICES.has(node)) return;
    const root = viewElement("notice", t("what went wrong"), element("p", { class: "aai-message", role: "alert" }, sentence));
    const lines = Math.ceil((sentence.length * 6.5) / Math.max(node.size[0] - 50, 100)) + 1;
    const widget = addView(node, "notice", root, { height: 24 + 17 * Math.min(lines, 9) });
    widget.isOfConnection = isOfConnection;
    NOTICES.set(node, widget);
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.graph?.setDirtyCanvas(true, true);
}

function clear(which = () => true) {
    for (const [node, widget] of [...NOTICES].filter(([, widget]) => which(widget))) {
        NOTICES.delete(node);
        const index = node.widgets.indexOf(widget);
        if (index >= 0) node.widgets.splice(index, 1);
        widget.onRemove?.();
        node.setSize([node.size[0], Math.max(node.size[1] - widget.options.getMinHeight(), node.computeSize()[1])]);
        node.graph?.setDirtyCanvas(true, true);
    }
}

app.registerExtension({
    name: "AAI.Notices",
    setup() {
        // A server that has just come back may not tell that it starts. A run may fail before it counts as queued.
        api.addEventListener("promptQueued", () => clear((widget) => widget.isOfConnection));
        api.addEventListener("execution_start", () => clear());
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
            const sentence = step === undefined
                ? t("The server went away while this node ran. Start ComfyUI again, then press Run.")
                : t("The server went away while this node ran, at step {step} of {total}. Start ComfyUI again, then press Run.",
                    { step, total });
            say(node, sentence, true);
        });
    },
});
