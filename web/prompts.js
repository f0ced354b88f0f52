// Which workflow a prompt belongs to: events name a node by its id alone, which a node of another workflow has as well.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { nodeAt } from "./view.js";

const MOST = 1000; // prompts that are remembered; a queue is seldom longer
const WORKFLOWS = new Map(); // by their prompts' ids
let queueing; // the workflow that is handed in now: its first events may come before its prompt's id does
let begun; // the prompt that runs: our own events do not name it

const shownWorkflow = () => app.extensionManager?.workflow?.activeWorkflow;

const { queuePrompt } = api;
api.queuePrompt = async function (...rest) {
    const workflow = queueing = shownWorkflow();
    try {
        const answer = await queuePrompt.apply(this, rest);
        if (workflow && answer?.prompt_id) WORKFLOWS.set(answer.prompt_id, workflow);
        if (WORKFLOWS.size > MOST) WORKFLOWS.delete(WORKFLOWS.keys().next().value);
        return answer;
    } finally {
        queueing = undefined;
    }
};
api.addEventListener("execution_start", ({ detail }) => { begun = detail?.prompt_id; });

/** The prompt that runs. */
export const runningPrompt = () => begun;

export const isOurs = (node) => Boolean(node?.comfyClass?.startsWith("AAI_"));

/** The node of ours that an event speaks of; undefined where its workflow is not the one that is shown. A prompt from
 * elsewhere, as one from before the page was loaded, is taken for the shown workflow's. Another's node, as KSampler, in
 * which ours work, is given where its workflow is known and its kind is the event's. */
export function nodeOf(id, prompt = begun, kind = undefined) {
    const workflow = WORKFLOWS.get(prompt) ?? queueing;
    if (workflow && workflow !== shownWorkflow()) return undefined;
    const node = nodeAt(id);
    return isOurs(node) || (workflow && kind && node?.comfyClass === kind) ? node : undefined;
}
