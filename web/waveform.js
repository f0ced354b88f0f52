// A sound's waveform with a part chosen by two handles, and a player of that part.
import { t } from "./language.js";
import { element, viewElement } from "./view.js";

const STEP = 0.1; // seconds, as the node's widgets count
const BINS = 300;
// A browser decodes the whole file at its own rate to draw it, whatever rate is asked for: a minute of stereo takes it 50 MB.
const LONGEST = 900; // seconds
const LARGEST = 200e6; // bytes
const LARGEST_UNTOLD = 20e6; // bytes of a file whose length the browser cannot tell
const RATE = 8000; // Hz, enough for an outline

const round = (seconds) => Math.round(seconds / STEP) * STEP;
const format = (seconds) => `${seconds.toFixed(1)} s`;
let playing;

/** Ends what is played, whichever view plays it. */
export const stopPlaying = () => playing?.();

/** {root, load(url), choose(start, length), lock(handles), tell(text), stop()}; choose's length 0 takes all to the end, as
 * on the node. A handle of lock's, "start" or "end", stays where it is.
 * changed(start, length) is called when the user has moved a handle, settled() when a drag or double click is over. */
export function waveform(changed, settled) {
    let duration = 0;
    let chosen = { start: 0, length: 0 };
    let locked = [];
    let loading;
    const audio = new Audio();
    audio.preload = "none";

    const outline = (name) => {
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.setAttribute("viewBox", `0 -1 ${BINS} 2`);
        svg.setAttribute("preserveAspectRatio", "none");
        svg.setAttribute("class", `aai-outline aai-${name}`);
        svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
        return svg;
    };
    const handle = (name, label) => element("div", {
        class: `aai-handle aai-${name}`, role: "slider", tabindex: "0", "aria-label": label,
        "aria-valuemin": "0",
    });
    const whole = outline("whole");
    const part = outline("part");
    const handles = { start: handle("start", t("start of the part")), end: handle("end", t("end of the part")) };
    const head = element("span", { class: "aai-playhead", hidden: true });
    const message = element("p", { class: "aai-message", role: "status" });
    const leftOut = element("p", { class: "aai-left-out", role: "status", hidden: true });
    const track = element("div", { class: "aai-wave" }, whole, part, head, handles.start, handles.end, leftOut, message);
    const button = element("button", { type: "button", class: "aai-play", "aria-label": t("play the part") }, "▶");
    const line = element("span", { class: "aai-line" });
    const root = viewElement("waveform", t("the sound and the part that is used"), track,
        element("div", { class: "aai-row" }, button, line));

    const end = () => (chosen.length > 0 ? Math.min(chosen.start + chosen.length, duration) : duration);

    function draw() {
        if (!duration) return;
        const shares = { start: Math.min(chosen.start / duration, 1), end: Math.max(end(), chosen.start) / duration };
        shares.end = Math.min(shares.end, 1);
        part.style.clipPath = `inset(0 ${100 * (1 - shares.end)}% 0 ${100 * shares.start}%)`;
        for (const name of ["start", "end"]) {
            const at = name === "start" ? chosen.start : end();
            handles[name].style.left = `${100 * shares[name]}%`;
            handles[name].setAttribute("aria-valuemax", duration.toFixed(1));
            handles[name].setAttribute("aria-valuenow", at.toFixed(1));
            handles[name].setAttribute("aria-valuetext", format(at));
        }
        const nothing = chosen.start >= duration;
        root.classList.toggle("aai-wrong", nothing);
        button.disabled = nothing;
        const over = chosen.length > 0 && chosen.start + chosen.length > duration + STEP / 2;
        const times = {
            start: format(chosen.start), end: format(end()), length: format(end() - chosen.start), whole: format(duration),
        };
        if (nothing) line.textContent = t("Nothing is left: the sound ends at {whole}. Start earlier.", times);
        else if (over) line.textContent = t("{start} to {end}, {length} of {whole} (it ends there)", times);
        else line.textContent = t("{start} to {end}, {length} of {whole}", times);
    }

    function say(text) {
        message.textContent = text;
        root.classList.toggle("aai-empty", Boolean(text));
    }

    function move(name, seconds) {
        if (locked.includes(name)) return;
        stop();
        // The part never becomes nothing: the handles keep a step apart.
        if (name === "start") {
            // The length stays where a link gives it, and where it is all to the end.
            const keeps = locked.includes("end") || chosen.length === 0;
            const last = keeps ? duration : end();
            const start = Math.max(0, Math.min(round(seconds), round(last - STEP)));
            chosen = { start, length: keeps ? chosen.length : round(last - start) };
        } else {
            const last = Math.max(seconds, chosen.start + STEP);
            chosen = { start: chosen.start, length: last >= duration - STEP / 2 ? 0 : round(last - chosen.start) };
        }
        draw();
        changed(Number(chosen.start.toFixed(1)), Number(chosen.length.toFixed(1)));
    }

    const seconds = (event) => {
        const box = track.getBoundingClientRect();
        return ((event.clientX - box.left) / box.width) * duration;
    };
    let dragged;
    track.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !duration) return;
        event.preventDefault();
        const at = seconds(event);
        const own = Object.keys(handles).find((name) => handles[name] === event.target);
        const nearest = own ?? (Math.abs(at - chosen.start) <= Math.abs(at - end()) ? "start" : "end");
        if (locked.includes(nearest)) return;
        dragged = nearest;
        track.setPointerCapture(event.pointerId);
        handles[dragged].focus({ preventScroll: true });
        if (!own) move(dragged, at);
    });
    track.addEventListener("pointermove", (event) => dragged && move(dragged, seconds(event)));
    for (const over of ["pointerup", "pointercancel"]) {
        track.addEventListener(over, () => {
            if (dragged) settled();
            dragged = undefined;
        });
    }
    track.addEventListener("dblclick", () => {
        if (!duration) return;
        move("start", 0);
        move("end", duration);
        settled();
    });
    for (const name of ["start", "end"]) {
        handles[name].addEventListener("keydown", (event) => {
            const by = { ArrowLeft: -STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowUp: STEP, PageDown: -1, PageUp: 1 };
            const at = name === "start" ? chosen.start : end();
            if (event.key in by) move(name, at + by[event.key] * (event.shiftKey ? 10 : 1));
            else if (event.key === "Home") move(name, 0);
            else if (event.key === "End") move(name, duration);
            else return;
            event.preventDefault();
        });
    }

    // Without its view it has no button that stops it.
    const isOver = () => audio.currentTime >= end() || !root.isConnected;
    function follow() {
        if (audio.paused) return;
        head.style.left = `${(100 * audio.currentTime) / duration}%`;
        if (isOver()) stop();
        else requestAnimationFrame(follow);
    }
    function stop() {
        audio.pause();
        head.hidden = true;
        button.textContent = "▶";
        button.setAttribute("aria-label", t("play the part"));
        if (playing === stop) playing = undefined;
    }
    async function play() {
        playing?.();
        playing = stop;
        audio.currentTime = chosen.start;
        button.textContent = "■";
        button.setAttribute("aria-label", t("stop"));
        head.style.left = `${(100 * chosen.start) / duration}%`;
        head.hidden = false;
        try {
            await audio.play();
            follow();
        } catch (error) {
            stop();
            if (error.name !== "AbortError") line.textContent = t("This browser cannot play it.");
        }
    }
    button.addEventListener("click", () => (audio.paused ? play() : stop()));
    audio.addEventListener("ended", stop);
    // A hidden tab draws no frames.
    audio.addEventListener("timeupdate", () => !audio.paused && isOver() && stop());

    async function load(url) {
        stop();
        loading?.abort();
        loading = new AbortController();
        const { signal } = loading;
        duration = 0;
        audio.removeAttribute("src");
        line.textContent = "";
        button.disabled = true;
        root.classList.remove("aai-wrong");
        if (!url || !new URL(url, location.href).searchParams.get("filename")) {
            return say(t("Choose a sound, or drop one here."));
        }
        say("…");
        try {
            const { peaks, length } = await outlineOf(url, signal);
            if (signal.aborted) return;
            duration = length;
            const path = peaks?.map(([low, high], i) => `M${i + 0.5} ${-Math.max(high, 0.01)}V${-Math.min(low, -0.01)}`).join("")
                ?? `M0 0H${BINS}`;
            leftOut.textContent = peaks ? "" : t("A long recording: its outline is left out.");
            leftOut.hidden = Boolean(peaks);
            for (const svg of [whole, part]) svg.firstChild.setAttribute("d", path);
            audio.src = url;
            button.disabled = false;
            say("");
            draw();
        } catch (error) {
            if (!signal.aborted) say(error.message);
        }
    }

    return {
        root,
        load,
        stop,
        // Beside a sound that stays.
        tell: (text) => (duration ? (line.textContent = text) : say(text)),
        choose(start, length) {
            if (start === chosen.start && length === chosen.length) return;
            chosen = { start, length };
            draw();
        },
        lock(names) {
            locked = names;
            for (const name of ["start", "end"]) handles[name].setAttribute("aria-disabled", names.includes(name));
        },
    };
}

/** The length in seconds of the sound at `url`, as the file itself says; 0 where the browser cannot tell. */
function lengthOf(url, signal) {
    const audio = new Audio();
    audio.preload = "metadata";
    return new Promise((resolve) => {
        const done = () => {
            resolve(Number.isFinite(audio.duration) ? audio.duration : 0);
            audio.removeAttribute("src");
        };
        for (const event of ["loadedmetadata", "error"]) audio.addEventListener(event, done, { once: true });
        signal.addEventListener("abort", done, { once: true });
        setTimeout(done, 10000); // A telephone that saves data may never load it.
        audio.src = url;
    });
}

/** The outline of the sound at `url` as BINS pairs [lowest, highest] of at most 1, none where it is too long to decode,
 * and its length in seconds. Throws an Error whose message tells the user what to do. */
async function outlineOf(url, signal) {
    const numbers = t("Type start and length in seconds; they work all the same.");
    const told = await lengthOf(url, signal);
    if (told > LONGEST) return { length: told };
    let answer;
    try {
        answer = await fetch(url, { signal });
    } catch {
        throw new Error(t("The server does not answer: start ComfyUI again, then choose the sound once more."));
    }
    if (answer.status === 404) throw new Error(t("This file is not in the input folder: choose or upload another."));
    if (!answer.ok) {
        throw new Error(t("The server does not give this file ({status}): choose another.", { status: answer.status }));
    }
    if (Number(answer.headers.get("content-length")) > (told ? LARGEST : LARGEST_UNTOLD)) {
        answer.body.cancel();
        if (told) return { length: told };
        throw new Error(`${t("This file is too large to be drawn here.")} ${numbers}`);
    }
    const bytes = await answer.arrayBuffer();
    let sound;
    try {
        sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
    } catch {
        throw new Error(`${t("This browser cannot read the file, though ComfyUI may.")} ${numbers}`);
    }
    if (!sound.length) throw new Error(t("There is no sound in this file: choose another."));
    const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
    const peaks = Array.from({ length: BINS }, (_, bin) => {
        const from = Math.floor((bin * sound.length) / BINS);
        const to = Math.max(Math.floor(((bin + 1) * sound.length) / BINS), from + 1);
        let low = -1e-4;
        let high = 1e-4;
        for (const samples of channels) {
            for (let i = from; i < to && i < sound.length; i++) {
                if (samples[i] < low) low = samples[i];
                else if (samples[i] > high) high = samples[i];
            }
        }
        return [low, high];
    });
    // As tall as it goes: a quiet sound is trimmed as well as a loud one.
    const most = Math.max(...peaks.flat().map(Math.abs));
    return { peaks: peaks.map((pair) => pair.map((value) => (0.95 * value) / most)), length: sound.duration };
}
