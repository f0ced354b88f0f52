// A slider between a source picture and an edited one, by mouse, touch or keys.
import { frame, pager } from "./frame.js";
import { t } from "./language.js";
import { element, fileUrl } from "./view.js";

export function compare(root) {
    let pairs = [];
    let at = 0.5;
    const after = element("img", { class: "aai-layer", alt: t("the edited picture"), draggable: "false" });
    const before = element("img", { class: "aai-layer aai-before", alt: t("the source picture"), draggable: "false" });
    const handle = element("div", {
        class: "aai-divider", role: "slider", tabindex: "0", "aria-orientation": "horizontal",
        "aria-label": t("how much of the source picture shows"), "aria-valuemin": "0", "aria-valuemax": "100",
    });
    const view = frame(after, before, handle, element("span", { class: "aai-tag aai-left" }, t("source")),
        element("span", { class: "aai-tag aai-right" }, t("edited")));
    const pages = pager((index) => {
        before.src = fileUrl(pairs[index].before);
        after.src = fileUrl(pairs[index].after);
    });
    root.append(view.stage, element("div", { class: "aai-row" }, pages.root),
        element("p", { class: "aai-hint" }, t("Run, and the source and the edited picture stand here.")));
    after.addEventListener("load", () => view.shape(after));

    const move = (to) => {
        at = Math.min(Math.max(to, 0), 1);
        view.content.style.setProperty("--aai-at", `${100 * at}%`);
        handle.setAttribute("aria-valuenow", Math.round(100 * at));
        handle.setAttribute("aria-valuetext", t("{share} % source", { share: Math.round(100 * at) }));
    };
    move(0.5);
    view.content.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        event.preventDefault();
        view.content.setPointerCapture(event.pointerId);
        handle.focus({ preventScroll: true });
        move(view.place(event)[0]);
    });
    view.content.addEventListener("pointermove", (event) => {
        if (view.content.hasPointerCapture(event.pointerId)) move(view.place(event)[0]);
    });
    handle.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.1, ArrowUp: 0.1 };
        if (event.key in steps) move(at + steps[event.key]);
        else if (event.key === "Home" || event.key === "End") move(event.key === "End" ? 1 : 0);
        else if (event.key === "PageUp" || event.key === "PageDown") pages.step(event.key === "PageDown" ? 1 : -1);
        else return;
        event.preventDefault();
    });
    return (output) => {
        if (!output.pairs?.length) return;
        pairs = output.pairs;
        pages.of(pairs.length);
        root.classList.add("aai-filled");
    };
}
