// The parts of the page that are words: steps, numbers, failures, what happened, one block. All text is set as text.

import { STATES } from "./maps.js";
import { UNITS, about, boxText, clock, count, human, parseBox, timeOfDay, viewerUrl } from "./words.js";

// An element with properties and children; texts become text nodes.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export const tag = (state) => make("span", { className: `tag ${state}`, textContent: state });

// A bar of what is done, reused, failed and blocked of ``total``.
export function drawBar(bar, tally, total) {
  const shown = ["done", "reused", "failed", "blocked"];
  if (bar.children.length !== shown.length) bar.replaceChildren(...shown.map((state) => make("i", { className: state })));
  shown.forEach((state, at) => {
    const share = total ? Math.min(1, tally[STATES.indexOf(state)] / total) : 0;
    bar.children[at].style.width = `${share * 100}%`;
  });
  bar.setAttribute("aria-valuenow", String(total ? Math.floor((100 * (tally[1] + tally[2])) / total) : 0));
}

export const makeBar = (label) => {
  const bar = make("div", { className: "bar", role: "progressbar" });
  for (const [name, value] of [["aria-label", label], ["aria-valuemin", 0], ["aria-valuemax", 100]]) bar.setAttribute(name, value);
  return bar;
};

export class StepRow {
  constructor(step, choose) {
    this.thumbnail = make("canvas", {});
    this.thumbnail.setAttribute("aria-hidden", "true");
    this.state = make("span");
    this.bar = makeBar(`progress of ${step.name}`);
    this.words = make("span", { className: "soft small" });
    const title = make("span", { className: "title" }, make("b", { textContent: step.name }), make("span", { className: "soft small", textContent: stageWords(step), title: step.stage }));
    const body = make("span", { className: "body" }, make("span", { className: "line" }, title, this.state), this.bar, this.words);
    this.button = make("button", { type: "button", className: "step" }, make("span", { className: "thumbnail" }, this.thumbnail), body);
    this.button.addEventListener("click", () => choose(step.name));
  }

  show(step, numbers, chosen) {
    this.state.className = `tag ${step.state}`;
    this.state.textContent = step.state;
    this.button.setAttribute("aria-current", String(chosen));
    drawBar(this.bar, numbers.tally, numbers.total);
    this.words.textContent = step.reason || stepWords(step, numbers);
  }
}

// A lab's own stage is a file: its name is enough. No words where it is called like its step.
export function stageWords(step) {
  const name = step.stage.split("/").at(-1);
  return name === step.name ? "" : name;
}

function stepWords(step, { tally, total, rate, left }) {
  const finished = tally[1] + tally[2];
  const words = [`${finished.toLocaleString("en")} of ${count(total, "task")}`];
  for (const state of [3, 4]) if (tally[state]) words.push(`${tally[state].toLocaleString("en")} ${STATES[state]}`);
  if (step.state === "running" && rate.tasks > 0) words.push(`${human(rate.tasks)}tasks/s`, `${about(left)} left`);
  else if (step.seconds) words.push(clock(step.seconds));
  return words.join(" · ");
}

export function facts(step, { tally, total, rate, left }) {
  const running = step.state === "running";
  const rows = [
    ["finished", `${(tally[1] + tally[2]).toLocaleString("en")} / ${total.toLocaleString("en")}`],
    ["of them reused", tally[2] ? tally[2].toLocaleString("en") : ""],
    [rate.voxels ? `${human(rate.voxels)}voxels/s` : "rate", running && rate.tasks ? `${human(rate.tasks)}tasks/s` : ""],
    ["left", running && rate.tasks ? about(left) : ""],
    ["time", step.seconds ? clock(step.seconds) : ""],
    ["on disk", step.size_bytes ? `${human(step.size_bytes)}B` : ""],
    ["peak memory", step.peak_bytes ? `${human(step.peak_bytes)}B` : ""],
  ];
  return rows.filter(([, value]) => value).map(([label, value]) => make("div", {}, make("b", { textContent: value }), label));
}

export function failureRows(failures, run, voxelSizeNm, open) {
  return failures.map((failure) => {
    const box = parseBox(failure.box_zyx);
    const place = box ? make("a", { href: viewerUrl(run, box, voxelSizeNm), textContent: boxText(box), title: "open this place in the viewer" }) : "–";
    const button = make("button", { type: "button", className: "link", textContent: failure.task });
    button.addEventListener("click", () => open(failure.step, failure.part, failure.task));
    const cells = [
      make("td", { textContent: failure.step }), make("td", {}, button), make("td", { className: "id" }, place),
      make("td", { textContent: failure.cause }), make("td", { className: "n", textContent: failure.attempts }),
      make("td", {}, make("code", { textContent: failure.error })),
    ];
    return make("tr", {}, ...cells);
  });
}

const SENTENCES = {
  RunStarted: (e) => `the run starts: ${count(e.steps?.length ?? 0, "step")}, ${e.executor}, ${count(e.workers, "worker")}`,
  StepStarted: (e) => `${e.step} starts (${e.stage})`,
  PartStarted: (e) => `${e.step}: ${e.part}, ${count(e.tasks, UNITS[e.shape] ?? "task")}${e.done ? `, ${e.done} of them done before` : ""}`,
  StepReused: (e) => `${e.step} is kept: ${count(e.tasks, "task")} of an earlier run`,
  StepSkipped: (e) => `${e.step} is skipped: ${e.reason}`,
  StepFinished: (e) => `${e.step} is ${e.state}: ${count(e.tasks, "task")}, ${clock(e.seconds)}`,
  TaskRetried: (e) => `${e.step} ${e.task} is tried again (try ${e.attempt} failed): ${e.error}`,
  TaskFailed: (e) => `${e.step} ${e.task} failed on ${count(e.attempts, "try").replace("trys", "tries")}: ${e.error}`,
  TasksBlocked: (e) => `${e.step}: ${count(e.tasks, "task")} blocked: ${e.reason}`,
  TaskLost: (e) => `${e.step} ${e.task}: ${e.path} is ${e.found}`,
  WorkerLost: (e) => `a worker was lost (${e.cause}; ${e.host} ${e.pid}): ${e.error}`,
  RunFinished: (e) => `the run is ${e.state} after ${clock(e.seconds)}${e.reason ? `: ${e.reason}` : ""}`,
};
const KINDS = { TaskFailed: "failed", TaskRetried: "blocked", TasksBlocked: "blocked", TaskLost: "blocked", WorkerLost: "blocked", StepFinished: "done", StepReused: "reused" };

export function logLine(event) {
  const words = SENTENCES[event.event]?.(event) ?? event.event;
  const kind = event.state === "failed" || event.state === "blocked" ? event.state : (KINDS[event.event] ?? "pending");
  const time = Number.isFinite(event.time) ? timeOfDay(event.time) : "";
  return make("li", {}, make("time", { textContent: time }), make("i", { className: kind }), make("span", { textContent: words }));
}

export function legend(tally) {
  return STATES.map((state, at) => [state, tally[at]])
    .filter(([state, number]) => number || state === "done")
    .map(([state, number]) => make("span", {}, make("i", { className: state }), `${state} ${number.toLocaleString("en")}`));
}

// What a cell shows, in words.
export function cellWords(level, tasks) {
  if (!tasks.length) return "";
  const unit = UNITS[level.shape] ?? "task";
  if (tasks.length === 1) {
    const box = level.box(tasks[0]);
    return `${unit} ${level.name(tasks[0])} · ${STATES[level.states[tasks[0]]]}${box ? `\nvoxels z, y, x  ${boxText(box)}` : ""}`;
  }
  const sums = STATES.map((state, at) => [tasks.filter((task) => level.states[task] === at).length, state]);
  const [, y, x] = level.index(tasks[0]);
  const words = sums.filter(([number]) => number).map(([number, state]) => `${number} ${state}`);
  return `column y ${y}, x ${x}: ${count(tasks.length, unit)}\n${words.join(", ")}`;
}

export function taskPanel(found, level, number, run, voxelSizeNm) {
  const box = number >= 0 ? level?.box(number) : parseBox(found.box_zyx);
  const state = number >= 0 && level ? STATES[level.states[number]] : "";
  const links = box ? [make("a", { className: "button", href: viewerUrl(run, box, voxelSizeNm), textContent: "Open in the viewer" })] : [];
  const command = make("code", { textContent: `bouton logs ${run} ${found.step} ${found.task}` });
  const rows = [["part", found.part], ["voxels z, y, x", box ? boxText(box) : ""]].filter(([, value]) => value);
  const files = found.files.map((file) => make("li", {}, make("code", { textContent: file.path }), ` ${human(file.size_bytes)}B`));
  return [
    make("dl", {}, ...rows.flatMap(([label, value]) => [make("dt", { textContent: label }), make("dd", { textContent: value })]),
      make("dt", { textContent: "state" }), make("dd", {}, state ? tag(state) : "–"),
      make("dt", { textContent: "in a terminal" }), make("dd", {}, command)),
    make("p", {}, ...links),
    make("h3", { textContent: found.attempts.length ? "Failed tries" : "No failed tries" }),
    ...found.attempts.map(attempt),
    ...(files.length ? [make("h3", { textContent: count(files.length, "file") }), make("ul", { className: "files" }, ...files)] : []),
  ];
}

function attempt(tried) {
  const where = tried.host ? ` · ${tried.host}, process ${tried.pid}` : "";
  const texts = [["traceback", tried.traceback], ["log", tried.log]].filter(([, text]) => text);
  const details = texts.map(([label, text]) =>
    make("details", { open: label === "traceback" }, make("summary", { textContent: label }), make("pre", { textContent: text })));
  return make("div", { className: "attempt" }, make("p", {}, make("b", { textContent: tried.cause }), make("span", { className: "soft", textContent: where })),
    make("code", { textContent: tried.error }), ...details);
}
