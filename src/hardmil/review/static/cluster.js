// A grid of alike patches: exceptions are marked, one key judges the rest.

import { onButtons, onKeys, onVerdicts, titleOf, toneOf } from "./keys.js";
import { shownOutbox } from "./outbox.js";
import { get, showProblem } from "./server.js";

const MOST_SECONDS = 3600;

const grid = document.getElementById("grid");
const cells = [...grid.querySelectorAll(".cell")];
let since = performance.now();

const outbox = shownOutbox({ saved: () => {} });

const isJudged = (cell) => Boolean(cell.dataset.verdict);
const isException = (cell) => cell.getAttribute("aria-pressed") === "true";

function draw() {
  for (const cell of cells) {
    const word = isException(cell) ? "exception" : titleOf(cell.dataset.verdict);
    cell.querySelector(".word").textContent = word;
    cell.className = isJudged(cell) ? `cell tone-${toneOf(cell.dataset.verdict)}` : "cell";
  }
}

function mark(cell) {
  if (isJudged(cell)) return;
  cell.setAttribute("aria-pressed", String(!isException(cell)));
  draw();
}

function judge(verdict) {
  const rest = cells.filter((cell) => !isJudged(cell) && !isException(cell));
  if (!rest.length) {
    showProblem("All patches are judged or marked as exceptions. Unmark some, or go to the next cluster.");
    setTimeout(() => showProblem(""), 4000);
    return;
  }
  const seconds = Math.min((performance.now() - since) / 1000, MOST_SECONDS);
  const patches = rest.map((cell) => ({
    slide: Number(cell.dataset.slide),
    instance: Number(cell.dataset.instance),
    verdict,
  }));
  outbox.add("/api/verdicts", { patches, source: "cluster", seconds, revealed: false });
  since = performance.now();
  for (const cell of rest) cell.dataset.verdict = verdict;
  // The exceptions are judged next.
  for (const cell of cells) cell.setAttribute("aria-pressed", "false");
  draw();
}

async function undo() {
  const answer = await outbox.add("/api/undo");
  if (!answer.undone) {
    showProblem("There is nothing to undo.");
    return;
  }
  const { items } = await get("/api/queue");
  const verdicts = new Map(items.map((one) => [`${one.slide} ${one.instance}`, one.verdict]));
  for (const cell of cells) {
    cell.dataset.verdict = verdicts.get(`${cell.dataset.slide} ${cell.dataset.instance}`) ?? "";
  }
  draw();
}

function columns() {
  const top = cells[0].getBoundingClientRect().top;
  const next = cells.findIndex((cell) => cell.getBoundingClientRect().top > top + 1);
  return next < 0 ? cells.length : next;
}

function move(step) {
  const here = Math.max(0, cells.indexOf(document.activeElement));
  const to = document.activeElement.classList.contains("cell") ? here + step : here;
  if (!cells[to]) return;
  cells[here].tabIndex = -1;
  cells[to].tabIndex = 0;
  cells[to].focus();
}

const follow = (id) => () => document.getElementById(id).click();
for (const cell of cells) cell.addEventListener("click", () => mark(cell));
onVerdicts(judge);
onKeys({
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  ArrowUp: () => move(-columns()),
  ArrowDown: () => move(columns()),
  u: undo,
  n: follow("next"),
  p: follow("previous"),
  r: () => outbox.send(),
});
onButtons({ undo });
draw();
