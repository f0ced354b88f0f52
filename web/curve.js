// A training's losses and their running mean, drawn as they arrive, and its note at the end.
import { t } from "./language.js";
import { element } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";

export function curve(root) {
    let shown;
    const caption = element("p", { class: "aai-line", "aria-live": "off" });
    const note = element("p", { class: "aai-note", role: "status", hidden: true });
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 1000 1000");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const lines = ["losses", "means"].map((name) => {
        const line = document.createElementNS(SVG, "polyline");
        line.setAttribute("class", `aai-${name}`);
        svg.append(line);
        return line;
    });
    const plot = element("div", { class: "aai-plot" }, svg);
    root.append(caption, note, plot, element("p", { class: "aai-hint" }, t("Run, and the loss is drawn here while it trains.")));

    const describe = ({ step, total, means }) =>
        t("step {step} of {total}, loss {loss}", { step, total, loss: means.at(-1).toFixed(4) });
    plot.addEventListener("pointermove", (event) => {
        if (!shown) return;
        const box = plot.getBoundingClientRect();
        const { begun, total, losses } = shown;
        const done = shown.step - begun;
        const at = Math.floor(((((event.clientX - box.left) / box.width) * total - begun) * losses.length) / done);
        const i = Math.min(Math.max(at, 0), losses.length - 1);
        const step = begun + Math.round(((i + 1) * done) / losses.length);
        const [loss, mean] = [shown.losses[i].toFixed(4), shown.means[i].toFixed(4)];
        caption.textContent = t("step {step}: {loss}, mean {mean}", { step, loss, mean });
    });
    plot.addEventListener("pointerleave", () => shown && (caption.textContent = describe(shown)));

    return ({ curve, text = [] }) => {
        if (!curve?.length) return;
        note.textContent = text.join(" ");
        note.hidden = !note.textContent;
        if (!note.hidden) root.classList.add("aai-filled");
        if (!curve[0].losses.length) return;
        [shown] = curve;
        const { begun, step, total, losses, means } = shown;
        const [low, high] = [Math.min(...losses), Math.max(...losses)];
        const scale = 1000 / Math.max(total, step);
        const width = (scale * (step - begun)) / losses.length;
        [losses, means].forEach((values, i) => lines[i].setAttribute("points", values.map((value, x) =>
            `${(begun * scale + (x + 0.5) * width).toFixed(1)},${(960 - (920 * (value - low)) / (high - low || 1)).toFixed(1)}`).join(" ")));
        caption.textContent = describe(shown);
        svg.setAttribute("aria-label", describe(shown));
        root.classList.add("aai-filled");
    };
}
