// The name of the reviewer, kept in a cookie.

import { inWords, post, showProblem } from "./server.js";

const form = document.getElementById("reviewer");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/api/reviewer", { name: form.elements.name.value });
    location.assign(form.dataset.next);
  } catch (error) {
    showProblem(inWords(error));
  }
});
