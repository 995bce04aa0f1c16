// The scores of patches as colours over a slide.

import { toneOf } from "./keys.js";

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const DIVERGING = [[49, 104, 180], [146, 180, 220], [240, 240, 240], [238, 150, 120], [190, 40, 46]];
const TONES = {
  lesion: "#ff6b5e",
  normal: "#6fd08c",
  artefact: "#e8b45a",
  unsure: "#d5d9de",
  "lesion-1": "#ff6b5e",
  "lesion-2": "#4d9dff",
  "lesion-3": "#c77dff",
  "lesion-4": "#2ec4c4",
  "lesion-5": "#ff7ac0",
  "lesion-6": "#b5d334",
};
const LEAST = 0.2;
const CHOSEN = "#39c5ff";

function mixed(colours, share) {
  const at = Math.max(0, Math.min(1, share)) * (colours.length - 1);
  const low = Math.min(Math.floor(at), colours.length - 2);
  const channel = (i) => Math.round(colours[low][i] + (at - low) * (colours[low + 1][i] - colours[low][i]));
  return `rgb(${channel(0)} ${channel(1)} ${channel(2)})`;
}

/** The values of one quantity: the colour of each patch, its rank, and the limits of the colours. */
export class Scale {
  constructor(values, { isSigned }) {
    this.colours = isSigned ? DIVERGING : RAMP;
    const known = values.filter((value) => value !== null);
    const largest = known.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    this.high = isSigned ? largest : known.reduce((most, value) => Math.max(most, value), 0);
    this.low = isSigned ? -largest : known.reduce((least, value) => Math.min(least, value), this.high);
    /** Numbers of the patches, the highest value first. */
    this.order = values.map((_, i) => i).filter((i) => values[i] !== null);
    this.order.sort((a, b) => values[b] - values[a]);
    const span = this.high - this.low || 1;
    const shares = values.map((value) => (value === null ? 0 : (value - this.low) / span));
    this.fills = shares.map((share) => mixed(this.colours, share));
    /** Values that mean nothing, low ones or those near 0, leave the tissue visible. */
    this.strengths = shares.map((share) => LEAST + (1 - LEAST) * (isSigned ? Math.abs(2 * share - 1) : share));
  }

  /** Draw the colours from low to high. */
  drawLegend(canvas) {
    const context = canvas.getContext("2d");
    const gradient = context.createLinearGradient(0, 0, canvas.width, 0);
    for (let i = 0; i <= 20; i += 1) gradient.addColorStop(i / 20, mixed(this.colours, i / 20));
    context.fillStyle = gradient;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
}

/**
 * Draw the patches on a canvas.
 *
 * @param {HTMLCanvasElement} canvas as large as the viewer
 * @param {object} slide the patches: corners x and y and edge `size`, level-0 px; verdicts by patch
 * @param {{x: number, y: number, zoom: number}} view where level-0 px are: px of the canvas = x + zoom * px
 * @param {object} options `scale` (null: no colours), `share` of the strongest patches, `opacity`, `outlines`,
 *   `chosen` patch
 */
export function drawOverlay(canvas, { slide, view, options }) {
  const context = canvas.getContext("2d");
  const ratio = devicePixelRatio;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const edge = slide.size * view.zoom;
  const corner = (i) => [view.x + slide.x[i] * view.zoom, view.y + slide.y[i] * view.zoom];
  const isInView = ([x, y]) => x < width && y < height && x + edge > 0 && y + edge > 0;

  if (options.scale) {
    const { order, fills, strengths } = options.scale;
    for (const i of order.slice(0, Math.ceil(options.share * order.length))) {
      const at = corner(i);
      if (!isInView(at)) continue;
      context.globalAlpha = options.opacity * strengths[i];
      context.fillStyle = fills[i];
      context.fillRect(...at, edge, edge);
    }
    context.globalAlpha = 1;
  }
  const frame = (i, colour, line) => {
    const at = corner(i);
    if (!isInView(at)) return;
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(at[0] + line / 2, at[1] + line / 2, Math.max(edge - line, 1), Math.max(edge - line, 1));
  };
  // Lines closer than a few px would hide the slide.
  if (options.outlines && edge > 6) for (let i = 0; i < slide.x.length; i += 1) frame(i, "rgb(20 24 30 / 55%)", 1);
  for (const [i, verdict] of Object.entries(slide.verdicts)) frame(i, TONES[toneOf(verdict)], 3);
  if (options.chosen !== null) frame(options.chosen, CHOSEN, 3);
}

/** The patch at a point in level-0 px; null if there is none. Of overlapping ones, the last. */
export function patchAt(slide, { x, y }) {
  for (let i = slide.x.length - 1; i >= 0; i -= 1) {
    const [dx, dy] = [x - slide.x[i], y - slide.y[i]];
    if (dx >= 0 && dy >= 0 && dx < slide.size && dy < slide.size) return i;
  }
  return null;
}
