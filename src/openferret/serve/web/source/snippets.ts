/** A turn as Python and as curl: the same question, asked without the page. */

import { type Request, readable, regionSpec, round, roundPair, spokenTurns } from "./requests";
import type { Pair, Part, Picture, Region, Shape, Turn } from "./types";

export function pythonFor(turn: Turn, before: readonly Turn[], picture: Picture, least: number | null): string {
  const used = new Set<string>(["Ferret"]);
  const region = (one: Region): string => pythonRegion(one.shape, picture, used);
  const list = (regions: readonly Region[]): string => {
    const items = regions.map(region);
    return items.length > 1 ? `[\n${items.map((one) => `    ${one},\n`).join("")}]` : `[${items.join("")}]`;
  };
  const lines: string[] = [];
  const { question } = turn;
  const threshold = least === null ? "" : `threshold=${least}`;
  if (question.verb === "refer" && question.regions.length === 1) {
    lines.push(`answer = scene.refer(${region(question.regions[0]!)})`);
  } else if (question.verb === "refer") {
    lines.push(`answers = scene.refer_many(${list(question.regions)})`);
  } else if (question.verb === "ground") {
    const merge = question.merge ? ["merge=True"] : [];
    const given = [`[${question.phrases.map(quote).join(", ")}]`, ...merge, ...(threshold ? [threshold] : [])];
    lines.push(`answer = scene.ground(${given.join(", ")})`);
  } else if (question.verb === "ask") {
    lines.push(...pythonChat(question.parts, before, list));
  } else if (question.verb === "describe") {
    lines.push(`answer = scene.describe(${question.drafts > 1 ? `drafts=${question.drafts}` : ""})`);
  } else lines.push(`answer = scene.detect(${threshold})`);
  const several = lines.at(-1)?.startsWith("answers ");
  const masks = used.delete("decode_rle") ? ["from openferret.masks import decode_rle"] : [];
  return [
    ...[`from openferret import ${[...used].sort().join(", ")}`, ...masks, ""],
    `scene = Ferret.load().encode(${quote(picture.name)})`,
    ...lines,
    ...(several ? ["for answer in answers:", "    print(answer)"] : ["print(answer)"]),
    ...(several ? [] : ["for mention in answer.mentions:", "    print(mention.phrase, [box.pixels for box in mention.boxes])"]),
  ].join("\n");
}

function pythonChat(parts: readonly Part[], before: readonly Turn[], list: (regions: readonly Region[]) => string): string[] {
  const say = (words: readonly Part[]): string => {
    const regions: Region[] = [];
    const text = words.map((part) => ("text" in part ? part.text : `[${regions.push(part.region) - 1}]`)).join("");
    return `${quote(text.trim())}${regions.length ? `, ${list(regions)}` : ""}`;
  };
  const earlier = spokenTurns(before, parts);
  if (!earlier.length) return [`answer = scene.ask(${say(parts)})`];
  return ["chat = scene.chat()", ...earlier.map((turn) => `chat.say(${say(turn.parts)})`), `answer = chat.say(${say(parts)})`];
}

function pythonRegion(shape: Shape, picture: Picture, used: Set<string>): string {
  const pairs = (points: readonly Pair[]): string => `[${points.map((one) => `(${roundPair(one).join(", ")})`).join(", ")}]`;
  switch (shape.kind) {
    case "point":
      used.add("Point");
      return `Point(${roundPair(shape.at).join(", ")})`;
    case "box":
      used.add("Box");
      return `Box(${shape.corners.map(round).join(", ")})`;
    case "polygon":
      used.add("Polygon");
      return `Polygon(${pairs(shape.points)})`;
    case "paint": {
      const [stroke, ...more] = shape.strokes;
      if (stroke && !more.length) {
        used.add("Scribble");
        return `Scribble(${pairs(stroke.points)}, width=${round(stroke.width)})`;
      }
      used.add("Mask").add("decode_rle");
      const { rle } = regionSpec(shape, picture.width, picture.height) as { rle: { size: number[]; counts: string } };
      return `Mask(decode_rle({"size": [${rle.size.join(", ")}], "counts": ${quote(rle.counts)}}))`;
    }
  }
}

/** A Python literal; JSON's strings are Python's. */
function quote(text: string): string {
  return JSON.stringify(text);
}

export function curlFor(turn: Turn, request: Request, picture: Picture, origin: string): string {
  const body = JSON.stringify({ ...request.body, ...(request.streams ? { stream: false } : {}) });
  const base = origin.replace(/\/$/, "");
  return [
    `# ${readable(turn.question).replace(/\s+/g, " ")}`,
    "# The server forgets pictures after a while; this sends yours again and prints its id:",
    `curl -s ${base}/v1/images -H 'Content-Type: ${picture.blob.type}' --data-binary ${shell(`@${picture.name}`)}`,
    "",
    `curl -s ${base}/${request.path} -H 'Content-Type: application/json' -d ${shell(body)}`,
    "",
    `# Where the server asks for a key, add: -H "Authorization: Bearer $KEY"`,
  ].join("\n");
}

function shell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
