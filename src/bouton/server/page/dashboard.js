// The dashboard of a run: asks for its state once, then follows its events.

import { StepMap } from "./maps.js";
import { Painter, drawRates, layout, readColours, tasksAt } from "./painting.js";
import { StepRow, cellWords, drawBar, facts, failureRows, legend, logLine, make, stageWords, tag, taskPanel } from "./panels.js";
import { clock, count, human } from "./words.js";

const $ = (id) => document.getElementById(id);
const RATE_WINDOW_S = 30;
const POLL_MS = 3000;
const POLL_HIDDEN_MS = 15000;
const SHOWN_LINES = 200;
const still = matchMedia("(prefers-reduced-motion: reduce)");

let state = null;            // what /dashboard/state.json said
let place = 0;               // in the stream of events: all before it is known
let colours = readColours();
const maps = new Map();      // step -> StepMap
const missed = new Map();    // step -> events that came while its map was on its way
const again = new Set();     // steps whose map must be asked for once more
const rates = new Map();     // step -> [[second, tasks, voxels], ...]
const rows = new Map();      // step -> StepRow
const chosen = { step: null, level: null, plane: null, cursor: null };
const dirty = new Set(["page"]);

// ---- what the server knows -------------------------------------------------------------------------------------

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.message ?? answer.statusText);
  return content;
}

async function load() {
  state = await ask("/dashboard/state.json");
  place = state.offset;
  for (const [step, seconds] of Object.entries(state.rates)) rates.set(step, seconds);
  $("log").replaceChildren(...state.recent.slice(-SHOWN_LINES).reverse().map(logLine));
  makeRows();
  live(true);
  problem("");
  dirty.add("page");
  await Promise.all(state.steps.filter((step) => step.state !== "skipped").map((step) => loadMap(step.name)));
}

async function refresh() {
  const { run, steps, state: now, ended, began, report, coordinator } = await ask("/dashboard/state.json");
  if (run !== state.run) return void location.reload();
  if (steps.map((step) => step.name).join() !== state.steps.map((step) => step.name).join()) return load();
  Object.assign(state, { steps, state: now, ended, began, report, coordinator });
  dirty.add("page");
}

// Ask for a step's map. Events that come meanwhile are painted once more upon it.
async function loadMap(step) {
  if (missed.has(step)) return void again.add(step);
  missed.set(step, []);
  try {
    const values = await ask(`/dashboard/maps/${encodeURIComponent(step)}.json`);
    const map = new StepMap(values, state.voxel_size_nm);
    for (const event of missed.get(step)) map.take(event);
    maps.set(step, map);
    problem("");
  } catch (error) {
    problem(`${step}: ${error.message}`);
  }
  missed.delete(step);
  dirty.add("page");
  if (again.delete(step)) setTimeout(() => loadMap(step), 300);
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// ---- events ----------------------------------------------------------------------------------------------------

// A browser holds six connections to one server at most: of all open pages one has a stream, and tells the others.
const channel = new BroadcastChannel("bouton-dashboard");
channel.onmessage = ({ data }) => hear(data);

const join = () => navigator.locks.request("bouton-dashboard", () => new Promise(follow));

function follow() {
  let seen = place;
  const source = new EventSource(`/dashboard/events?after=${seen}`);
  const tell = (message) => { hear(message); channel.postMessage(message); };
  source.onopen = () => tell({ live: true });
  source.onmessage = (message) => {
    const from = seen;
    seen = Number(message.lastEventId);
    tell({ live: true, from, place: seen, events: JSON.parse(message.data) });
  };
  source.addEventListener("reset", () => { seen = 0; tell({ live: true, reset: true }); });
  source.onerror = () => {
    tell({ live: false });
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
}

function hear(message) {
  live(message.live);
  if (message.reset || message.from > place) return void load().catch((error) => problem(error.message));
  if (!(message.place > place)) return;
  place = message.place;
  message.events.forEach(take);
  if (message.events.some((event) => event.event !== "TasksDone")) soon();
}

function live(here) {
  $("live").className = here ? "here" : "away";
  $("live").textContent = here ? "live" : "reconnecting";
}

function take(event) {
  const step = event.step;
  if (event.event === "TasksDone") {
    countRate(step, event);
  } else {
    $("log").prepend(logLine(event));
    while ($("log").children.length > SHOWN_LINES) $("log").lastChild.remove();
  }
  if (event.event === "RunStarted") return void load().catch((error) => problem(error.message));
  if (step === undefined) return;
  missed.get(step)?.push(event);
  const known = maps.get(step)?.take(event);
  const quiet = ["StepSkipped", "TaskRetried", "WorkerLost"].includes(event.event);
  if (!known && !quiet) mapSoon(step);
  dirty.add(step);
}

// Add up what became done in each second.
function countRate(step, { time, tasks, voxels }) {
  if (!rates.has(step)) rates.set(step, []);
  const seconds = rates.get(step);
  const last = seconds.at(-1);
  if (last && last[0] === Math.floor(time)) [last[1], last[2]] = [last[1] + tasks, last[2] + voxels];
  else seconds.push([Math.floor(time), tasks, voxels]);
}

function later(action, milliseconds) {
  let timer = null;
  return () => (timer ??= setTimeout(() => { timer = null; action(); }, milliseconds));
}

const soon = later(() => refresh().catch((error) => problem(error.message)), 300);
const timers = new Map();
function mapSoon(step) {
  if (!timers.has(step)) timers.set(step, later(() => loadMap(step), 200));
  timers.get(step)();
}

// ---- numbers ---------------------------------------------------------------------------------------------------

function numbers(step) {
  const map = maps.get(step.name);
  const kept = [0, step.done - step.reused, step.reused, step.failed, step.blocked];
  const known = map && map.levels.length > 0;
  const tally = known ? map.tally : kept;
  if (known && tally[2] === 0 && step.reused) [tally[1], tally[2]] = [tally[1] - Math.min(tally[1], step.reused), Math.min(tally[1], step.reused)];
  const total = Math.max(step.tasks, tally.reduce((sum, number) => sum + number, 0) * Boolean(known));
  const rate = rateOf(step.name);
  return { tally, total, rate, left: (total - tally[1] - tally[2]) / rate.tasks };
}

function rateOf(step) {
  const now = Date.now() / 1000;
  const seconds = (rates.get(step) ?? []).filter(([at]) => at > now - 600);
  rates.set(step, seconds);
  const recent = seconds.filter(([at]) => at > now - RATE_WINDOW_S);
  const length = recent.length ? Math.max(1, now - recent[0][0]) : 1;
  const sum = (column) => recent.reduce((total, row) => total + row[column], 0) / length;
  return { tasks: sum(1), voxels: sum(2) };
}

// ---- the page --------------------------------------------------------------------------------------------------

function makeRows() {
  rows.clear();
  for (const step of state.steps) rows.set(step.name, new StepRow(step, choose));
  for (const row of rows.values()) row.painter = new Painter(row.thumbnail, () => [52, 44]);
  $("steps").replaceChildren(...[...rows.values()].map((row) => make("li", {}, row.button)));
}

function stepInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null;
  }
}

function choose(step) {
  Object.assign(chosen, { step, level: null, plane: null, cursor: null });
  history.replaceState(null, "", step ? `#${encodeURIComponent(step)}` : location.pathname);
  dirty.add("page");
}

// The step to show: the chosen one, else one that runs, failed, or ended last.
function shownStep() {
  const named = state.steps.find((step) => step.name === chosen.step);
  const first = (wanted) => state.steps.find((step) => step.state === wanted);
  return named ?? first("running") ?? first("quarantined") ?? first("failed") ?? first("paused") ?? state.steps.findLast((step) => step.state === "complete") ?? state.steps[0];
}

function shownLevel(step) {
  const map = maps.get(step.name);
  return map?.levels.find((level) => key(level) === chosen.level) ?? map?.foremost ?? null;
}

const working = () => ["running", "pausing", "cancelling", "unseen"].includes(state.state);
const key = (level) => `${level.part} ${level.level}`;

function showHeader() {
  const all = state.steps.map((step) => [step, numbers(step)]);
  const tally = [0, 1, 2, 3, 4].map((at) => all.reduce((sum, [, one]) => sum + one.tally[at], 0));
  const total = all.reduce((sum, [, one]) => sum + one.total, 0);
  const done = state.steps.filter((step) => step.state === "complete").length;
  const share = total ? Math.floor((100 * (tally[1] + tally[2])) / total) : 0;
  $("state").replaceChildren(tag(state.state));
  drawBar($("whole"), tally, total);
  const bytes = state.steps.reduce((sum, step) => sum + step.size_bytes, 0);
  const until = working() ? Date.now() / 1000 : state.ended;
  const words = [
    `${done} of ${count(state.steps.length, "step")}`, `${(tally[1] + tally[2]).toLocaleString("en")} of ${count(total, "task")}`,
    tally[3] ? `${tally[3].toLocaleString("en")} failed` : "", bytes ? `${human(bytes)}B` : "",
    until && state.began ? clock(until - state.began) : "",
  ];
  $("words").textContent = words.filter(Boolean).join(" · ");
  $("crashed").hidden = state.state !== "crashed";
  $("who").textContent = state.coordinator;
  $("report").hidden = !state.report;
  document.title = `${working() ? `${share} % ` : ""}${state.run} – ${state.state}`;
}

function showStep() {
  const step = shownStep();
  if (!step) return;
  const level = shownLevel(step);
  const one = numbers(step);
  $("step-name").textContent = step.name;
  $("step-stage").textContent = stageWords(step);
  $("step-state").replaceChildren(tag(step.state));
  $("facts").replaceChildren(...facts(step, one));
  $("reason").textContent = step.reason;
  $("follow").hidden = chosen.step === null;
  showLevels(step, level);
  $("map-room").hidden = !level || level.size === 0;
  $("no-map").hidden = !$("map-room").hidden;
  if ($("map-room").hidden) return;
  const planes = level.isRow ? 1 : level.counts[0];
  if (chosen.plane !== null && chosen.plane >= planes) chosen.plane = null;
  $("planes").hidden = $("side-room").hidden = planes < 2;
  $("plane").max = planes - 1;
  $("all").checked = chosen.plane === null;
  if (chosen.plane !== null) $("plane").value = chosen.plane;
  $("plane-words").textContent = chosen.plane === null ? `all ${planes} planes` : planeWords(level);
  $("legend").replaceChildren(...legend(level.tally));
  $("rates").parentElement.hidden = !(rates.get(step.name) ?? []).length;
  drawRates($("rates"), rates.get(step.name) ?? [], Date.now() / 1000, colours);
}

function planeWords(level) {
  const [start, stop] = level.box(chosen.plane * level.counts[1] * level.counts[2]);
  return `plane ${chosen.plane + 1} of ${level.counts[0]}, voxels z ${start[0]}:${stop[0]}`;
}

// A group of buttons a part: one for each level of a merge.
function showLevels(step, shown) {
  const levels = maps.get(step.name)?.levels ?? [];
  const groups = new Map(levels.map((level) => [level.part, levels.filter((one) => one.part === level.part)]));
  const focused = $("levels").contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const rows = [...groups].map(([part, ones]) => {
    const name = ones.length > 1 ? [make("span", { className: "soft small", textContent: `${part}, level` })] : [];
    return make("span", { className: "group" }, ...name, ...ones.map((level) => levelButton(step, level, shown, ones.length > 1)));
  });
  $("levels").replaceChildren(...(levels.length > 1 ? rows : []));
  if (focused) [...$("levels").querySelectorAll("button")].find((button) => button.dataset.key === focused)?.focus();
}

function levelButton(step, level, shown, isOneOfMany) {
  const share = level.size ? `${Math.floor((100 * level.finished) / level.size)} %` : "–";
  const button = make("button", { type: "button" }, isOneOfMany ? String(level.level) : level.part, make("span", { className: "soft small", textContent: ` ${share}` }));
  button.setAttribute("aria-pressed", String(level === shown));
  button.setAttribute("aria-label", `${key(level)}, ${share}`);
  button.dataset.key = key(level);
  button.addEventListener("click", () => {
    Object.assign(chosen, { step: step.name, level: key(level), cursor: null });
    dirty.add("page");
  });
  return button;
}

function showFailures() {
  const failures = [...maps].flatMap(([step, map]) => map.failures.map((failure) => ({ step, ...failure })));
  const more = [...maps.values()].reduce((sum, map) => sum + map.moreFailures, 0);
  $("failures").hidden = !failures.length;
  const stamp = JSON.stringify([failures, more]);
  if ($("failures").dataset.stamp === stamp) return;
  $("failures").dataset.stamp = stamp;
  $("failure-rows").replaceChildren(...failureRows(failures, state.run, state.voxel_size_nm, openTask));
  $("more-failures").textContent = more ? `and ${more.toLocaleString("en")} more: bouton status ${state.run}` : "";
}

// ---- maps ------------------------------------------------------------------------------------------------------

const tallest = () => Math.max(200, Math.min(640, innerHeight * 0.5));
const top = new Painter($("map"), () => [$("map-room").clientWidth - ($("side-room").hidden ? 0 : 150), tallest()]);
const side = new Painter($("side"), () => [130, tallest()]);

function paintMaps() {
  const step = shownStep();
  const level = step && shownLevel(step);
  if (!level || level.size === 0) return false;
  const fading = top.draw(level, { plane: chosen.plane, cursor: chosen.cursor, still: still.matches }, colours);
  if (!$("side-room").hidden) side.draw(level, { side: true, still: true, rowShown: chosen.plane }, colours);
  const tally = legend(level.tally).map((item) => item.textContent).join(", ");
  $("map").setAttribute("aria-label", `Map of ${step.name}, ${key(level)}: ${tally}. Arrow keys move, Enter opens a block.`);
  return fading;
}

function paintThumbnails(which) {
  for (const [name, row] of rows) {
    const level = maps.get(name)?.foremost;
    if (level?.size && (which.has("page") || which.has(name))) row.painter.draw(level, { still: true, largest: 26 }, colours);
  }
}

let painted = 0;
let cost = 0;
function frame(now) {
  requestAnimationFrame(frame);
  if (!state || !dirty.size || now - painted < Math.max(80, 6 * cost)) return;
  painted = now;
  draw();
  cost = performance.now() - now;
}

function draw() {
  const which = new Set(dirty);
  dirty.clear();
  const step = shownStep();
  for (const one of state.steps) {
    if (which.has("page") || which.has(one.name)) rows.get(one.name)?.show(one, numbers(one), one === step);
  }
  if (which.has("page") || [...which].some((name) => name !== "map")) showHeader();
  if (which.has("page") || which.has(step?.name)) showStep();
  if (which.has("page")) showFailures();
  paintThumbnails(which);
  if (paintMaps()) dirty.add("map");
}

function tip(event, cell) {
  const level = shownLevel(shownStep());
  const words = cell && level ? cellWords(level, tasksAt(level, chosen, cell)) : "";
  $("tip").hidden = !words;
  $("tip").textContent = words;
  const frame = $("map").getBoundingClientRect();
  const x = event ? event.clientX : frame.left + (cell[1] + 1) * top.cell[1];
  const y = event ? event.clientY : frame.top + (cell[0] + 1) * top.cell[0];
  $("tip").style.left = `${Math.min(x + 14, innerWidth - $("tip").offsetWidth - 8)}px`;
  $("tip").style.top = `${Math.min(y + 14, innerHeight - $("tip").offsetHeight - 8)}px`;
}

// A block opens what is known of it; a column of blocks, its plane with the worst of them.
function openCell(cell) {
  const step = shownStep();
  const level = shownLevel(step);
  const tasks = cell && level ? tasksAt(level, chosen, cell) : [];
  if (!tasks.length) return;
  if (tasks.length === 1) return openTask(step.name, level.part, level.name(tasks[0]));
  const worst = [3, 4, 0, 2, 1].find((wanted) => tasks.some((task) => level.states[task] === wanted));
  const plane = tasks.findIndex((task) => level.states[task] === worst);
  Object.assign(chosen, { step: step.name, level: key(level), plane, cursor: cell });
  dirty.add("page");
}

async function openTask(step, part, task) {
  const level = maps.get(step)?.levels.find((one) => one.part === part && one.number(task) >= 0);
  $("task-name").textContent = `${step}  ${task}`;
  try {
    const found = await ask(`/dashboard/task.json?${new URLSearchParams({ step, part, task })}`);
    $("task-body").replaceChildren(...taskPanel(found, level, level ? level.number(task) : -1, state.run, state.voxel_size_nm));
  } catch (error) {
    $("task-body").replaceChildren(make("p", { textContent: error.message }));
  }
  if (!$("task").open) $("task").showModal();
}

// ---- hands -----------------------------------------------------------------------------------------------------

function moveCursor(event) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const level = shownLevel(shownStep());
  if (!level) return;
  const { rows: most, columns } = layout(level, { plane: chosen.plane });
  const clamp = (value, limit) => Math.max(0, Math.min(limit - 1, value));
  if (event.key in moves) {
    const [down, right] = moves[event.key];
    const [row, column] = chosen.cursor ?? [0, -1 * (right > 0)];
    chosen.cursor = [clamp(row + down, most), clamp(column + right, columns)];
    tip(null, chosen.cursor);
  } else if (event.key === "Enter" || event.key === " ") {
    openCell(chosen.cursor);
  } else if ((event.key === "PageUp" || event.key === "PageDown") && !level.isRow) {
    chosen.plane = clamp((chosen.plane ?? 0) + (event.key === "PageDown" ? 1 : -1), level.counts[0]);
  } else {
    return;
  }
  event.preventDefault();
  dirty.add("page");
}

function walkSteps(event) {
  const buttons = [...rows.values()].map((row) => row.button);
  const at = buttons.indexOf(document.activeElement);
  const to = at + { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (at < 0 || !buttons[to]) return;
  event.preventDefault();
  buttons[to].focus();
}

$("map").addEventListener("pointermove", (event) => tip(event, top.plan && top.at(event)));
$("map").addEventListener("pointerleave", () => { $("tip").hidden = true; });
$("map").addEventListener("blur", () => { $("tip").hidden = true; chosen.cursor = null; dirty.add("page"); });
$("map").addEventListener("click", (event) => openCell(top.at(event)));
$("map").addEventListener("keydown", moveCursor);
$("side").addEventListener("click", (event) => { chosen.plane = side.at(event)?.[0] ?? chosen.plane; dirty.add("page"); });
$("plane").addEventListener("input", () => { chosen.plane = Number($("plane").value); dirty.add("page"); });
$("all").addEventListener("change", () => { chosen.plane = $("all").checked ? null : Number($("plane").value); dirty.add("page"); });
$("steps").addEventListener("keydown", walkSteps);
$("follow").addEventListener("click", () => choose(null));
$("close").addEventListener("click", () => $("task").close());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = readColours(); dirty.add("page"); });
addEventListener("resize", () => dirty.add("page"));
addEventListener("hashchange", () => choose(stepInAddress()));

async function poll() {
  if (state && (working() || document.hidden)) await refresh().catch(() => live(false));
  if (state && document.hidden) showHeader();
  setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : POLL_MS);
}

chosen.step = stepInAddress();
requestAnimationFrame(frame);
(async function start() {
  try {
    await load();
    join();
    poll();
  } catch (error) {
    problem(error.message);
    setTimeout(start, POLL_MS);
  }
})();
