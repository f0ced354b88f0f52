// AAI_LoadAudio: its waveform stands where core's nodes have their player, under the name that core's upload
// button and drop target look for; core's own nodes keep theirs.
import { app } from "../../scripts/app.js";
import { t } from "./language.js";
import { addView, element, fileUrl } from "./view.js";
import { stopPlaying, waveform } from "./waveform.js";

const ENDINGS = `
    3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dts eac3 f4v flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4
    mpc mpeg mpg mpga mts oga ogg ogv opus snd spx sph tak ts tta voc vob w64 wav weba webm wma wmv wv
`.trim().split(/\s+/); // those of aai/audio.py
const ACCEPTED = ["audio/*", "video/*", ...ENDINGS.map((ending) => `.${ending}`)].join(",");
const WAVEFORMS = new WeakMap(); // by their nodes

const endingOf = (file) => file.name.split(".").at(-1).toLowerCase();
const isOurs = (file) => /^(audio|video)\//.test(file.type) || ENDINGS.includes(endingOf(file));
const asAudio = (file) =>
    (file.type.startsWith("audio/") ? file : new File([file], file.name, { type: `audio/${endingOf(file)}` }));

/** The address of a file of the input folder, which may stand in a folder there. */
function addressOf(file) {
    const parts = (file ?? "").split("/");
    return fileUrl({ filename: parts.pop(), subfolder: parts.join("/"), type: "input" });
}

/** The file of the input folder that an address is of. */
function fileAt(address) {
    const named = new URL(address || ".", location.href).searchParams;
    return [named.get("subfolder"), named.get("filename")].filter(Boolean).join("/") || undefined;
}

app.registerExtension({
    name: "aaisoundtokens.LoadAudio",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name !== "AAI_LoadAudio") return;
        // After the widgets that keep a value, and before the upload button.
        const { upload, ...widgets } = nodeData.input.required;
        nodeData.input.required = {
            ...widgets, audioUI: ["AAI_WAVEFORM", { socketless: true }], ...(upload ? { upload } : {}),
        };
    },
    setup() {
        // Before core, which makes another node of a video, and nothing of a file without a type.
        window.addEventListener("paste", (event) => {
            const [node, ...others] = app.canvas?.selectedItems ?? [];
            const files = [...(event.clipboardData?.files ?? [])];
            if (node?.comfyClass !== "AAI_LoadAudio" || others.length || !files.some(isOurs)) return;
            if (event.target.closest?.("input, textarea, [contenteditable]")) return;
            event.preventDefault();
            event.stopImmediatePropagation();
            node.pasteFiles(files);
        }, true);
        // The canvas keeps the views of a subgraph that was left, out of sight.
        app.canvas.canvas.addEventListener("litegraph:set-graph", stopPlaying);
        // Nodes 2.0 has a file dialog of its own, which a click opens.
        document.addEventListener("click", ({ target }) => {
            const isDialog = target.matches?.('input[type="file"][accept="audio/*"]');
            if (isDialog && target.closest(".lg-node")?.querySelector(".aai-waveform")) target.accept = ACCEPTED;
        }, true);
    },
    nodeCreated(node) {
        if (node.comfyClass === "AAI_LoadAudio") acceptFiles(node);
    },
    getCustomWidgets() {
        return { AAI_WAVEFORM: (node, name) => ({ widget: addWaveform(node, name) }) };
    },
});

// Core's upload button, drop target and paste let through only what the browser calls audio: no video, whose sound track
// is a sound, too, and no kind that the browser does not know.
function acceptFiles(node) {
    const { pasteFiles, onDragDrop } = node;
    const button = node.widgets?.find((widget) => widget.name === "upload");
    if (!pasteFiles || !button) return;
    const refuse = ({ name }) => WAVEFORMS.get(node)?.tell(t("{name} is no sound or video that this node reads.", { name }));
    node.pasteFiles = (files) => {
        const file = [...files].find(isOurs);
        if (file) return pasteFiles.call(node, [asAudio(file)]) ?? true;
        if (files.length) refuse(files[0]);
        return false;
    };
    node.onDragDrop = (event) => {
        const files = [...(event.dataTransfer?.files ?? [])];
        if (files.some(isOurs)) return node.pasteFiles(files);
        if (files.length) refuse(files[0]);
        return onDragDrop?.call(node, event);
    };
    const input = element("input", {
        type: "file", accept: ACCEPTED,
        onchange: () => {
            node.pasteFiles(input.files);
            input.value = "";
        },
    });
    button.callback = () => input.click();
}

function addWaveform(node, name) {
    const find = (wanted) => node.widgets.find((widget) => widget.name === wanted);
    const view = waveform((start, length) => {
        for (const [wanted, value] of [["start", start], ["length", length]]) {
            const widget = find(wanted);
            if (widget.value === value) continue;
            widget.value = value;
            widget.callback?.(value, app.canvas, node);
        }
        node.graph?.setDirtyCanvas(true, true);
    }, () => {
        // An undo step: the change tracker waits for a mouseup, which a drag of a handle does not give.
        app.canvas.emitBeforeChange?.();
        app.canvas.emitAfterChange?.();
    });
    WAVEFORMS.set(node, view);
    const isLinked = (wanted) => (node.inputs?.find((input) => input.widget?.name === wanted)?.link ?? null) !== null;
    const named = () => (isLinked("audio") ? null : find("audio")?.value);
    let loaded; // the file's name; null for a link, whose value is known only in a run
    const choose = () => {
        view.choose(Number(find("start")?.value ?? 0), Number(find("length")?.value ?? 0));
        view.lock([isLinked("start") && "start", isLinked("length") && "end"]);
    };
    const load = (file, url) => {
        loaded = isLinked("audio") ? null : file;
        choose();
        view.load(loaded === null ? "" : url);
        if (loaded === null) view.tell(t("The sound comes by a link."));
    };
    const follow = () => {
        choose();
        // Older front ends set no address on a pasted node.
        const file = named();
        if (file !== loaded) load(file, addressOf(file));
    };
    // The upload button sets the address here, as it would on core's player; older front ends before the widget's value.
    Object.defineProperty(view.root, "src", { set: (url) => load(fileAt(url) ?? named(), url) });
    const widget = addView(node, name, view.root, { height: 104 });
    // Typed numbers, undo and loaded workflows: each of them draws the canvas or sets the values.
    widget.options.onDraw = follow;
    for (const wanted of ["start", "length"]) {
        const number = find(wanted);
        const before = number.callback;
        number.callback = function (...values) {
            const result = before?.apply(this, values);
            follow();
            return result;
        };
    }
    const linked = node.onConnectionsChange;
    node.onConnectionsChange = function (...rest) {
        linked?.apply(this, rest);
        follow();
    };
    const removed = node.onRemoved;
    node.onRemoved = function (...rest) {
        view.load("");
        removed?.apply(this, rest);
    };
    return widget;
}
