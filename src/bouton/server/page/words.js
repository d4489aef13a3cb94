// Numbers, durations and places as people say them.

export function human(number) {
  for (const prefix of ["", "k", "M", "G", "T"]) {
    if (Math.abs(number) < 999.5 || prefix === "T") return `${Number(number.toPrecision(3))} ${prefix}`;
    number /= 1000;
  }
  return "";
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export function clock(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  const two = (value) => String(value).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(Math.round(seconds) % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${two(minutes % 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// A time that is only estimated: minutes, once it is longer than ten of them.
export const about = (seconds) => (seconds < 600 ? `about ${clock(seconds)}` : `about ${clock(Math.ceil(seconds / 60) * 60).replace(" 00 s", "")}`);

export const timeOfDay = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

export const boxText = (box) => box[0].map((start, axis) => `${start}:${box[1][axis]}`).join(", ");

// "z0:z1,y0:y1,x0:x1" -> [[z0, y0, x0], [z1, y1, x1]], or null
export function parseBox(text) {
  const pairs = String(text).split(",").map((part) => part.split(":").map(Number));
  const good = pairs.length === 3 && pairs.every((pair) => pair.length === 2 && pair.every(Number.isFinite));
  return good ? [pairs.map((pair) => pair[0]), pairs.map((pair) => pair[1])] : null;
}

// The address of a box's middle in the viewer.
export function viewerUrl(run, box, voxelSizeNm) {
  const [z, y, x] = box[0].map((start, axis) => (((start + box[1][axis]) / 2) * voxelSizeNm[axis]).toFixed(1));
  return `/at?${new URLSearchParams({ z_nm: z, y_nm: y, x_nm: x, run })}`;
}

export const UNITS = { block: "block", merge: "node", object: "range", chain: "slab", whole: "task" };
