/** Regions and boxes drawn on a canvas: on the screen, and in an exported picture. */

import { bounds } from "./geometry";
import type { Label } from "./labels";
import type { Mark } from "./marks";
import { traceStroke } from "./raster";
import type { Corners, Pair, Shape } from "./types";
import type { View } from "./viewport";

const POINTED = "#ffc233";
const INK = "#1d1503";
const MOST_LABELS = 14;

/** A place to draw: `em` is the height of its letters in canvas pixels. */
export interface Board {
  readonly context: CanvasRenderingContext2D;
  readonly view: View;
  readonly em: number;
  readonly picture: Pair;
  readonly size: Pair;
}

export function place({ view }: Board, [x, y]: Pair): Pair {
  return [x * view.scale + view.x, y * view.scale + view.y];
}

function placeBox(board: Board, [x1, y1, x2, y2]: Corners): Corners {
  return [...place(board, [x1, y1]), ...place(board, [x2, y2])];
}

/** A region in the colour of what is pointed at; its label is left to be written over everything else. */
export function paintRegion(board: Board, shape: Shape, label: string, lit: boolean, open = false): Label {
  const { context, em } = board;
  const [x1, y1, x2, y2] = placeBox(board, bounds(shape));
  let near: Corners = [x1, y1, x2, y2];
  context.save();
  if (shape.kind === "point") {
    const radius = 0.5 * em;
    context.beginPath();
    context.arc(x1, y1, radius, 0, 2 * Math.PI);
    outline(board, lit);
    context.beginPath();
    context.arc(x1, y1, 0.14 * em, 0, 2 * Math.PI);
    context.fillStyle = POINTED;
    context.fill();
    near = [x1 - radius, y1 - radius, x1 + radius, y1 + radius];
  } else if (shape.kind === "paint") {
    paintStrokes(board, shape, lit);
  } else {
    const points: Pair[] = shape.kind === "polygon" ? shape.points.map((point) => place(board, point)) : [];
    context.beginPath();
    if (shape.kind === "box") context.rect(x1, y1, x2 - x1, y2 - y1);
    points.forEach((point, index) => (index ? context.lineTo(...point) : context.moveTo(...point)));
    if (!open) context.closePath();
    context.fillStyle = `${POINTED}${lit ? "55" : "26"}`;
    context.fill("evenodd");
    outline(board, lit);
    if (open && points[0]) {
      context.beginPath();
      context.arc(...points[0], 0.35 * em, 0, 2 * Math.PI);
      outline(board, lit);
    }
  }
  context.restore();
  return { text: label, near, colour: POINTED, ink: INK };
}

function outline({ context, em }: Board, lit: boolean): void {
  context.lineJoin = "round";
  context.lineWidth = em * (lit ? 0.38 : 0.28);
  context.strokeStyle = "rgb(29 21 3 / 75%)";
  context.stroke();
  context.lineWidth = em * (lit ? 0.22 : 0.14);
  context.strokeStyle = POINTED;
  context.stroke();
}

/** Strokes go on a sheet of their own, so that where they cross is no darker and erasing bares the picture. */
function paintStrokes(board: Board, shape: Shape & { kind: "paint" }, lit: boolean): void {
  const { context, view, em, size } = board;
  const zoom = context.getTransform().a;
  const fill = makeSheet(size, zoom, (sheet) => {
    sheet.setTransform(zoom * view.scale, 0, 0, zoom * view.scale, zoom * view.x, zoom * view.y);
    sheet.strokeStyle = POINTED;
    for (const stroke of shape.strokes) traceStroke(sheet, stroke);
  });
  const reach = 0.1 * em * zoom * (lit ? 1.6 : 1);
  const rim = makeSheet(size, zoom, (sheet) => {
    for (let turn = 0; turn < 8; turn++) {
      const angle = (turn * Math.PI) / 4;
      sheet.drawImage(fill, reach * Math.cos(angle), reach * Math.sin(angle));
    }
    sheet.globalCompositeOperation = "destination-out";
    sheet.drawImage(fill, 0, 0);
  });
  context.globalAlpha = lit ? 0.7 : 0.5;
  context.drawImage(fill, 0, 0, ...size);
  context.globalAlpha = 1;
  context.drawImage(rim, 0, 0, ...size);
}

function makeSheet(size: Pair, zoom: number, draw: (sheet: CanvasRenderingContext2D) => void): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, size[0] * zoom), Math.max(1, size[1] * zoom)];
  const sheet = canvas.getContext("2d");
  if (sheet) draw(sheet);
  return canvas;
}

/** Boxes in their colours; while one is lit the others step back and the picture round it darkens. */
export function paintMarks(board: Board, marks: readonly Mark[], litKey: string | null): Label[] {
  const { context, em } = board;
  const lit = marks.find((mark) => mark.key === litKey);
  if (lit) dimAround(board, lit);
  const count = marks.reduce((sum, mark) => sum + mark.boxes.length, 0);
  const labels: Label[] = [];
  for (const mark of marks) {
    const back = lit && mark !== lit;
    context.save();
    context.globalAlpha = back ? 0.25 : 1;
    for (const box of mark.boxes) {
      const [x1, y1, x2, y2] = placeBox(board, box.pixels);
      const line = em * (mark === lit ? 0.26 : 0.18);
      context.lineJoin = "round";
      context.strokeStyle = "rgb(255 255 255 / 80%)";
      context.lineWidth = line + 0.16 * em;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      context.strokeStyle = mark.colour;
      context.lineWidth = line;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      const score = box.score === null ? "" : ` ${box.score.toFixed(2)}`;
      const labelled = lit ? mark === lit : count <= MOST_LABELS;
      if (labelled) labels.push({ text: mark.phrase, tail: score, near: [x1, y1, x2, y2], colour: mark.colour, ink: "#fff" });
    }
    context.restore();
  }
  return labels;
}

function dimAround(board: Board, lit: Mark): void {
  const { context } = board;
  const [left, top, right, bottom] = placeBox(board, [0, 0, ...board.picture]);
  context.save();
  for (const box of lit.boxes) {
    const [x1, y1, x2, y2] = placeBox(board, box.pixels);
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.rect(x1, y1, x2 - x1, y2 - y1);
    context.clip("evenodd");
  }
  context.fillStyle = "rgb(12 10 8 / 42%)";
  context.fillRect(left, top, right - left, bottom - top);
  context.restore();
}
