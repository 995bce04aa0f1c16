// Keys of a page.

export const VERDICTS = { 1: "normal", 2: "lesion", 3: "artefact", 0: "unsure" };
const TYPING = "input:not([type=range], [type=radio], [type=checkbox]), select, textarea";
const ARROWS = /^Arrow/;

/** Call the action of each key that is pressed; not while somebody types, nor with Ctrl, Alt or Meta. */
export function onKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) {
      if (!(event.repeat && ARROWS.test(event.key))) return;
    }
    if (event.target.closest(TYPING)) return;
    // Arrows belong to a slider or a choice that has the focus.
    if (ARROWS.test(event.key) && event.target.closest("input")) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** Call `judge` with a verdict when its key or its button is pressed. */
export function onVerdicts(judge) {
  for (const button of document.querySelectorAll("button.verdict")) {
    button.addEventListener("click", () => judge(button.dataset.verdict));
  }
  onKeys(Object.fromEntries(Object.entries(VERDICTS).map(([key, verdict]) => [key, () => judge(verdict)])));
}

/** Let a button do what a key does. */
export function onButtons(actions) {
  for (const [id, action] of Object.entries(actions)) {
    document.getElementById(id)?.addEventListener("click", action);
  }
}
