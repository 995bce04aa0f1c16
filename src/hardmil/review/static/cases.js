// Remarks on slides.

import { inWords, post, showProblem } from "./server.js";

for (const form of document.querySelectorAll("form.remark")) {
  const state = form.querySelector(".saved");
  form.addEventListener("input", () => {
    state.textContent = "not saved yet";
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    state.textContent = "saving …";
    try {
      const body = { remark: form.elements.remark.value, comment: form.elements.comment.value };
      await post(`/api/slides/${form.dataset.slide}/remark`, body);
      state.textContent = "✓ saved";
      showProblem("");
    } catch (error) {
      state.textContent = "not saved";
      showProblem(inWords(error));
    }
  });
}
