/** What answers name: keys, colours, and which of it is on the picture now. */

import { area, contains } from "./geometry";
import type { State } from "./state";
import type { Answer, LocatedBox, Pair, Turn } from "./types";

/** Far enough apart to be told apart, dark enough for white letters on them. */
const COLOURS = ["#d02f3a", "#2563eb", "#15803d", "#9333ea", "#c2410c", "#db2777", "#0f766e", "#a16207", "#4f46e5"];

export interface Mark {
  readonly key: string;
  readonly phrase: string;
  readonly colour: string;
  readonly boxes: readonly LocatedBox[];
}

export function markKey(turn: number, answer: number, mention: number): string {
  return `mark:${turn}:${answer}:${mention}`;
}

export function regionKey(number: number): string {
  return `region:${number}`;
}

export function samePhrase(phrase: string): string {
  return phrase.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
}

/** A colour for each phrase that has boxes, in the order of the text. */
export function assignColours(answers: readonly Answer[]): Map<string, string> {
  const colours = new Map<string, string>();
  for (const mention of answers.flatMap((answer) => answer.mentions)) {
    const phrase = samePhrase(mention.phrase);
    if (mention.boxes.length && !colours.has(phrase)) colours.set(phrase, COLOURS[colours.size % COLOURS.length]!);
  }
  return colours;
}

export function marksOf(turn: Turn, threshold = 0): Mark[] {
  const colours = assignColours(turn.answers);
  return turn.answers.flatMap((answer, a) =>
    answer.mentions.map((mention, m) => ({
      key: markKey(turn.id, a, m),
      phrase: mention.phrase,
      colour: colours.get(samePhrase(mention.phrase)) ?? "",
      boxes: mention.boxes.filter((box) => (box.score ?? 1) >= threshold),
    })),
  );
}

/** The turn whose boxes are on the picture: the chosen one, else the last that has any. */
export function currentTurn(state: State): Turn | undefined {
  const turns = state.turns.value;
  const located = (turn: Turn): boolean => marksOf(turn).some((mark) => mark.boxes.length);
  return turns.find((turn) => turn.id === state.chosen.value) ?? turns.findLast(located);
}

export function shownTurns(state: State): readonly Turn[] {
  const current = currentTurn(state);
  if (state.shown.value === "none") return [];
  return state.shown.value === "all" ? state.turns.value : current ? [current] : [];
}

export function shownMarks(state: State): Mark[] {
  const turns = shownTurns(state);
  return turns.flatMap((turn) => marksOf(turn, state.threshold.value)).filter((mark) => mark.boxes.length);
}

/** What lights up: what the pointer is on, else what was clicked. */
export function litKey(state: State): string | null {
  return state.hovered.value ?? state.kept.value;
}

/** The mark with the smallest box at a place. */
export function markAt(marks: readonly Mark[], at: Pair, slack: number): Mark | null {
  let found: Mark | null = null;
  let least = Infinity;
  for (const mark of marks) {
    for (const box of mark.boxes) {
      const size = area(box.pixels);
      if (size < least && contains(box.pixels, at, slack)) [found, least] = [mark, size];
    }
  }
  return found;
}

/** Keeps what is clicked lit, or lets go of it if it already was. */
export function toggleKept(state: State, key: string): void {
  state.kept.value = state.kept.value === key ? null : key;
}
