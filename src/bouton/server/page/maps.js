// What is known of each task of a step: one byte a task, in the order of its number (C order in the grid).

export const [PENDING, DONE, REUSED, FAILED, BLOCKED] = [0, 1, 2, 3, 4];
export const STATES = ["pending", "done", "reused", "failed", "blocked"];
const FRESH_MS = 1500;
const MOST_FRESH = 400;

// One level of a merge, or all blocks, slabs, ranges or the one task of another part.
export class Level {
  constructor(values, voxelSizeNm) {
    Object.assign(this, { part: values.part, shape: values.shape, level: values.level });
    Object.assign(this, { first: values.first_zyx, block: values.block_zyx });
    this.counts = values.counts_zyx;
    this.bounds = values.bounds_zyx;
    const whole = [0, 1, 2].map((axis) => this.bounds[1][axis] - this.bounds[0][axis]);
    this.edgesNm = this.block.map((edge, axis) => Math.min(edge, whole[axis]) * voxelSizeNm[axis]);
    this.size = this.counts[0] * this.counts[1] * this.counts[2];
    this.states = new Uint8Array(this.size);
    this.tally = [this.size, 0, 0, 0, 0];
    this.fresh = [];
    this.version = 0;
    for (const state of [DONE, REUSED, BLOCKED, FAILED]) {
      const runs = values[STATES[state]];
      for (let i = 0; i < runs.length; i += 2) this.paint(runs[i], runs[i + 1], state);
    }
  }

  paint(from, to, state) {
    const { states, tally } = this;
    this.version++;
    for (let task = Math.max(0, from); task < Math.min(to, this.size); task++) {
      tally[states[task]]--;
      tally[state]++;
      states[task] = state;
    }
  }

  // Paint tasks that have just become done, and remember them for a moment.
  finish(from, to, state) {
    this.paint(from, to, state);
    this.fresh.push([from, Math.min(to, this.size), performance.now()]);
    if (this.fresh.length > MOST_FRESH) this.fresh.shift();
  }

  // Runs of tasks that became done a moment ago: [from, to, how new from 0 to 1].
  freshRuns(now) {
    this.fresh = this.fresh.filter(([, , at]) => now - at < FRESH_MS);
    return this.fresh.map(([from, to, at]) => [from, to, 1 - (now - at) / FRESH_MS]);
  }

  // Ranges of objects and slabs have one axis: they are shown as rows of squares.
  get isRow() {
    return this.shape === "object" || (this.counts[1] * this.counts[2] === 1 && this.counts[0] > 1);
  }

  get finished() {
    return this.tally[DONE] + this.tally[REUSED];
  }

  index(task) {
    const [, ny, nx] = this.counts;
    return [Math.floor(task / (ny * nx)), Math.floor(task / nx) % ny, task % nx].map((n, axis) => n + this.first[axis]);
  }

  name(task) {
    if (this.shape === "object") return String(task).padStart(8, "0");
    if (this.shape === "whole") return "whole";
    return (this.shape === "merge" ? `level${this.level}-` : "") + this.index(task).join("-");
  }

  // The number of a task by its name; -1 if it belongs to another level.
  number(name) {
    if (this.shape === "whole") return name === "whole" ? 0 : -1;
    if (this.shape === "object") return Number(name);
    const found = /^(?:level(\d+)-)?(\d+)-(\d+)-(\d+)$/.exec(name);
    if (!found || Number(found[1] ?? 0) !== this.level) return -1;
    const [z, y, x] = [2, 3, 4].map((group, axis) => Number(found[group]) - this.first[axis]);
    const [nz, ny, nx] = this.counts;
    return z < nz && y < ny && x < nx && Math.min(z, y, x) >= 0 ? (z * ny + y) * nx + x : -1;
  }

  // The voxels that a task owns, [start, stop]; null for objects.
  box(task) {
    if (this.shape === "object") return null;
    if (this.shape === "whole") return this.bounds;
    const start = this.index(task).map((n, axis) => n * this.block[axis]);
    const stop = start.map((n, axis) => Math.min(n + this.block[axis], this.bounds[1][axis]));
    return [start.map((n, axis) => Math.max(n, this.bounds[0][axis])), stop];
  }
}

export class StepMap {
  constructor(values, voxelSizeNm) {
    this.levels = values.levels.map((level) => new Level(level, voxelSizeNm));
    this.failures = values.failures;
    this.moreFailures = values.more_failures;
  }

  find(part, level) {
    return this.levels.find((one) => one.part === part && one.level === level);
  }

  // Paint what an event tells; false if the map must be asked for anew.
  take(event) {
    if (event.event === "TasksDone" || event.event === "TasksBlocked") {
      const level = this.find(event.part, event.level);
      if (!level?.size || !event.runs?.length) return false;
      const done = event.reused && event.reused === event.tasks ? REUSED : DONE;
      for (const [from, to] of event.runs) {
        if (event.event === "TasksDone") level.finish(from, to, done);
        else level.paint(from, to, BLOCKED);
      }
      // of a mixture only the ledger knows which were copied
      return !event.reused || event.reused === event.tasks;
    }
    const state = { TaskFailed: FAILED, TaskLost: PENDING }[event.event];
    const level = this.levels.find((one) => one.part === event.part && one.number(event.task) >= 0);
    if (state === undefined || !level) return false;
    const task = level.number(event.task);
    level.paint(task, task + 1, state);
    return state !== FAILED;
  }

  get tally() {
    return STATES.map((_, state) => this.levels.reduce((sum, level) => sum + level.tally[state], 0));
  }

  // The level to look at when nobody chose one: the first that is not finished, else the one of the most tasks.
  get foremost() {
    const bad = this.levels.find((level) => level.tally[FAILED] + level.tally[BLOCKED] > 0);
    const open = this.levels.find((level) => level.size > 0 && level.finished < level.size);
    return bad ?? open ?? this.levels.reduce((best, level) => (!best || level.size > best.size ? level : best), null);
  }
}
