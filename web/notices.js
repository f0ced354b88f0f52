// What went wrong, on the node where it did: the pack's own sentences, which newer front ends keep behind a
// button, and a server that went away.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { t } from "./language.js";
import { isOurs, nodeOf, runningPrompt } from "./prompts.js";
import { addView, element, removeView, viewElement } from "./view.js";

const NOTICES = new Map();
const GAP = 30; // pixels that stay free below: a view's margins, and a little
let running; // {id, prompt, step, total} of the node that runs

/** How far a node may grow before it covers another, in the graph's pixels; Nodes 2.0 draws nodes taller than their size. */
function roomBelow(node) {
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const box = (one) => {
        const drawn = document.querySelector(`[data-node-id="${one.id}"]`)?.getBoundingClientRect();
        const height = Math.max(one.size[1], (drawn?.height ?? 0) / app.canvas.ds.scale - title);
        return { left: one.pos[0], right: one.pos[0] + one.size[0], top: one.pos[1] - title, bottom: one.pos[1] + height };
    };
    const own = box(node);
    const below = (node.graph?._nodes ?? []).filter((one) => one !== node).map(box)
        .filter((one) => one.left < own.right && own.left < one.right && one.top > own.top);
    return Math.min(...below.map((one) => one.top - own.bottom), Infinity);
}

function say(node, sentence, isOfConnection = false) {
    if (!node || NOTICES.has(node)) return;
    const close = element("button", { type: "button", "aria-label": t("close"), onclick: () => clear((one) => one === widget) }, "×");
    const box = element("div", { class: "aai-told" }, element("p", { role: "alert" }, sentence), close);
    const root = viewElement("notice", t("what went wrong"), box);
    const lines = Math.ceil((sentence.length * 6.5) / Math.max(node.size[0] - 80, 100)) + 1;
    // Where there is no room below, and on others' nodes, the notice lies over what is above it in the node. The canvas
    // takes a height of 0 for one that is not told.
    const room = isOurs(node) ? roomBelow(node) - GAP : 0;
    const widget = addView(node, "notice", root, { height: Math.max(Math.min(24 + 17 * Math.min(lines, 9), room), 1) });
    const before = node.size[1];
    widget.isOfConnection = isOfConnection;
    NOTICES.set(node, widget);
    node.setSize([node.size[0], Math.max(before, Math.min(node.computeSize()[1], before + Math.max(room, 0)))]);
    const measure = () => { widget.grown = node.size[1] - before; };
    measure();
    setTimeout(measure, 500); // Nodes 2.0 makes a node as tall as it has drawn it.
    node.graph?.setDirtyCanvas(true, true);
}

function clear(which = () => true) {
    for (const [node, widget] of [...NOTICES].filter(([, widget]) => which(widget))) {
        NOTICES.delete(node);
        removeView(node, widget);
        node.setSize([node.size[0], Math.max(node.size[1] - widget.grown, node.computeSize()[1])]);
        node.graph?.setDirtyCanvas(true, true);
    }
}

app.registerExtension({
    name: "aaisoundtokens.Notices",
    nodeCreated(node) {
        if (!isOurs(node)) return;
        const { onSerialize } = node;
        // A workflow that is opened again has no notice.
        node.onSerialize = function (saved) {
            onSerialize?.call(this, saved);
            const grown = NOTICES.get(node)?.grown;
            if (grown) saved.size = [saved.size[0], saved.size[1] - grown];
        };
    },
    setup() {
        // A server that has just come back may not tell that it starts. A run may fail before it counts as queued.
        api.addEventListener("promptQueued", () => clear((widget) => widget.isOfConnection));
        api.addEventListener("execution_start", () => clear());
        api.addEventListener("execution_error", ({ detail }) => {
            running = undefined;
            const sentence = detail.exception_message?.trim();
            if (!sentence || !detail.exception_type?.endsWith("InputError")) return;
            say(nodeOf(detail.node_id, detail.prompt_id, detail.node_type), sentence);
        });
        api.addEventListener("executing", ({ detail }) => {
            const id = detail?.node ?? detail;
            running = id ? { id, prompt: runningPrompt() } : undefined;
        });
        api.addEventListener("progress", ({ detail }) => {
            if (running) Object.assign(running, { step: detail.value, total: detail.max });
        });
        api.addEventListener("reconnecting", () => {
            if (!running) return;
            const { id, prompt, step, total } = running;
            running = undefined;
            const sentence = step === undefined
                ? t("The server went away while this node ran. Start ComfyUI again, then press Run.")
                : t("The server went away while this node ran, at step {step} of {total}. Start ComfyUI again, then press Run.",
                    { step, total });
            say(nodeOf(id, prompt), sentence, true);
        });
    },
});
