/** Painted regions as pixels: what is inside, and the run lengths that COCO and the server read. */

import { bounds, clamp } from "./geometry";
import type { Pair, Stroke } from "./types";

export interface RunLengths {
  readonly size: readonly [number, number];
  readonly counts: string;
}

export function traceStroke(context: CanvasRenderingContext2D, stroke: Stroke): void {
  const [first, ...rest] = stroke.points;
  if (!first) return;
  context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = stroke.width;
  context.beginPath();
  context.moveTo(...first);
  for (const point of rest) context.lineTo(...point);
  // A line to where it begins is a dot.
  if (!rest.length) context.lineTo(...first);
  context.stroke();
  context.globalCompositeOperation = "source-over";
}

interface Window {
  readonly left: number;
  readonly top: number;
  readonly columns: number;
  readonly rows: number;
  readonly alpha: (column: number, row: number) => number;
}

/** The part of a picture that strokes cover, as pixels. */
function rasterize(strokes: readonly Stroke[], width: number, height: number): Window {
  const [x1, y1, x2, y2] = bounds({ kind: "paint", strokes });
  const left = clamp(Math.floor(x1), 0, width - 1);
  const top = clamp(Math.floor(y1), 0, height - 1);
  const columns = clamp(Math.ceil(x2), left + 1, width) - left;
  const rows = clamp(Math.ceil(y2), top + 1, height) - top;
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser cannot draw");
  context.translate(-left, -top);
  for (const stroke of strokes) traceStroke(context as unknown as CanvasRenderingContext2D, stroke);
  const { data } = context.getImageData(0, 0, columns, rows);
  return { left, top, columns, rows, alpha: (column, row) => data[4 * (row * columns + column) + 3] ?? 0 };
}

/** Compressed run lengths, down the columns, as COCO has them. */
export function encodeRuns(strokes: readonly Stroke[], width: number, height: number): RunLengths {
  const { left, top, columns, rows, alpha } = rasterize(strokes, width, height);
  const runs: number[] = [];
  let position = 0;
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) {
      if (alpha(column, row) < 128) continue;
      const pixel = (left + column) * height + top + row;
      // A run of pixels inside grows by one, or a new one begins after a run outside.
      if (runs.length && pixel === position) runs[runs.length - 1]! += 1;
      else runs.push(pixel - position, 1);
      position = pixel + 1;
    }
  }
  if (position < width * height) runs.push(width * height - position);
  return { size: [height, width], counts: packRuns(runs) };
}

export function isEmpty(strokes: readonly Stroke[], width: number, height: number): boolean {
  const { columns, rows, alpha } = rasterize(strokes, width, height);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) if (alpha(column, row) >= 128) return false;
  }
  return true;
}

/** Whether a brush at a place would touch what is painted. */
export function touches(strokes: readonly Stroke[], at: Pair, radius: number): boolean {
  let painted = false;
  for (const stroke of strokes) {
    const reach = stroke.width / 2 + (stroke.erase ? 0 : radius);
    if (stroke.points.some((point, index) => nearSegment(at, point, stroke.points[index + 1] ?? point, reach))) {
      painted = !stroke.erase;
    }
  }
  return painted;
}

function nearSegment([x, y]: Pair, [x1, y1]: Pair, [x2, y2]: Pair, reach: number): boolean {
  const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const along = length ? clamp(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length, 0, 1) : 0;
  return Math.hypot(x - x1 - along * (x2 - x1), y - y1 - along * (y2 - y1)) <= reach;
}

/** COCO's letters: six bits each, the lowest first, differences from the run before the last from the third on. */
function packRuns(runs: readonly number[]): string {
  let text = "";
  runs.forEach((run, index) => {
    let rest = index > 2 ? run - runs[index - 2]! : run;
    for (let more = true; more; ) {
      let bits = rest & 31;
      rest >>= 5;
      more = bits & 16 ? rest !== -1 : rest !== 0;
      if (more) bits |= 32;
      text += String.fromCharCode(bits + 48);
    }
  });
  return text;
}
