// Draws a level's tasks as an image: one pixel a task, enlarged; no element of the page a task.

import { BLOCKED, DONE, FAILED, PENDING, REUSED } from "./maps.js";

const LINES_FROM_PX = 6;
const MARKS_FROM_PX = 14;
const MOST_MARKS = 4000;
const LARGEST_CELL_PX = 48;

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["pending", "done", "reused", "failed", "blocked"];
  return {
    states: names.map((name) => channels(colour(name))),
    paper: colour("paper"), ink: colour("ink"), fresh: colour("fresh"), failed: colour("failed"),
  };
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// How a level lies on a flat picture. ``plane`` is a z plane or null for all of them; ``side`` looks along y.
// A cell (row, column) shows the tasks base + row * rowStep + column + k * depthStep, k < depth.
export function layout(level, { plane = null, side = false } = {}) {
  const [nz, ny, nx] = level.counts;
  if (level.isRow) {
    const columns = Math.max(1, Math.ceil(Math.sqrt(level.size * 2.4)));
    const rows = Math.ceil(level.size / columns);
    return { rows, columns, height: 1, width: 1, base: 0, rowStep: columns, depthStep: 0, depth: 1 };
  }
  const [dz, dy, dx] = level.edgesNm;
  if (side) {
    const [height, width] = shaped(dz, dx);
    return { rows: nz, columns: nx, height, width, base: 0, rowStep: ny * nx, depthStep: nx, depth: ny };
  }
  const [height, width] = shaped(dy, dx);
  const flat = { rows: ny, columns: nx, height, width, rowStep: nx, depthStep: ny * nx };
  return plane === null ? { ...flat, base: 0, depth: nz } : { ...flat, base: plane * ny * nx, depth: 1 };
}

// Edges of a cell in proportion to the tissue, but never so flat that it cannot be seen.
function shaped(height, width) {
  const ratio = Math.min(4, Math.max(0.25, height / width));
  return [ratio, 1];
}

// How many tasks of each state every cell shows, read in the order in which they lie in memory.
function census(level, plan) {
  const { rows, columns, base, rowStep, depthStep, depth } = plan;
  const { states, size } = level;
  const sums = new Int32Array(rows * columns * 5);
  const line = (row, k) => {
    const start = base + row * rowStep + k * depthStep;
    const end = Math.min(start + columns, size);
    for (let task = start, at = row * columns * 5; task < end; task++, at += 5) sums[at + states[task]]++;
  };
  if (depthStep > rowStep) {
    for (let k = 0; k < depth; k++) for (let row = 0; row < rows; row++) line(row, k);
  } else {
    for (let row = 0; row < rows; row++) for (let k = 0; k < depth; k++) line(row, k);
  }
  return sums;
}

// The colour of every cell: a mixture by how many of its tasks are done; what failed is always seen.
function image(level, plan, colours) {
  const pixels = new ImageData(plan.columns, plan.rows);
  const sums = census(level, plan);
  const words = new Uint32Array(pixels.data.buffer);
  for (let cell = 0; cell < words.length; cell++) {
    const seen = sums.subarray(cell * 5, cell * 5 + 5);
    const shown = seen[PENDING] + seen[DONE] + seen[REUSED] + seen[FAILED] + seen[BLOCKED];
    if (shown) words[cell] = packed(mixed(seen, shown, colours.states));
  }
  return pixels;
}

// Alpha, blue, green, red: the order of a canvas on every machine that browsers run on.
const packed = ([red, green, blue]) => ((255 << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;

function mixed(seen, shown, states) {
  if (seen[FAILED]) return states[FAILED];
  const finished = seen[DONE] + seen[REUSED];
  const over = seen[BLOCKED] ? states[BLOCKED] : seen[REUSED] > seen[DONE] ? states[REUSED] : states[DONE];
  const share = (seen[BLOCKED] || finished) / shown;
  // what is not whole stays clearly lighter
  const weight = share === 0 || share === 1 ? share : 0.15 + 0.6 * share;
  if (weight === 1) return over;
  return states[PENDING].map((value, channel) => value + (over[channel] - value) * weight);
}

export class Painter {
  constructor(canvas, room) {
    this.canvas = canvas;
    this.room = room;
    this.small = document.createElement("canvas");
  }

  // Draw; returns whether something still fades, so that another picture must follow.
  draw(level, options, colours) {
    const plan = layout(level, options);
    const [roomX, roomY] = this.room();
    const most = options.largest ?? LARGEST_CELL_PX;
    const scale = Math.min(roomX / (plan.columns * plan.width), roomY / (plan.rows * plan.height), most / plan.width);
    Object.assign(this, { plan, cell: [plan.height * scale, plan.width * scale] });
    const pen = this.resized(plan.columns * this.cell[1], plan.rows * this.cell[0]);
    this.cells(level, options, colours);
    pen.imageSmoothingEnabled = Math.min(...this.cell) < 1;
    pen.drawImage(this.small, 0, 0, plan.columns * this.cell[1], plan.rows * this.cell[0]);
    const fading = options.still ? false : this.freshOnes(pen, level, colours);
    this.lines(pen, colours);
    this.marks(pen, level, colours);
    this.outline(pen, options, colours);
    return fading;
  }

  // One pixel a cell; counted again only when a task has changed.
  cells(level, { plane, side }, colours) {
    const { plan, small } = this;
    const key = [level.version, plane, side];
    if (this.counted === level && this.colours === colours && this.key?.every((value, at) => value === key[at])) return;
    Object.assign(this, { counted: level, colours, key });
    Object.assign(small, { width: plan.columns, height: plan.rows });
    small.getContext("2d").putImageData(image(level, plan, colours), 0, 0);
  }

  resized(width, height) {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    if (canvas.width !== w || canvas.height !== h) {
      Object.assign(canvas, { width: w, height: h });
      Object.assign(canvas.style, { width: `${w / ratio}px`, height: `${h / ratio}px` });
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(w / width, 0, 0, h / height, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  // The cell (row, column) of a task, or null if this picture does not show it.
  cellOf(task) {
    const { base, rowStep, depthStep, depth, columns, rows } = this.plan;
    if (depthStep === 0 || depthStep > rowStep) {
      const flat = depthStep ? task % depthStep : task;
      if (depth === 1 && depthStep && task - flat !== base) return null;
      return [Math.floor(flat / rowStep), flat % columns];
    }
    const row = Math.floor(task / rowStep);
    return row < rows ? [row, task % columns] : null;
  }

  rectangle(row, column) {
    const [height, width] = this.cell;
    return [column * width, row * height, width, height];
  }

  freshOnes(pen, level, colours) {
    const runs = level.freshRuns(performance.now());
    pen.fillStyle = colours.fresh;
    let left = MOST_MARKS;
    for (const [from, to, newness] of runs) {
      pen.globalAlpha = newness;
      for (let task = from; task < to && left > 0; task++, left--) {
        const cell = this.cellOf(task);
        if (cell) pen.fillRect(...this.rectangle(...cell));
      }
    }
    pen.globalAlpha = 1;
    return runs.length > 0;
  }

  lines(pen, colours) {
    const [height, width] = this.cell;
    if (Math.min(height, width) < LINES_FROM_PX) return;
    const { rows, columns } = this.plan;
    pen.fillStyle = colours.paper;
    for (let row = 1; row < rows; row++) pen.fillRect(0, row * height - 0.5, columns * width, 1);
    for (let column = 1; column < columns; column++) pen.fillRect(column * width - 0.5, 0, 1, rows * height);
  }

  // A cross on what failed, told apart without colour; a dot where cells are too small to be seen.
  marks(pen, level, colours) {
    if (!level.tally[FAILED]) return;
    const [height, width] = this.cell;
    const edge = Math.min(height, width);
    let left = MOST_MARKS;
    for (let task = level.states.indexOf(FAILED); task >= 0 && left > 0; left--) {
      const cell = this.cellOf(task);
      if (cell) {
        const [x, y] = [(cell[1] + 0.5) * width, (cell[0] + 0.5) * height];
        if (edge >= MARKS_FROM_PX) cross(pen, x, y, edge * 0.2, colours.paper);
        else if (edge < 4) dot(pen, x, y, colours.failed);
      }
      task = level.states.indexOf(FAILED, task + 1);
    }
  }

  outline(pen, { cursor, rowShown }, colours) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2;
    if (cursor) pen.strokeRect(...this.rectangle(...cursor));
    if (rowShown !== undefined && rowShown !== null) {
      const height = this.cell[0];
      pen.strokeRect(1, rowShown * height, this.plan.columns * this.cell[1] - 2, Math.max(2, height));
    }
  }

  // The cell under a pointer, or null.
  at(event) {
    const frame = this.canvas.getBoundingClientRect();
    const [row, column] = [(event.clientY - frame.top) / this.cell[0], (event.clientX - frame.left) / this.cell[1]].map(Math.floor);
    const { rows, columns } = this.plan;
    return row >= 0 && column >= 0 && row < rows && column < columns ? [row, column] : null;
  }
}

// The tasks that a cell shows.
export function tasksAt(level, options, [row, column]) {
  const { base, rowStep, depthStep, depth } = layout(level, options);
  const start = base + row * rowStep + column;
  return Array.from({ length: depth }, (_, k) => start + k * depthStep).filter((task) => task < level.size);
}

function cross(pen, x, y, reach, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = Math.max(1.5, reach * 0.4);
  pen.beginPath();
  pen.moveTo(x - reach, y - reach);
  pen.lineTo(x + reach, y + reach);
  pen.moveTo(x + reach, y - reach);
  pen.lineTo(x - reach, y + reach);
  pen.stroke();
}

function dot(pen, x, y, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, 2.5, 0, 2 * Math.PI);
  pen.fill();
}

// The rate of the last ten minutes as bars.
export function drawRates(canvas, seconds, now, colours) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const bars = Math.max(1, Math.floor(width / 4));
  const sums = new Float64Array(bars);
  for (const [at, amount] of seconds) {
    const bar = bars - 1 - Math.floor(((now - at) / 600) * bars);
    if (bar >= 0) sums[Math.min(bar, bars - 1)] += amount;
  }
  const top = Math.max(...sums, 1e-9);
  pen.fillStyle = `rgb(${colours.states[PENDING].join(" ")})`;
  pen.fillRect(0, height - 1, width, 1);
  pen.fillStyle = `rgb(${colours.states[DONE].join(" ")})`;
  sums.forEach((sum, bar) => {
    const tall = (sum / top) * (height - 2);
    if (tall > 0) pen.fillRect(bar * 4, height - 1 - Math.max(1, tall), 3, Math.max(1, tall));
  });
}
