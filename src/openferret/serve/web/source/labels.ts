/** Labels over everything else, each where it hides the least. */

import { clamp } from "./geometry";
import type { Corners, Pair } from "./types";

export interface Label {
  readonly text: string;
  /** Kept whole where the text must be shortened. */
  readonly tail?: string;
  readonly near: Corners;
  readonly colour: string;
  readonly ink: string;
}

const LONGEST = 28;
export const LETTERS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

export function writeLabels(context: CanvasRenderingContext2D, labels: readonly Label[], em: number, size: Pair): void {
  const height = 1.5 * em;
  const pad = 0.45 * em;
  // What is smaller than a label must not be hidden by one.
  const taken = labels.map((label) => label.near).filter(([, top, , bottom]) => bottom - top < 2 * height);
  context.save();
  context.font = `600 ${em}px ${LETTERS}`;
  context.textBaseline = "middle";
  for (const label of labels) {
    if (!label.text) continue;
    const text = shorten(label.text) + (label.tail ?? "");
    const width = Math.max(context.measureText(text).width + 2 * pad, height);
    const spot = bestSpot(label.near, width, height, 0.25 * em, taken, size);
    taken.push(spot);
    context.fillStyle = label.colour;
    context.beginPath();
    context.roundRect(spot[0], spot[1], width, height, 0.35 * em);
    context.fill();
    context.fillStyle = label.ink;
    context.textAlign = "center";
    context.fillText(text, spot[0] + width / 2, spot[1] + height / 2 + 0.04 * em);
  }
  context.restore();
}

function shorten(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1).trimEnd()}…` : text;
}

function bestSpot(
  [x1, y1, x2, y2]: Corners,
  width: number,
  height: number,
  gap: number,
  taken: readonly Corners[],
  size: Pair,
): Corners {
  const [above, below] = [y1 - height - gap, y2 + gap];
  const ways: Pair[] = [
    ...([[x1, above], [x1 + gap, y1 + gap], [x1, below], [x2 - width - gap, y2 - height - gap]] as const),
    ...([[x2 + gap, y1], [x2 - width, above], [x1, above - height - gap], [x1, below + height + gap]] as const),
  ];
  let best: Corners = [0, 0, 0, 0];
  let least = Infinity;
  for (const [x, y] of ways) {
    const left = clamp(x, 0, Math.max(0, size[0] - width));
    const top = clamp(y, 0, Math.max(0, size[1] - height));
    const spot: Corners = [left, top, left + width, top + height];
    const hidden = taken.reduce((sum, other) => sum + overlap(spot, other), 0);
    if (hidden < least) [best, least] = [spot, hidden];
  }
  return best;
}

function overlap(a: Corners, b: Corners): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 ? width * height : 0;
}
