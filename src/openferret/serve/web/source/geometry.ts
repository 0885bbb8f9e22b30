/** Where shapes are. */

import type { Corners, Pair, Shape } from "./types";

export function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

export function distance(a: Pair, b: Pair): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

/** A box from two opposite corners. */
export function boxBetween(a: Pair, b: Pair): Corners {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
}

export function area([x1, y1, x2, y2]: Corners): number {
  return Math.max(0, x2 - x1) * Math.max(0, y2 - y1);
}

export function contains([x1, y1, x2, y2]: Corners, [x, y]: Pair, slack = 0): boolean {
  return x >= x1 - slack && x <= x2 + slack && y >= y1 - slack && y <= y2 + slack;
}

function around(points: readonly Pair[], margin = 0): Corners {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  return [
    ...[Math.min(...xs) - margin, Math.min(...ys) - margin],
    ...[Math.max(...xs) + margin, Math.max(...ys) + margin],
  ] as unknown as Corners;
}

export function bounds(shape: Shape): Corners {
  switch (shape.kind) {
    case "point":
      return around([shape.at]);
    case "box":
      return shape.corners;
    case "polygon":
      return around(shape.points);
    case "paint": {
      const painted = shape.strokes.filter((stroke) => !stroke.erase);
      const boxes = painted.map((stroke) => around(stroke.points, stroke.width / 2));
      return around(boxes.flatMap(([x1, y1, x2, y2]): Pair[] => [[x1, y1], [x2, y2]]));
    }
  }
}

/** The same line with fewer points: none is further than `tolerance` from it (Ramer, Douglas and Peucker). */
export function simplify(points: readonly Pair[], tolerance: number): Pair[] {
  const keep = new Set([0, points.length - 1]);
  const open: [number, number][] = [[0, points.length - 1]];
  for (let span = open.pop(); span; span = open.pop()) {
    const [first, last] = span;
    let furthest = first;
    let most = tolerance;
    for (let index = first + 1; index < last; index++) {
      const off = offLine(points[index]!, points[first]!, points[last]!);
      if (off > most) [furthest, most] = [index, off];
    }
    if (furthest === first) continue;
    keep.add(furthest);
    open.push([first, furthest], [furthest, last]);
  }
  return points.filter((_, index) => keep.has(index));
}

function offLine(point: Pair, from: Pair, to: Pair): number {
  const length = distance(from, to);
  if (length === 0) return distance(point, from);
  const along = ((point[0] - from[0]) * (to[0] - from[0]) + (point[1] - from[1]) * (to[1] - from[1])) / length ** 2;
  const [x, y] = [from[0] + (to[0] - from[0]) * clamp(along, 0, 1), from[1] + (to[1] - from[1]) * clamp(along, 0, 1)];
  return distance(point, [x, y]);
}
