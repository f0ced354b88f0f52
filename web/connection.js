// When the server goes away while one of our nodes runs, that node says so and what to do.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addView, element, nodeAt, viewElement } from "./view.js";

let running; // {node, step, total} of ours
const NOTICES = new Map();

function clear() {
    for (const [node, widget] of NOTICES) {
        widget.onRemove?.();
        node.widgets = node.widgets.filter((other) => other !== widget);
    }
    NOTICES.clear();
}

app.registerExtension({
    name: "AAI.Connection",
    setup() {
        api.addEventListener("executing", ({ detail }) => {
            const id = detail?.node ?? detail;
            const node = id ? nodeAt(id) : undefined;
            running = node?.comfyClass?.startsWith("AAI_") ? { node } : undefined;
        });
        api.addEventListener("progress", ({ detail }) => {
            if (running) Object.assign(running, { step: detail.value, total: detail.max });
        });
        api.addEventListener("execution_start", clear);
        api.addEventListener("reconnecting", () => {
            if (!running || NOTICES.has(running.node)) return;
            const { node, step, total } = running;
            running = undefined;
            const at = step === undefined ? "" : `, at step ${step} of ${total}`;
            const root = viewElement("notice", "notice", element("p", { class: "aai-message", role: "alert" },
                `The server went away while this node ran${at}. Start ComfyUI again, then press Run.`));
            NOTICES.set(node, addView(node, "notice", root, { height: 48 }));
            node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
            node.graph?.setDirtyCanvas(true, true);
        });
    },
});
