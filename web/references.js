// The reference pictures that were chosen for a sound, best first, with their scores.
import { t } from "./language.js";
import { element, fileUrl } from "./view.js";

export function references(root) {
    const list = element("ul", { class: "aai-pictures" });
    const note = element("p", { class: "aai-note", role: "status", hidden: true });
    root.append(list, note, element("p", { class: "aai-hint" }, t("Run, and the chosen pictures stand here.")));
    return ({ references, text = [] }) => {
        if (!references?.length) return;
        note.textContent = text.join(" ");
        note.hidden = !note.textContent;
        list.replaceChildren(...references.map(({ name, score, ...file }) => element("li", {},
            element("a", { href: fileUrl(file), target: "_blank", title: t("{name}, cosine {score}", { name, score: score.toFixed(3) }) },
                element("img", { src: fileUrl(file), alt: name, draggable: "false" })),
            element("span", { class: "aai-name", title: name }, name),
            element("span", { class: "aai-number" }, score.toFixed(3)))));
        root.classList.add("aai-filled");
    };
}
