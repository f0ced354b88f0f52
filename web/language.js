// The views' words in the front end's language: `views` in locales/<language>/main.json, by their English.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let languages = {};
try {
    languages = await (await api.fetchApi("/i18n")).json();
} catch (error) {
    console.warn("AAI Sound Tokens: the other languages did not come, so the views speak English.", error);
}

/** An English sentence in the user's language, with `values` in the place of {their names}. */
export function t(sentence, values = {}) {
    const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    const translated = [language, language.split("-")[0]].map((name) => languages[name]?.views?.[sentence]).find(Boolean);
    return (translated ?? sentence).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
