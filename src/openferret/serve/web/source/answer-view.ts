/** An answer as text whose phrases are tied to their boxes. Model text is only ever set as text. */

import { make } from "./dom";
import { markKey, samePhrase, toggleKept } from "./marks";
import type { State } from "./state";
import type { Answer, Mention, Region, Seconds, Turn } from "./types";

export function renderAnswer(turn: Turn, index: number, colours: Map<string, string>, state: State): HTMLElement {
  const answer = turn.answers[index]!;
  const line = make("p", { class: "answer", dir: "auto" });
  let position = 0;
  const inOrder = answer.mentions
    .map((mention, number) => ({ mention, key: markKey(turn.id, index, number) }))
    .sort((a, b) => a.mention.span[0] - b.mention.span[0]);
  const text = codePoints(answer.text);
  for (const { mention, key } of inOrder) {
    const [start, end] = mention.span;
    if (start < position || end <= start) continue;
    line.append(text.slice(position, start));
    const colour = colours.get(samePhrase(mention.phrase)) ?? "";
    line.append(renderPhrase(turn, mention, text.slice(start, end), key, colour, state));
    position = end;
  }
  line.append(text.slice(position));
  if (!answer.text.trim()) line.append(make("em", { class: "muted" }, "The model had nothing to say."));
  return line;
}

/** Spans count characters as Python does, JavaScript's strings count UTF-16 units. */
function codePoints(text: string): { slice: (start: number, end?: number) => string } {
  const letters = Array.from(text);
  return { slice: (start, end) => letters.slice(start, end).join("") };
}

function renderPhrase(
  turn: Turn,
  mention: Mention,
  text: string,
  key: string,
  colour: string,
  state: State,
): HTMLElement {
  if (!mention.boxes.length) return make("span", { class: "absent" }, text);
  const count = mention.boxes.length;
  const best = Math.max(...mention.boxes.map((box) => box.score ?? 0));
  const label = `${text}: ${count} ${count > 1 ? "boxes" : "box"}${best ? `, score ${best.toFixed(2)}` : ""}`;
  const phrase = make("span", { class: "phrase", role: "button", tabindex: "0", "aria-pressed": "false", title: label });
  phrase.append(text);
  if (count > 1) phrase.append(make("sup", {}, String(count)));
  phrase.dataset["mark"] = key;
  phrase.style.setProperty("--mark", colour);
  const light = (on: boolean): void => {
    if (on && state.shown.value !== "all") state.chosen.value = turn.id;
    state.hovered.value = on ? key : null;
  };
  phrase.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && light(true));
  phrase.addEventListener("pointerleave", () => light(false));
  phrase.addEventListener("focus", () => phrase.matches(":focus-visible") && light(true));
  phrase.addEventListener("blur", () => light(false));
  const keep = (): void => {
    if (state.shown.value === "none") state.shown.value = "one";
    if (state.shown.value === "one") state.chosen.value = turn.id;
    toggleKept(state, key);
  };
  phrase.addEventListener("click", keep);
  phrase.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    keep();
  });
  return phrase;
}

const STAGES = ["queue", "encode", "prefill", "decode"];

export function renderSeconds(seconds: Seconds): HTMLElement | null {
  const stages = STAGES.filter((stage) => seconds[stage] !== undefined);
  if (!stages.length) return null;
  const total = stages.reduce((sum, stage) => sum + seconds[stage]!, 0);
  const detail = stages.map((stage) => `${stage} ${seconds[stage]!.toFixed(2)}`).join(" · ");
  return make("details", { class: "timings" }, make("summary", {}, `${total.toFixed(2)} s`), make("span", {}, detail));
}

/** Notes of the model; it counts a request's regions from 0, the page by their numbers. */
export function renderWarnings(answer: Answer, regions: readonly Region[]): HTMLElement[] {
  return (answer.warnings ?? []).map((warning) => {
    const renumbered = warning.replace(/\[(\d+)\]/g, (all, k: string) => {
      const region = regions[Number(k)];
      return region ? `[${region.number}]` : all;
    });
    return make("p", { class: "note" }, `Note: ${renumbered}.`);
  });
}
