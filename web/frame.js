// Pictures laid over one another in a frame of their shape, as large as the node allows.
import { t } from "./language.js";
import { element } from "./view.js";

/** {stage, frame, shape(image)}: the frame, and where in it an event is, as shares of its width and height. */
export function frame(...layers) {
    const held = element("div", { class: "aai-frame" }, ...layers);
    const stage = element("div", { class: "aai-stage" }, held);
    return {
        stage,
        held,
        shape(image) {
            if (!image.naturalWidth) return;
            held.style.setProperty("--aai-width", image.naturalWidth);
            held.style.setProperty("--aai-height", image.naturalHeight);
        },
        place(event) {
            const box = held.getBoundingClientRect();
            const share = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1);
            return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
        },
    };
}

/** Buttons to the picture before and the next of `count`; show(index) shows one, and is called at once. */
export function pager(show) {
    let index = 0;
    let count = 0;
    const told = element("span", { class: "aai-count", "aria-live": "polite" });
    const step = (by) => {
        index = (index + by + count) % count;
        told.textContent = t("{number} of {count}", { number: index + 1, count });
        show(index);
    };
    const root = element("span", { class: "aai-pager" },
        element("button", { type: "button", "aria-label": t("previous picture"), onclick: () => step(-1) }, "‹"),
        told,
        element("button", { type: "button", "aria-label": t("next picture"), onclick: () => step(1) }, "›"));
    return {
        root,
        step: (by) => count > 1 && step(by),
        of(total) {
            count = total;
            index = Math.min(index, count - 1);
            root.hidden = count < 2;
            step(0);
        },
    };
}
