// Where a token attended: its heat map over the picture, with an opacity slider and the value under the mouse.
import { frame, pager } from "./frame.js";
import { t } from "./language.js";
import { element, fileUrl } from "./view.js";

export function heatmap(root) {
    let maps = [];
    let shown;
    let valueAt; // (x, y) as shares of the picture -> the attention there, 1 being the average
    let cursor = [0.5, 0.5];
    const picture = element("img", { class: "aai-layer", alt: t("the picture"), draggable: "false" });
    const layer = element("img", { class: "aai-layer aai-heat", alt: t("the heat map"), draggable: "false" });
    const values = new Image();
    const cross = element("span", { class: "aai-cross", hidden: true });
    const view = frame(picture, layer, cross);
    view.stage.tabIndex = 0;
    view.stage.setAttribute("aria-label", t("the picture under its heat map; arrow keys read its values"));
    const value = element("output", { class: "aai-line" });
    const opacity = element("input", {
        type: "range", min: 0, max: 1, step: 0.05, value: 0.6, "aria-label": t("opacity of the heat map"),
        oninput: () => { layer.style.opacity = opacity.value; },
    });
    const pages = pager((index) => {
        shown = maps[index];
        valueAt = undefined;
        picture.src = fileUrl(shown.picture);
        layer.src = fileUrl(shown.heat);
        values.src = fileUrl(shown.values);
        describe();
    });
    root.append(view.stage, value, element("div", { class: "aai-row" },
        element("label", { class: "aai-wide" }, t("heat"), opacity), pages.root),
        element("p", { class: "aai-hint" }, t("Run, and the picture under its heat map stands here.")));
    picture.addEventListener("load", () => view.shape(picture));
    values.addEventListener("load", () => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [values.naturalWidth, values.naturalHeight];
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(values, 0, 0);
        const inside = (share, side) => Math.min(Math.floor(share * side), side - 1);
        valueAt = (x, y) => {
            const at = [inside(x, canvas.width), inside(y, canvas.height)];
            const [grey] = context.getImageData(...at, 1, 1).data;
            return (grey / 255) * shown.most;
        };
    });

    function describe(place) {
        const { token, share } = shown;
        cross.hidden = !place;
        if (place) {
            cursor = place;
            cross.style.left = `${100 * place[0]}%`;
            cross.style.top = `${100 * place[1]}%`;
            const found = valueAt?.(...place).toFixed(1);
            value.textContent = valueAt ? t("<{token}> here: {found} × its average", { token, found }) : "…";
        } else {
            value.textContent = t("<{token}> has {share} % of the attention", { token, share: (100 * share).toFixed(1) });
        }
    }
    view.content.addEventListener("pointermove", (event) => shown && describe(view.place(event)));
    view.content.addEventListener("pointerleave", () => shown && describe());
    view.stage.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!by || !shown) return;
        event.preventDefault();
        describe(cursor.map((at, i) => Math.min(Math.max(at + 0.05 * by[i], 0), 1)));
    });
    view.stage.addEventListener("blur", () => shown && describe());
    return ({ heatmaps, opacity: [first] = [] }) => {
        if (!heatmaps?.length) return;
        maps = heatmaps;
        if (first !== undefined) opacity.value = first;
        layer.style.opacity = opacity.value;
        pages.of(maps.length);
        root.classList.add("aai-filled");
    };
}
