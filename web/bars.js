// Bars with a name and a number: the words that a sound is nearest to, and how much of it a picture shows.
import { t } from "./language.js";
import { element } from "./view.js";

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function bar(name, share, text, { mark, kind = "" } = {}) {
    const fill = element("span", { class: "aai-fill", style: `width: ${100 * Math.min(Math.max(share, 0), 1)}%` });
    const track = element("span", { class: "aai-track", "aria-hidden": "true" }, fill);
    if (mark !== undefined) track.append(element("span", { class: "aai-mark", style: `left: ${100 * mark}%` }));
    return element("li", { class: kind }, element("span", { class: "aai-name", title: name }, name), track,
        element("span", { class: "aai-number" }, text));
}

/** EncodeSound's nearest words, "unknown" among them, and a warning where the encoder knows no word for the sound; of
 * a recording of several sounds these and their shares. */
export function words(root) {
    const warning = element("p", { class: "aai-line aai-outside", hidden: "" }, t("outside of what this encoder knows"));
    const list = element("ol", { class: "aai-bars", "aria-live": "polite" });
    root.append(warning, list, element("p", { class: "aai-hint" }, t("Run, and the words nearest to the sound stand here.")));
    return ({ words, known, parts = [] }) => {
        if (!words) return;
        const nearest = words.map(({ word, score, unknown }) =>
            bar(unknown ? t("unknown") : word, score, percent(score), { kind: unknown && known?.[0] === false ? "aai-unknown" : "" }));
        const sounds = parts.map(({ word, share }) => bar(word, share, percent(share)));
        list.replaceChildren(...(sounds.length ? sounds : nearest));
        warning.hidden = known?.[0] !== false;
        // An encoder without words clears the words of the one before.
        root.classList.toggle("aai-filled", words.length > 0);
    };
}

/** LoudnessReweight's loudness and scales; the mark is scale 1, where the prompt is as it was. */
export function loudness(root) {
    const line = element("p", { class: "aai-line", "aria-live": "polite" });
    const list = element("ol", { class: "aai-bars" });
    root.append(line, list, element("p", { class: "aai-hint" }, t("Run, and the loudness and its scale stand here.")));
    return ({ loudness }) => {
        if (!loudness) return;
        root.classList.toggle("aai-filled", loudness.length > 0);
        if (!loudness.length) {
            line.textContent = "";
            list.replaceChildren();
            return;
        }
        const [{ loudness: lufs, reference, scales }] = loudness;
        if (lufs === null || lufs === undefined) line.textContent = t("scale as typed");
        else if (lufs <= -70) line.textContent = t("silent: scale 0");
        else {
            const numbers = { loudness: lufs.toFixed(1), reference: reference.toFixed(1) };
            line.textContent = t("{loudness} LUFS, reference {reference}", numbers);
        }
        const name = (i) => (scales.length > 1 ? t("picture {number}", { number: i + 1 }) : t("scale"));
        list.replaceChildren(...scales.map((scale, i) => bar(name(i), scale / 2, `× ${scale.toFixed(2)}`, { mark: 0.5 })));
    };
}
