// What a node says of its result in a sentence, in a view that is there only as long as there is one.
import { t } from "./language.js";
import { addView, element, removeView, viewElement } from "./view.js";

/** A node's show(output). */
export function note(node) {
    const line = element("p", { role: "status" });
    const root = viewElement("said", t("what the node says"), line);
    let widget;
    let grown;
    return ({ text = [] }) => {
        const said = text.join(" ");
        if (said === line.textContent) return;
        line.textContent = said;
        if (widget) {
            removeView(node, widget);
            node.setSize([node.size[0], Math.max(node.size[1] - grown, node.computeSize()[1])]);
        }
        widget = undefined;
        if (said) {
            const before = node.size[1];
            const lines = Math.ceil((said.length * 6.5) / Math.max(node.size[0] - 40, 100));
            widget = addView(node, "said", root, { height: 16 + 17 * Math.min(lines, 9) });
            node.setSize([node.size[0], Math.max(before, node.computeSize()[1])]);
            grown = node.size[1] - before;
        }
        node.graph?.setDirtyCanvas(true, true);
    };
}
