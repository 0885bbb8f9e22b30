/** Questions as the server reads them. */

import { encodeRuns } from "./raster";
import type { Pair, Part, Question, Region, Shape, Turn } from "./types";

export interface Request {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly streams: boolean;
}

/** What a request needs to know besides the question. */
export interface Setting {
  readonly imageId: string;
  readonly width: number;
  readonly height: number;
  readonly model: string;
  readonly longest: number;
  /** Least score that is asked for; null for the model's own. */
  readonly least: number | null;
  /** Earlier turns, the oldest first. */
  readonly before: readonly Turn[];
}

const MOST_TURNS = 24;
const MOST_REGIONS = 32;

export function writeRequest(question: Question, setting: Setting): Request {
  const image = { id: setting.imageId };
  const threshold = setting.least === null ? {} : { threshold: setting.least };
  const spec = (region: Region): unknown => regionSpec(region.shape, setting.width, setting.height);
  switch (question.verb) {
    case "refer": {
      const [first, ...more] = question.regions;
      if (more.length) return { path: "v1/refer", body: { image, regions: question.regions.map(spec) }, streams: false };
      return { path: "v1/refer", body: { image, region: first && spec(first), stream: true }, streams: true };
    }
    case "ground": {
      const { phrases, merge } = question;
      return { path: "v1/ground", body: { image, phrases, merge, ...threshold }, streams: false };
    }
    case "describe": {
      const body = { image, max_new_tokens: setting.longest };
      const { drafts } = question;
      if (drafts > 1) return { path: "v1/describe", body: { ...body, drafts }, streams: false };
      return { path: "v1/describe", body: { ...body, stream: true }, streams: true };
    }
    case "detect":
      return { path: "v1/detect", body: { image, ...threshold }, streams: false };
    case "ask":
      return { path: "v1/chat/completions", body: chatBody(question.parts, setting), streams: true };
  }
}

/** All turns are sent: the server keeps no conversation. */
function chatBody(parts: readonly Part[], setting: Setting): Record<string, unknown> {
  const image = { type: "image_url", image_url: { url: `image:${setting.imageId}` } };
  const asked = [...spokenTurns(setting.before, parts), { parts, answer: null }];
  const messages = asked.flatMap((turn, index) => {
    const content = turn.parts.map((part) =>
      "text" in part
        ? { type: "text", text: part.text }
        : { type: "region", region: regionSpec(part.region.shape, setting.width, setting.height) },
    );
    const question = { role: "user", content: index ? content : [image, ...content] };
    return turn.answer === null ? [question] : [question, { role: "assistant", content: turn.answer }];
  });
  return { model: setting.model, messages, max_tokens: setting.longest, stream: true };
}

interface Spoken {
  readonly parts: readonly Part[];
  readonly answer: string | null;
}

/** Earlier turns that belong to the conversation, as many of the last as the server takes. */
export function spokenTurns(turns: readonly Turn[], now: readonly Part[]): Spoken[] {
  const regions = (parts: readonly Part[]): number => parts.filter((part) => "region" in part).length;
  let room = MOST_REGIONS - regions(now);
  const spoken: Spoken[] = [];
  for (const turn of turns.filter((one) => one.status === "done").reverse()) {
    const parts = wordsOf(turn.question);
    const answer = turn.answers[0]?.text.trim();
    if (!parts || !answer) continue;
    room -= regions(parts);
    if (room < 0 || spoken.length === MOST_TURNS) break;
    spoken.unshift({ parts, answer });
  }
  return spoken;
}

/** What was said, where it is something that a conversation goes on from. */
function wordsOf(question: Question): readonly Part[] | null {
  if (question.verb === "ask") return question.parts;
  if (question.verb === "describe") return [{ text: "Describe the picture." }];
  if (question.verb !== "refer" || question.regions.length > 1) return null;
  return [{ text: "What is " }, ...question.regions.map((region) => ({ region })), { text: "?" }];
}

/** A region as the server reads it, in pixels of the picture. */
export function regionSpec(shape: Shape, width: number, height: number): Record<string, unknown> {
  switch (shape.kind) {
    case "point":
      return { type: "point", x: round(shape.at[0]), y: round(shape.at[1]) };
    case "box": {
      const [x1, y1, x2, y2] = shape.corners.map(round);
      return { type: "box", x1, y1, x2, y2 };
    }
    case "polygon":
      return { type: "polygon", points: shape.points.map(roundPair) };
    case "paint":
      return { type: "mask", rle: encodeRuns(shape.strokes, width, height) };
  }
}

export function round(value: number): number {
  return Math.round(value * 10) / 10;
}

export function roundPair([x, y]: Pair): [number, number] {
  return [round(x), round(y)];
}

/** A question in words, regions as [number]. */
export function readable(question: Question): string {
  switch (question.verb) {
    case "ask":
      return question.parts.map((part) => ("text" in part ? part.text : `[${part.region.number}]`)).join("").trim();
    case "refer": {
      const regions = question.regions.map((region) => `[${region.number}]`).join(", ");
      return `What ${question.regions.length > 1 ? "are" : "is"} ${regions}?`;
    }
    case "ground":
      return `Where is ${question.phrases.join(", ")}?`;
    case "describe":
      return "Describe the picture.";
    case "detect":
      return "Locate everything.";
  }
}
