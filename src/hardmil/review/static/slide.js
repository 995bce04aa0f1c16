// A whole slide: deep zoom, scores as an overlay, patches to judge.
/* global OpenSeadragon */

import { onButtons, onKeys, onVerdicts, titleOf } from "./keys.js";
import { shownOutbox } from "./outbox.js";
import { drawOverlay, patchAt, Scale } from "./overlay.js";
import { get, inWords, showProblem } from "./server.js";

const ZOOM_STEP = 1.5;
const PAN_SHARE = 0.2;
const MOST_SECONDS = 600;
/** Edges of the view around a patch that was jumped to, in patches. */
const FIELD_PATCHES = 5;

const byId = (id) => document.getElementById(id);
const box = byId("viewer");
const number = Number(box.dataset.slide);
/** The class whose values are shown, where there are more than two. */
const ofClass = byId("class");
const address = () => `/api/slides/${number}${ofClass ? `?class=${ofClass.value}` : ""}`;
const state = { scale: null, share: 1, opacity: 0.6, outlines: true, chosen: null };
let since = performance.now();

const outbox = shownOutbox({ saved: () => {} });

function openViewer(slide) {
  // The viewer adds a style sheet to the page, which the page's policy refuses, unless it finds one by this name.
  // An element that is no HTML has no effect.
  const mark = document.createElementNS("urn:hardmil", "style");
  mark.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(mark);
  return OpenSeadragon({
    element: box,
    showNavigationControl: false,
    showNavigator: false,
    drawer: "canvas",
    maxZoomPixelRatio: 4,
    visibilityRatio: 0.3,
    animationTime: 0.4,
    imageLoaderLimit: 4,
    tileSources: {
      width: slide.width,
      height: slide.height,
      tileSize: slide.tile_px,
      tileOverlap: 0,
      minLevel: slide.min_level,
      maxLevel: slide.max_level,
      getTileUrl: (level, column, row) => `/pictures/${number}/tiles/${level}/${column}_${row}.jpg`,
    },
  });
}

function start(slide) {
  const viewer = openViewer(slide);
  const canvas = document.createElement("canvas");
  canvas.className = "overlay-canvas";
  viewer.canvas.append(canvas);

  const view = () => {
    const at = (x, y) => viewer.viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
    const [first, last] = [at(0, 0), at(slide.width, slide.height)];
    return { x: first.x, y: first.y, zoom: (last.x - first.x) / slide.width };
  };
  const draw = () => {
    if (!viewer.isOpen()) return;
    drawOverlay(canvas, { slide, view: view(), options: state });
    document.body.dataset.drawn = "yes";
  };
  for (const event of ["open", "update-viewport", "resize"]) viewer.addHandler(event, draw);
  viewer.addHandler("tile-load-failed", () => {
    get(`/pictures/${number}/thumbnail.jpg`).catch((error) => error.status && showProblem(inWords(error)));
  });

  const choose = (i, { move }) => {
    state.chosen = i;
    since = performance.now();
    const verdict = slide.verdicts[i];
    const place = state.scale ? `, ${state.scale.order.indexOf(i) + 1} of ${slide.x.length} by its value` : "";
    byId("chosen").textContent = `Patch ${i}${place}${verdict ? `: ${titleOf(verdict)}` : ", not judged yet"}`;
    if (move) {
      const margin = (slide.size * (FIELD_PATCHES - 1)) / 2;
      const edge = slide.size * FIELD_PATCHES;
      const area = viewer.viewport.imageToViewportRectangle(slide.x[i] - margin, slide.y[i] - margin, edge, edge);
      viewer.viewport.fitBounds(area);
    }
    draw();
  };
  viewer.addHandler("canvas-click", (event) => {
    if (!event.quick) return;
    event.preventDefaultAction = true;
    const point = viewer.viewport.viewerElementToImageCoordinates(event.position);
    const found = patchAt(slide, point);
    if (found !== null) choose(found, { move: false });
  });
  // The viewer's own keys differ from those of the other pages.
  viewer.addHandler("canvas-key", (event) => {
    event.preventDefaultAction = true;
    event.preventHorizontalPan = true;
    event.preventVerticalPan = true;
  });

  const jump = (step) => {
    const order = state.scale?.order ?? slide.x.map((_, i) => i);
    if (!order.length) return;
    const here = order.indexOf(state.chosen);
    const to = here < 0 ? 0 : (here + step + order.length) % order.length;
    choose(order[to], { move: true });
  };
  const judge = (verdict) => {
    if (state.chosen === null) return;
    const seconds = Math.min((performance.now() - since) / 1000, MOST_SECONDS);
    const patches = [{ slide: number, instance: state.chosen, verdict }];
    // Scores and label are on this page.
    outbox.add("/api/verdicts", { patches, source: "slide", seconds, revealed: true });
    slide.verdicts[state.chosen] = verdict;
    choose(state.chosen, { move: false });
  };
  const undo = async () => {
    const answer = await outbox.add("/api/undo");
    if (!answer.undone) return;
    const again = await get(`/api/slides/${number}`);
    slide.verdicts = again.verdicts;
    if (answer.undone.slide === number) choose(answer.undone.instance, { move: true });
    draw();
  };
  const zoom = (factor) => {
    viewer.viewport.zoomBy(factor);
    viewer.viewport.applyConstraints();
  };
  const pan = (x, y) => {
    const bounds = viewer.viewport.getBounds();
    const by = new OpenSeadragon.Point(x * bounds.width * PAN_SHARE, y * bounds.height * PAN_SHARE);
    viewer.viewport.panBy(by);
    viewer.viewport.applyConstraints();
  };
  const actions = {
    next: () => jump(1),
    previous: () => jump(-1),
    undo,
    "zoom-in": () => zoom(ZOOM_STEP),
    "zoom-out": () => zoom(1 / ZOOM_STEP),
    whole: () => viewer.viewport.goHome(),
  };
  onButtons(actions);
  onVerdicts(judge);
  onKeys({
    n: actions.next,
    p: actions.previous,
    u: undo,
    "+": actions["zoom-in"],
    "=": actions["zoom-in"],
    "-": actions["zoom-out"],
    h: actions.whole,
    r: () => outbox.send(),
    ArrowLeft: () => pan(-1, 0),
    ArrowRight: () => pan(1, 0),
    ArrowUp: () => pan(0, -1),
    ArrowDown: () => pan(0, 1),
  });
  const placed = () => state.chosen !== null && choose(state.chosen, { move: false });
  controls(slide, { draw, placed });
  const wanted = box.dataset.start === "" ? null : Number(box.dataset.start);
  if (wanted !== null && wanted < slide.x.length) {
    viewer.addOnceHandler("open", () => choose(wanted, { move: true }));
  }
}

/** The overlay's settings: what is drawn, of which class, how many patches, how strong. */
function controls(slide, { draw, placed }) {
  const choose = (quantity) => {
    const values = slide[quantity];
    state.scale = values?.some((value) => value !== null)
      ? new Scale(values, { isSigned: quantity !== "attention" })
      : null;
    byId("low").textContent = state.scale ? state.scale.low.toPrecision(2) : "";
    byId("high").textContent = state.scale ? state.scale.high.toPrecision(2) : "";
    state.scale?.drawLegend(byId("legend"));
    byId("legend").hidden = !state.scale;
    draw();
  };
  for (const radio of document.querySelectorAll("input[name=quantity]")) {
    const values = slide[radio.value];
    radio.disabled = radio.value !== "none" && !values.some((value) => value !== null);
    radio.addEventListener("change", () => choose(radio.value));
  }
  byId("opacity").addEventListener("input", (event) => {
    state.opacity = Number(event.target.value) / 100;
    draw();
  });
  byId("share").addEventListener("input", (event) => {
    state.share = Number(event.target.value) / 100;
    byId("share-text").textContent = `${event.target.value}%`;
    draw();
  });
  byId("outlines").addEventListener("change", (event) => {
    state.outlines = event.target.checked;
    draw();
  });
  ofClass?.addEventListener("change", async () => {
    try {
      const { attention, contribution, logit } = await get(address());
      Object.assign(slide, { attention, contribution, logit });
      choose(document.querySelector("input[name=quantity]:checked").value);
      placed();
    } catch (error) {
      showProblem(inWords(error));
    }
  });
  choose("attention");
}

try {
  start(await get(address()));
} catch (error) {
  byId("gone").textContent = inWords(error);
  byId("gone").hidden = false;
  box.hidden = true;
  if (!error.status) throw error;
}
