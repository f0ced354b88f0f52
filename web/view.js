// A view: an element of ours on a node, in both node renderers, which keeps no value in the workflow.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("aai.css", import.meta.url).href;
document.head.append(style);

/** An element with attributes, listeners ({onclick: f}) and children. */
export function element(tag, attributes = {}, ...children) {
    const created = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
        else if (value === true) created.setAttribute(name, "");
        else if (value !== false && value !== undefined) created.setAttribute(name, value);
    }
    created.append(...children);
    return created;
}

/** The address of a picture or sound that a node names: {filename, subfolder, type}. */
export function fileUrl({ filename, subfolder = "", type = "temp" }) {
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

const OWN_KEYS = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", " ",
    "Enter"]);

/** A view's outermost element. Its keys and pointer stay its own; the wheel passes to the canvas. */
export function viewElement(name, label, ...children) {
    const root = element("div", { class: `aai-view aai-${name}`, role: "group", "aria-label": label }, ...children);
    // The canvas would take these as its own commands. All others pass to it: Ctrl+Enter still runs.
    root.addEventListener("keydown", (event) => {
        if (OWN_KEYS.has(event.key) && !event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    root.addEventListener("pointerover", ({ target }) => {
        if (!target.matches(".aai-line")) return;
        const isCut = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
        target.title = isCut ? target.textContent : "";
    });
    root.addEventListener("wheel", (event) => {
        if (root.closest(".lg-node")) return; // Nodes 2.0 brings it to the canvas itself.
        const list = event.target.closest(".aai-bars, .aai-pictures");
        if (list && list.scrollHeight > list.clientHeight && !event.ctrlKey) return;
        event.preventDefault();
        app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event));
    }, { passive: false });
    return root;
}

/** Adds a view to a node; `height` in pixels is the least it takes, and all it takes unless it grows. 0 takes none. */
export function addView(node, name, root, { height, grows = false }) {
    const taken = height && height + 12;
    root.dataset.view = name;
    root.style.minHeight = `${height}px`;
    const widget = node.addDOMWidget(name, `AAI_${name.toUpperCase()}`, root, {
        serialize: false, hideOnZoom: false, socketless: true, margin: 6,
        getMinHeight: () => taken,
        ...(grows ? {} : { getMaxHeight: () => taken }),
    });
    widget.serialize = false;
    return widget;
}

export function removeView(node, widget) {
    const index = node.widgets.indexOf(widget);
    if (index >= 0) node.widgets.splice(index, 1);
    widget.onRemove?.();
}

const SHOWS = new WeakMap();

/** Calls show(output) whenever the node has run, and when a tab with its results comes back. */
export function onOutput(node, show) {
    SHOWS.set(node, show);
    const before = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
        before?.call(this, output, ...rest);
        if (output) show(output);
    };
}

/** Shows an output on a node that has such a view, as if it had run. */
export function showOutput(node, output) {
    if (node && output) SHOWS.get(node)?.(output);
}

/** The node of an execution id, "7", or "5:7" for node 7 of the subgraph that node 5 is. */
export function nodeAt(id) {
    const parts = String(id).split(":");
    const own = parts.pop();
    const graph = parts.reduce((outer, part) => outer?.getNodeById(Number(part))?.subgraph, app.rootGraph ?? app.graph);
    return graph?.getNodeById(Number(own));
}

app.registerExtension({
    name: "aaisoundtokens.View",
    onNodeOutputsUpdated(outputs) {
        for (const [locator, output] of Object.entries(outputs)) {
            // "7", or "<the subgraph's uuid>:7"
            const [own, subgraph] = locator.split(":").reverse();
            const root = app.rootGraph ?? app.graph;
            const graph = subgraph ? root?.subgraphs?.get(subgraph) : root;
            showOutput(graph?.getNodeById(Number(own)), output);
        }
    },
    afterConfigureGraph() {
        // Nodes 2.0 goes by a node's number and a widget's name: after undo, the old node's view would stay.
        requestAnimationFrame(() => {
            for (const node of app.canvas.graph?._nodes ?? []) {
                for (const { element } of node.widgets ?? []) {
                    if (!element?.dataset?.view || element.isConnected) continue;
                    const place = `.lg-node[data-node-id="${node.id}"] [data-view="${element.dataset.view}"]`;
                    document.querySelector(place)?.replaceWith(element);
                }
            }
        });
    },
});
