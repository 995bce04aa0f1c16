// Requests to the server that this page came from.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

/** An answer that is not a success: what the server says, and its status. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answerOf(response) {
  const text = await response.text();
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    content = { detail: text };
  }
  if (!response.ok) {
    const detail = typeof content.detail === "string" ? content.detail : "The server did not accept this.";
    throw new Refused(detail.trim(), response.status);
  }
  return content;
}

export async function get(path) {
  return answerOf(await fetch(path));
}

export async function post(path, body) {
  const headers = { "x-csrf-token": meta("csrf"), "x-study": meta("study") };
  const isFile = body instanceof Blob;
  if (!isFile) headers["content-type"] = "application/json";
  const content = isFile ? body : JSON.stringify(body ?? {});
  return answerOf(await fetch(path, { method: "POST", headers, body: content }));
}

/** The message of an error for a person. */
export function inWords(error) {
  if (error instanceof Refused) return error.message;
  return "The server does not answer. Is `hardmil review` still running?";
}

export function showProblem(text) {
  const box = document.getElementById("problem");
  box.textContent = text;
  box.hidden = !text;
}

export const studyOfPage = meta("study");
