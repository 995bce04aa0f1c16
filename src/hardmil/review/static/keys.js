// Keys of a page.

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

const buttons = [...document.querySelectorAll("button.verdict")];
const answers = new Map(buttons.map(({ dataset }) => [dataset.verdict, dataset]));

/** How a verdict is shown; one that cannot be given any more is shown as it was stored. */
export const titleOf = (verdict) => answers.get(verdict)?.title ?? verdict;

/** The name of the colour of a verdict. */
export const toneOf = (verdict) => answers.get(verdict)?.tone ?? "unsure";

/** Call `judge` with a verdict when its key or its button is pressed. */
export function onVerdicts(judge) {
  const actions = {};
  for (const button of buttons) {
    const action = () => judge(button.dataset.verdict);
    button.addEventListener("click", action);
    const key = button.getAttribute("aria-keyshortcuts");
    if (key) actions[key] = action;
  }
  onKeys(actions);
}

/** Let a button do what a key does. */
export function onButtons(actions) {
  for (const [id, action] of Object.entries(actions)) {
    document.getElementById(id)?.addEventListener("click", action);
  }
}
