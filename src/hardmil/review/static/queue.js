// The queue: one patch at a time, judged by keys. The next patch appears at once; saving goes on behind it.

import { onButtons, onKeys, onVerdicts, titleOf } from "./keys.js";
import { shownOutbox } from "./outbox.js";
import { outline, PatchPictures, position, showPicture } from "./pictures.js";
import { get, inWords, showProblem } from "./server.js";

const AHEAD = 10;
const MOST_SECONDS = 600;
const SURROUNDINGS_PATCHES = 4;

const byId = (id) => document.getElementById(id);
/** Takes the place of the patch where the slide cannot be read. */
const gone = byId("gone");
const pictures = new PatchPictures();
let items = [];
let index = 0;
let since = performance.now();
let isRevealed = false;

const outbox = shownOutbox({ saved: (answer) => showCounts(answer.counts) });

function showCounts(counts) {
  if (!counts) return;
  byId("judged").textContent = counts.judged;
  // Of the class that the page is limited to.
  byId("left").textContent = location.search ? items.filter((one) => !one.verdict).length : counts.left;
  byId("today").textContent = counts.today;
  const pace = counts.seconds_per_verdict;
  byId("pace").textContent = pace === null ? "–" : pace.toFixed(1);
}

function show(to) {
  index = Math.max(0, Math.min(to, items.length));
  hideScores();
  const item = items[index];
  document.body.dataset.index = index;
  if (!item) {
    showEnd();
    return;
  }
  byId("seen").hidden = !item.verdict;
  byId("seen").textContent = item.verdict ? `seen before: ${titleOf(item.verdict)}` : "";
  byId("slide").href = `/slide/${item.slide}?patch=${item.instance}`;
  const entry = pictures.load(item);
  if (entry.ready) draw(entry.ready);
  else {
    document.body.dataset.shown = "";
    entry.promise.then((all) => items[index] === item && draw(all));
  }
  loadAhead();
}

function draw(all) {
  const failed = Boolean(all.error);
  gone.hidden = !failed;
  if (failed) {
    gone.textContent = `${all.error} Skip this patch with the right arrow key, or try again with r.`;
    for (const id of ["patch", "surroundings", "thumbnail"]) byId(id).replaceChildren();
    byId("patch").append(gone);
  } else {
    const inside = (SURROUNDINGS_PATCHES - 1) / 2 / SURROUNDINGS_PATCHES;
    const share = 1 / SURROUNDINGS_PATCHES;
    const middle = outline({ left: inside, top: inside, width: share, height: share });
    showPicture(byId("patch"), all.patch, { bar: all.place.patch_bar });
    showPicture(byId("surroundings"), all.surroundings, { bar: all.place.surroundings_bar, marks: [middle] });
    showPicture(byId("thumbnail"), all.thumbnail.cloneNode(), { marks: [position(all.place)] });
  }
  document.body.dataset.shown = index;
  since = performance.now();
}

function loadAhead() {
  for (let i = 1; i <= AHEAD; i += 1) {
    if (items[index + i]) pictures.load(items[index + i]);
  }
  if (items[index - 1]) pictures.load(items[index - 1]);
}

function showEnd() {
  const end = document.createElement("p");
  end.className = "none";
  end.textContent = "This is the end of the queue. Train again on the page Progress, or go back with the left arrow key.";
  byId("patch").replaceChildren(end);
  for (const id of ["surroundings", "thumbnail"]) byId(id).replaceChildren();
  byId("seen").hidden = true;
  document.body.dataset.shown = index;
}

function judge(verdict) {
  const item = items[index];
  // Nobody judges a patch that is not on the screen.
  if (!item || document.body.dataset.shown !== String(index) || !gone.hidden) return;
  const seconds = Math.min((performance.now() - since) / 1000, MOST_SECONDS);
  const patch = { slide: item.slide, instance: item.instance, verdict };
  outbox.add("/api/verdicts", { patches: [patch], source: "queue", seconds, revealed: isRevealed });
  item.verdict = verdict;
  show(index + 1);
}

async function undo() {
  const answer = await outbox.add("/api/undo");
  const undone = answer.undone;
  if (!undone) {
    showProblem("There is nothing to undo.");
    setTimeout(() => showProblem(""), 3000);
    return;
  }
  const found = items.findIndex((one) => one.slide === undone.slide && one.instance === undone.instance);
  if (found >= 0) {
    items[found].verdict = null;
    show(found);
  }
}

function hideScores() {
  isRevealed = false;
  byId("scores").hidden = true;
  byId("reveal").setAttribute("aria-expanded", "false");
}

async function toggleScores() {
  const item = items[index];
  if (!item) return;
  if (!byId("scores").hidden) {
    // It stays revealed: what was seen cannot be unseen.
    byId("scores").hidden = true;
    byId("reveal").setAttribute("aria-expanded", "false");
    return;
  }
  isRevealed = true;
  try {
    const scores = await get(`/api/slides/${item.slide}/patches/${item.instance}/scores`);
    if (items[index] === item) showScores(scores);
  } catch (error) {
    showProblem(inWords(error));
  }
}

function showScores(scores) {
  const list = document.createElement("dl");
  list.className = "scores";
  const show = (one) => {
    const rows = [
      ["slide", scores.slide_id],
      ["label", scores.label],
      ["prediction", scores.prediction],
      ["score of the slide", `${number(one.score)} (threshold ${number(one.threshold)})`],
      ["attention", `${number(one.attention_times_n)} × the mean`],
      ["contribution", number(one.contribution)],
      ["instance logit", number(one.logit)],
    ];
    list.replaceChildren(...rows.map(scoreLine));
  };
  show(scores.classes[0]);
  const choice = scores.classes.length > 1 ? [classChoice(scores.classes, show)] : [];
  byId("scores").replaceChildren(...choice, list);
  byId("scores").hidden = false;
  byId("reveal").setAttribute("aria-expanded", "true");
}

const number = (value) => (value === null ? "–" : value.toFixed(3));

function scoreLine([term, value]) {
  const [line, dt, dd] = ["div", "dt", "dd"].map((name) => document.createElement(name));
  dt.textContent = term;
  dd.textContent = value;
  line.append(dt, dd);
  return line;
}

/** Whose scores are shown; the class in question is the first. */
function classChoice(classes, show) {
  const [label, select] = ["label", "select"].map((name) => document.createElement(name));
  label.className = "of-class";
  select.append(...classes.map((one) => new Option(one.title)));
  select.addEventListener("change", () => show(classes[select.selectedIndex]));
  label.append("Scores for ", select);
  return label;
}

const back = () => show(index - 1);
const forward = () => show(index + 1);
const again = () => {
  outbox.send();
  if (!gone.hidden) show(index);
};
onVerdicts(judge);
onKeys({ ArrowLeft: back, ArrowRight: forward, u: undo, s: toggleScores, r: again });
onButtons({ back, forward, undo, reveal: toggleScores });

try {
  const queue = await get(`/api/queue${location.search}`);
  items = queue.items;
  showCounts(queue.counts);
  const first = items.findIndex((one) => !one.verdict);
  show(first < 0 ? items.length : first);
} catch (error) {
  showProblem(inWords(error));
}
