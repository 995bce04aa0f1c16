// Pictures that are loaded ahead of their use, decoded, and shown without a flicker.

import { get, inWords } from "./server.js";

const MOST_KEPT = 40;

async function picture(url, alt) {
  const image = new Image();
  image.alt = alt;
  image.src = url;
  try {
    await image.decode();
  } catch {
    // The picture itself cannot say why; the same address can.
    await get(url);
    throw new Error("the picture is damaged");
  }
  return image;
}

/** The pictures of patches, by slide and patch. */
export class PatchPictures {
  constructor() {
    this.kept = new Map();
    this.thumbnails = new Map();
  }

  /** Start to load the pictures of a patch; what `ready` gives is there once all are decoded. */
  load({ slide, instance }) {
    const key = `${slide} ${instance}`;
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
      return found;
    }
    const entry = { ready: null };
    entry.promise = this.all(slide, instance).then((all) => {
      entry.ready = all;
      // What failed is tried again the next time.
      if (all.error) this.kept.delete(key);
      return all;
    });
    this.kept.set(key, entry);
    for (const old of [...this.kept.keys()].slice(0, -MOST_KEPT)) this.kept.delete(old);
    return entry;
  }

  async all(slide, instance) {
    const folder = `/pictures/${slide}/patches/${instance}`;
    try {
      const [patch, surroundings, thumbnail, place] = await Promise.all([
        picture(`${folder}/patch.jpg`, "Patch to judge"),
        picture(`${folder}/surroundings.jpg`, "Surroundings of the patch"),
        this.thumbnail(slide),
        get(`/api/slides/${slide}/patches/${instance}`),
      ]);
      return { patch, surroundings, thumbnail, place };
    } catch (error) {
      return { error: inWords(error) };
    }
  }

  thumbnail(slide) {
    if (!this.thumbnails.has(slide)) {
      const promise = picture(`/pictures/${slide}/thumbnail.jpg`, "Thumbnail of the slide");
      promise.catch(() => this.thumbnails.delete(slide));
      this.thumbnails.set(slide, promise);
    }
    return this.thumbnails.get(slide);
  }
}

function element(kind, text = "") {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}

function percent(share) {
  return `${100 * share}%`;
}

/** A box with a picture, and with a scale bar where the resolution is known. */
export function showPicture(box, image, { bar, marks = [] } = {}) {
  const parts = [image, ...marks];
  if (bar) {
    const line = element("scale", bar.text);
    line.style.width = percent(bar.share);
    parts.push(line);
  }
  box.replaceChildren(...parts);
}

/** The outline of a patch in a picture, in shares of its width and height. */
export function outline({ left, top, width, height }) {
  const mark = element("outline");
  mark.style.left = percent(left);
  mark.style.top = percent(top);
  mark.style.width = percent(width);
  mark.style.height = percent(height);
  return mark;
}

/** A mark that is large enough to be seen, around a patch on a thumbnail. */
export function position({ left, top, width, height }) {
  const mark = element("position");
  mark.style.left = percent(left + width / 2);
  mark.style.top = percent(top + height / 2);
  return mark;
}
