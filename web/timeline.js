// SoundTimeline's sound in time: a band of the words that are heard, and below it how much of each shows and how
// loud it is.
import { t } from "./language.js";
import { element } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000;
const [QUIETEST, LOUDEST, MOST] = [-70, 0, 2];
const HUES = [35, 205, 345, 130, 265, 175, 55, 305, 90, 235];

function shape(kind, name) {
    const created = document.createElementNS(SVG, kind);
    created.setAttribute("class", name);
    return created;
}

function drawing(...parts) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDE} ${WIDE}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(...parts);
    return svg;
}

/** Neighbours of one word as {word, begin, end} in columns. */
function stretches(words) {
    const found = [];
    words.forEach((word, i) => {
        if (found.at(-1)?.word === word) found.at(-1).end = i + 1;
        else found.push({ word, begin: i, end: i + 1 });
    });
    return found;
}

export function timeline(root) {
    let shown;
    const caption = element("p", { class: "aai-line", "aria-live": "off" });
    const band = element("div", { class: "aai-words-band" });
    const filled = shape("polygon", "aai-scales");
    const line = shape("polyline", "aai-losses");
    const cursor = element("span", { class: "aai-playhead", hidden: true });
    const plot = element("div", { class: "aai-plot", role: "img" }, drawing(filled, line), cursor);
    root.append(caption, band, plot, element("p", { class: "aai-hint" }, t("Run, and the sound's words and loudness stand here.")));

    const whole = ({ frames, seconds, words }) => t("{frames} frames in {seconds} s; {words}", {
        frames, seconds: seconds.toFixed(1), words: [...new Set(words)].filter(Boolean).join(", ") || t("nothing that is known"),
    });
    const over = (event) => {
        if (!shown) return;
        const box = plot.getBoundingClientRect();
        const at = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
        const i = Math.min(Math.floor(at * shown.words.length), shown.words.length - 1);
        cursor.hidden = false;
        cursor.style.left = `${100 * at}%`;
        caption.textContent = t("{time} s: {word}, {loudness} LUFS, scale {scale}", {
            time: (at * shown.seconds).toFixed(1), word: shown.words[i] || t("nothing that is known"),
            loudness: shown.loudness[i] <= QUIETEST ? "−∞" : shown.loudness[i].toFixed(1), scale: shown.scales[i].toFixed(2),
        });
    };
    const away = () => {
        cursor.hidden = true;
        if (shown) caption.textContent = whole(shown);
    };
    for (const part of [band, plot]) {
        part.addEventListener("pointermove", over);
        part.addEventListener("pointerleave", away);
    }

    return ({ timeline }) => {
        if (!timeline?.length) return;
        [shown] = timeline;
        const { words, loudness, scales } = shown;
        const across = (i) => ((i * WIDE) / words.length).toFixed(1);
        const down = (share) => (980 - 960 * Math.min(Math.max(share, 0), 1)).toFixed(1);
        const known = [...new Set(words)].filter(Boolean);
        band.replaceChildren(...stretches(words).map(({ word, begin, end }) => {
            const hue = HUES[known.indexOf(word) % HUES.length];
            const width = `width: ${(100 * (end - begin)) / words.length}%`;
            return element("span", { style: word ? `${width}; --aai-hue: ${hue}` : width, class: word ? "aai-known" : "", title: word }, word);
        }));
        const steps = (values, place) => values.flatMap((value, i) => [`${across(i)},${place(value)}`, `${across(i + 1)},${place(value)}`]);
        filled.setAttribute("points", [`0,980`, ...steps(scales, (scale) => down(scale / MOST)), `${WIDE},980`].join(" "));
        line.setAttribute("points", steps(loudness, (level) => down((level - QUIETEST) / (LOUDEST - QUIETEST))).join(" "));
        caption.textContent = whole(shown);
        plot.setAttribute("aria-label", whole(shown));
        root.classList.add("aai-filled");
    };
}
