// What is to be saved, sent in order, one at a time. What the server has not confirmed stays here, also when the
// page is loaded again, until it is sent or discarded.

import { inWords, post, studyOfPage } from "./server.js";

const KEY = `hardmil outbox ${studyOfPage}`;
const RETRY_MS = 10_000;

export class Outbox {
  /**
   * @param {(state: {waiting: number, error: string}) => void} show called after every change
   * @param {(answer: object) => void} saved called with each answer of the server
   */
  constructor({ show, saved }) {
    this.show = show;
    this.saved = saved;
    this.waiting = JSON.parse(sessionStorage.getItem(KEY) ?? "[]").map((operation) => ({ operation }));
    this.isSending = false;
    this.error = "";
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
    if (this.waiting.length) this.send();
  }

  /** Send an operation after those that wait; the promise has the server's answer. */
  add(path, body) {
    return new Promise((resolve) => {
      this.waiting.push({ operation: { path, body }, resolve });
      this.keep();
      this.send();
    });
  }

  /** Send what waits; stops at the first failure, and tries again after a while. */
  async send() {
    if (this.isSending) return;
    clearTimeout(this.timer);
    this.isSending = true;
    this.error = "";
    this.tell();
    while (this.waiting.length) {
      const { operation, resolve } = this.waiting[0];
      try {
        const answer = await post(operation.path, operation.body);
        this.waiting.shift();
        this.keep();
        this.saved(answer);
        resolve?.(answer);
      } catch (error) {
        this.error = inWords(error);
        this.timer = setTimeout(() => this.send(), RETRY_MS);
        break;
      }
    }
    this.isSending = false;
    this.tell();
  }

  keep() {
    // An undo whose answer is lost must not be sent again: it would undo one step more.
    const kept = this.waiting.map((one) => one.operation).filter((one) => one.body);
    sessionStorage.setItem(KEY, JSON.stringify(kept));
  }

  tell() {
    this.show({ waiting: this.waiting.length, error: this.error });
  }
}

/** An outbox whose state the page shows in its lines "saved" and "failed". */
export function shownOutbox({ saved }) {
  const [line, failed, why] = ["saved", "failed", "failed-why"].map((id) => document.getElementById(id));
  let nSaved = 0;
  const outbox = new Outbox({
    saved: (answer) => {
      nSaved += 1;
      saved(answer);
    },
    show: ({ waiting, error }) => {
      failed.hidden = !error;
      const what = waiting === 1 ? "1 step is" : `${waiting} steps are`;
      why.textContent = error && `Not saved: ${error} ${what} kept here, and tried again.`;
      const state = error ? "failed" : waiting ? "saving" : nSaved ? "saved" : "idle";
      line.dataset.state = state;
      line.textContent = { failed: "", saving: "saving …", saved: "✓ saved", idle: "" }[state];
    },
  });
  document.getElementById("again").addEventListener("click", () => outbox.send());
  return outbox;
}
