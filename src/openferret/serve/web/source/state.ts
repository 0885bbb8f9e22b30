/** Everything that changes while the page is open, in one place. */

import { History } from "./history";
import { Signal } from "./signal";
import type { Picture, Region, Shape, Shown, ToolName, Turn } from "./types";

export interface State {
  readonly picture: Signal<Picture | null>;
  readonly regions: History<readonly Region[]>;
  /** Number of the region that is selected. */
  readonly selected: Signal<number | null>;
  readonly tool: Signal<ToolName>;
  /** Width of the brush in pixels of the picture. */
  readonly brush: Signal<number>;
  readonly turns: Signal<readonly Turn[]>;
  /** The turn whose boxes are on the picture; null for the last one. */
  readonly chosen: Signal<number | null>;
  readonly shown: Signal<Shown>;
  /** Boxes with a score below are hidden. */
  readonly threshold: Signal<number>;
  /** Whether finds are asked for that the model itself thinks unlikely. */
  readonly unlikely: Signal<boolean>;
  /** Whether a description is chosen from several. */
  readonly thorough: Signal<boolean>;
  /** Longest answer in tokens. */
  readonly longest: Signal<number>;
  /** Keys of what the pointer is on, and of what was clicked to be kept. */
  readonly hovered: Signal<string | null>;
  readonly kept: Signal<string | null>;
}

export function createState(): State {
  return {
    picture: new Signal<Picture | null>(null),
    regions: new History<readonly Region[]>([]),
    selected: new Signal<number | null>(null),
    tool: new Signal<ToolName>("point"),
    brush: new Signal(24),
    turns: new Signal<readonly Turn[]>([]),
    chosen: new Signal<number | null>(null),
    shown: new Signal<Shown>("one"),
    threshold: new Signal(0),
    unlikely: new Signal(false),
    thorough: new Signal(false),
    longest: new Signal(96),
    hovered: new Signal<string | null>(null),
    kept: new Signal<string | null>(null),
  };
}

export function addRegion(state: State, shape: Shape): Region {
  const number = Math.max(0, ...state.regions.now.value.map((region) => region.number)) + 1;
  const region = { number, shape };
  state.regions.push([...state.regions.now.value, region]);
  state.selected.value = number;
  return region;
}

export function changeRegion(state: State, number: number, shape: Shape): void {
  const changed = (region: Region): Region => (region.number === number ? { number, shape } : region);
  state.regions.push(state.regions.now.value.map(changed));
}

export function removeRegion(state: State, number: number): void {
  state.regions.push(state.regions.now.value.filter((region) => region.number !== number));
  if (state.selected.value === number) state.selected.value = null;
}

export function changeTurn(state: State, id: number, change: Partial<Turn>): void {
  state.turns.value = state.turns.value.map((turn) => (turn.id === id ? { ...turn, ...change } : turn));
}

/** Forgets the conversation, but not the picture and its regions. */
export function clearTurns(state: State): void {
  state.turns.value = [];
  state.chosen.value = null;
  state.hovered.value = null;
  state.kept.value = null;
}
