/** Answers as files: JSON, COCO, and a drawn PNG. */

import { regionsOf } from "./conversation";
import { LETTERS, writeLabels } from "./labels";
import { marksOf } from "./marks";
import { type Board, paintMarks, paintRegion } from "./paint";
import { readable, regionSpec } from "./requests";
import type { LocatedBox, Pair, Picture, Region, Turn } from "./types";

/** The whole conversation. */
export function toJson(picture: Picture, turns: readonly Turn[]): Record<string, unknown> {
  const { name, width, height } = picture;
  const done = turns.filter((turn) => turn.status === "done");
  return {
    image: { file_name: name, width, height },
    turns: done.map((turn) => ({
      question: readable(turn.question),
      asked: turn.question.verb,
      regions: regionsOf(turn.question).map((one) => ({ number: one.number, ...regionSpec(one.shape, width, height) })),
      answers: turn.answers,
      seconds: turn.seconds,
      ...(turn.vote ? { vote: turn.vote > 0 ? "up" : "down" } : {}),
    })),
  };
}

const DETERMINERS = new Set(
  `a an the this that these those his her their its my your our some several many few both each every another
   all no one two three four five six seven eight nine ten eleven twelve dozen multiple various`.split(/\s+/),
);

/** What a phrase names, as a class: "two Dogs" and "the dogs" are both "dogs". */
export function withoutDeterminer(phrase: string): string {
  const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
  while (words.length > 1 && (DETERMINERS.has(words[0]!) || /^\d+$/.test(words[0]!))) words.shift();
  return words.join(" ");
}

/** COCO detection json of the boxes that are shown, as the library writes it. */
export function toCoco(picture: Picture, turns: readonly Turn[], threshold: number): Record<string, unknown> {
  const categories = new Map<string, number>();
  const annotations = turns.flatMap((turn) => marksOf(turn, threshold)).flatMap((mark) =>
    mark.boxes.map((box) => ({ phrase: mark.phrase, box })),
  );
  return {
    images: [{ id: 1, file_name: picture.name, width: picture.width, height: picture.height }],
    annotations: annotations.map(({ phrase, box }, index) => annotation(phrase, box, index + 1, categories)),
    categories: [...categories].map(([name, id]) => ({ id, name })),
  };
}

function annotation(phrase: string, box: LocatedBox, id: number, categories: Map<string, number>): unknown {
  const category = withoutDeterminer(phrase);
  if (!categories.has(category)) categories.set(category, categories.size + 1);
  const [x1, y1, x2, y2] = box.pixels;
  return {
    ...{ id, image_id: 1, category_id: categories.get(category), bbox: [x1, y1, x2 - x1, y2 - y1] },
    ...{ area: (x2 - x1) * (y2 - y1), iscrowd: 0, segmentation: [], phrase },
    ...(box.score === null ? {} : { score: box.score }),
  };
}

const LEAST_SIDE = 960;

/** The picture with its regions and boxes, over the questions and answers. */
export async function toPng(
  picture: Picture,
  turns: readonly Turn[],
  regions: readonly Region[],
  threshold: number,
): Promise<Blob> {
  const scale = Math.max(1, LEAST_SIDE / Math.max(picture.width, picture.height));
  const size: Pair = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
  const em = Math.max(14, Math.round(Math.max(...size) / 64));
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser cannot draw");
  context.font = `${em}px ${LETTERS}`;
  const lines = turns.flatMap((turn) => [
    ...wrap(context, readable(turn.question), size[0] - 2 * em).map((text) => ({ text, ink: "#6b665e" })),
    ...turn.answers.flatMap((one) => wrap(context, one.text, size[0] - 2 * em)).map((text) => ({ text, ink: "#1c1a17" })),
  ]);
  const step = 1.5 * em;
  [canvas.width, canvas.height] = [size[0], Math.round(size[1] + (lines.length ? step * lines.length + 1.5 * em : 0))];
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.image, 0, 0, ...size);
  const board: Board = { context, view: { scale, x: 0, y: 0 }, em, picture: [picture.width, picture.height], size };
  const marks = turns.flatMap((turn) => marksOf(turn, threshold)).filter((mark) => mark.boxes.length);
  context.save();
  context.beginPath();
  context.rect(0, 0, ...size);
  context.clip();
  const labels = paintMarks(board, marks, null);
  labels.push(...regions.map((region) => paintRegion(board, region.shape, String(region.number), false)));
  writeLabels(context, labels, em, size);
  context.restore();
  context.font = `${em}px ${LETTERS}`;
  context.textBaseline = "middle";
  lines.forEach(({ text, ink }, index) => {
    context.fillStyle = ink;
    context.fillText(text, em, size[1] + 0.75 * em + step * (index + 0.5));
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("this browser cannot write a PNG"))), "image/png");
  });
}

function wrap(context: CanvasRenderingContext2D, text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = line ? `${line} ${word}` : word;
    if (line && context.measureText(longer).width > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return line ? [...lines, line] : lines;
}
