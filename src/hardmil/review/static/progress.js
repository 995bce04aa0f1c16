// Retraining with its progress, and files that are taken in.

import { get, inWords, post, showProblem } from "./server.js";

const ASK_MS = 1000;
const byId = (id) => document.getElementById(id);

function minutes(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

function showTraining(status) {
  const isRunning = status.state === "running";
  byId("retrain").disabled = isRunning;
  byId("stop").hidden = !isRunning;
  byId("state").textContent = {
    "not started": "",
    running: `The training has been running for ${minutes(status.seconds)}. It goes on if you leave this page.`,
    done: "The training has ended. The new round is in the table.",
    failed: "The training failed. Its last lines say why.",
    stopped: "The training was stopped. Start it again to continue.",
  }[status.state];
  const progress = /: (\d+) of (\d+)/.exec(status.lines.at(-1) ?? "");
  const bar = byId("training-bar");
  bar.hidden = !isRunning;
  if (progress) {
    bar.max = Number(progress[2]);
    bar.value = Number(progress[1]);
  } else {
    bar.removeAttribute("value");
  }
  byId("lines").textContent = status.lines.slice(-8).join("\n");
  byId("lines").hidden = !status.lines.length;
}

async function follow() {
  for (;;) {
    const status = await get("/api/retraining");
    showTraining(status);
    if (status.state !== "running") return status;
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

async function followAndReload() {
  try {
    const status = await follow();
    if (status.state === "done") location.reload();
  } catch (error) {
    showProblem(inWords(error));
  }
}

byId("retrain").addEventListener("click", async () => {
  try {
    showTraining(await post("/api/retraining"));
    await followAndReload();
  } catch (error) {
    showProblem(inWords(error));
  }
});

byId("stop").addEventListener("click", async () => {
  try {
    showTraining(await post("/api/retraining/stop"));
  } catch (error) {
    showProblem(inWords(error));
  }
});

byId("import").addEventListener("submit", async (event) => {
  event.preventDefault();
  const report = byId("report");
  report.replaceChildren();
  report.hidden = false;
  for (const file of byId("files").files) {
    const line = document.createElement("li");
    report.append(line);
    try {
      line.textContent = `${file.name}: reading …`;
      const answer = await post(`/api/import?name=${encodeURIComponent(file.name)}`, file);
      line.textContent = answer.lines.join("; ");
    } catch (error) {
      line.textContent = `${file.name}: ${inWords(error)}`;
    }
  }
});

get("/api/retraining").then((status) => {
  if (status.state === "running") followAndReload();
  else if (status.state !== "done") showTraining(status);
});
