// Pictures laid over one another in a frame of their shape, as large as the node allows.
import { t } from "./language.js";
import { element } from "./view.js";

/** {stage, content, shape(image), place(event)}: the frame, and where in it an event is, as shares of its width and height. */
export function frame(...layers) {
    const content = element("div", { class: "aai-frame" }, ...layers);
    const stage = element("div", { class: "aai-stage" }, content);
    return {
        stage,
        content,
        shape(image) {
            if (!image.naturalWidth) return;
            content.style.setProperty("--aai-width", image.naturalWidth);
            content.style.setProperty("--aai-height", image.naturalHeight);
        },
        place(event) {
            const box = content.getBoundingClientRect();
            const share = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1);
            return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
        },
    };
}

/** Buttons to the picture before and the next of `count`; show(index) shows one, and is called at once. */
export function pager(show) {
    let index = 0;
    let count = 0;
    const counter = element("span", { class: "aai-count", "aria-live": "polite" });
    const step = (by) => {
        index = (index + by + count) % count;
        counter.textContent = t("{number} of {count}", { number: index + 1, count });
        show(index);
    };
    const root = element("span", { class: "aai-pager" },
        element("button", { type: "button", "aria-label": t("previous picture"), onclick: () => step(-1) }, "‹"),
        counter,
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
