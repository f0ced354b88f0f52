// AAI_LoadAudio: its waveform stands where core's nodes have their player, under the name that core's upload
// button and drop target look for; core's own nodes keep theirs.
import { app } from "../../scripts/app.js";
import { addView, element } from "./view.js";
import { waveform } from "./waveform.js";

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
    nodeCreated(node) {
        if (node.comfyClass === "AAI_LoadAudio") acceptVideos(node);
    },
    getCustomWidgets() {
        return { AAI_WAVEFORM: (node, name) => ({ widget: addWaveform(node, name) }) };
    },
});

// Core's upload button, drop target and paste let audio files through only; a video's sound track is a sound, too.
function acceptVideos(node) {
    const { pasteFiles, onDragDrop } = node;
    const button = node.widgets?.find((widget) => widget.name === "upload");
    if (!pasteFiles || !button) return;
    const isVideo = (file) => file.type.startsWith("video/");
    const asSound = (file) => (isVideo(file) ? new File([file], file.name, { type: file.type.replace("video/", "audio/") }) : file);
    node.pasteFiles = (files) => pasteFiles.call(node, [...files].map(asSound));
    node.onDragDrop = (event) => {
        const videos = [...(event.dataTransfer?.files ?? [])].filter(isVideo);
        return videos.length ? node.pasteFiles(videos) : onDragDrop?.call(node, event);
    };
    const input = element("input", {
        type: "file", accept: "audio/*,video/*",
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
    });
    const follow = () => view.choose(Number(find("start")?.value ?? 0), Number(find("length")?.value ?? 0));
    // The upload button sets the address here, as it would on core's player.
    Object.defineProperty(view.root, "src", { set: (url) => { follow(); view.load(url); } });
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
    const removed = node.onRemoved;
    node.onRemoved = function (...rest) {
        view.load("");
        removed?.apply(this, rest);
    };
    return widget;
}
