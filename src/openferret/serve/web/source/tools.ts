/** What the pen does in each tool. Places are pixels of the picture. */

import { boxBetween, distance, simplify } from "./geometry";
import { isEmpty, touches } from "./raster";
import { addRegion, changeRegion, removeRegion, type State } from "./state";
import type { Pair, Region, Shape, Stroke, ToolName } from "./types";

export interface Tool {
  down(at: Pair, shift: boolean): void;
  move(at: Pair): void;
  up(at: Pair): void;
  /** Gives up what is being drawn. */
  cancel(): void;
  /** Ends an outline that is drawn corner by corner. */
  finish(): void;
  /** What is being drawn, and in place of which region. */
  preview(): Preview | null;
}

export interface Preview {
  readonly shape: Shape;
  readonly replaces?: number;
  /** An outline that is not closed yet. */
  readonly open?: boolean;
}

/** `pixel` is the length of a screen pixel in pixels of the picture. */
export function createTools(state: State, pixel: () => number): Record<Exclude<ToolName, "move">, Tool> {
  return {
    point: new PointTool(state),
    box: new BoxTool(state, pixel),
    brush: new PaintTool(state, pixel, false),
    eraser: new PaintTool(state, pixel, true),
    lasso: new LassoTool(state, pixel),
  };
}

class PointTool implements Tool {
  #at: Pair | null = null;

  constructor(private readonly state: State) {}

  down(at: Pair): void {
    this.#at = at;
  }

  move(at: Pair): void {
    this.#at = at;
  }

  up(at: Pair): void {
    this.#at = null;
    addRegion(this.state, { kind: "point", at });
  }

  cancel(): void {
    this.#at = null;
  }

  finish(): void {}

  preview(): Preview | null {
    return this.#at && { shape: { kind: "point", at: this.#at } };
  }
}

class BoxTool implements Tool {
  #from: Pair | null = null;
  #to: Pair = [0, 0];

  constructor(
    private readonly state: State,
    private readonly pixel: () => number,
  ) {}

  down(at: Pair): void {
    this.#from = this.#to = at;
  }

  move(at: Pair): void {
    this.#to = at;
  }

  up(at: Pair): void {
    const from = this.#from;
    this.#from = null;
    if (!from) return;
    const least = 3 * this.pixel();
    const wide = Math.abs(at[0] - from[0]) >= least && Math.abs(at[1] - from[1]) >= least;
    if (wide) addRegion(this.state, { kind: "box", corners: boxBetween(from, at) });
  }

  cancel(): void {
    this.#from = null;
  }

  finish(): void {}

  preview(): Preview | null {
    return this.#from && { shape: { kind: "box", corners: boxBetween(this.#from, this.#to) } };
  }
}

/** A stroke that touches a painted region, or with Shift held, goes on painting it; any other is a new one. */
class PaintTool implements Tool {
  #points: Pair[] = [];
  #target: Region | null = null;

  constructor(
    private readonly state: State,
    private readonly pixel: () => number,
    private readonly erase: boolean,
  ) {}

  down(at: Pair, shift: boolean): void {
    const selected = this.#painted().find((region) => region.number === this.state.selected.value);
    this.#target = (shift ? selected : undefined) ?? this.#touched(at);
    this.#points = [at];
  }

  move(at: Pair): void {
    const last = this.#points.at(-1);
    if (!last || distance(last, at) < this.pixel()) return;
    this.#points.push(at);
    this.#target ??= this.#touched(at);
  }

  up(): void {
    const { picture } = this.state;
    const target = this.#target;
    const strokes = this.#strokes();
    this.cancel();
    if (!strokes || !picture.value) return;
    if (!target) addRegion(this.state, { kind: "paint", strokes });
    else if (isEmpty(strokes, picture.value.width, picture.value.height)) removeRegion(this.state, target.number);
    else {
      this.state.selected.value = target.number;
      changeRegion(this.state, target.number, { kind: "paint", strokes });
    }
  }

  cancel(): void {
    this.#points = [];
    this.#target = null;
  }

  finish(): void {}

  /** Painted regions, the last first. */
  #painted(): Region[] {
    return this.state.regions.now.value.filter((region) => region.shape.kind === "paint").reverse();
  }

  #touched(at: Pair): Region | null {
    const radius = this.state.brush.value / 2;
    return this.#painted().find((one) => touches(strokesOf(one), at, radius)) ?? null;
  }

  preview(): Preview | null {
    const strokes = this.#strokes();
    if (!strokes) return null;
    return { shape: { kind: "paint", strokes }, ...(this.#target && { replaces: this.#target.number }) };
  }

  #strokes(): Stroke[] | null {
    if (!this.#points.length || (this.erase && !this.#target)) return null;
    const points = simplify(this.#points, this.pixel() / 2);
    const stroke = { points, width: this.state.brush.value, erase: this.erase };
    return [...(this.#target ? strokesOf(this.#target) : []), stroke];
  }
}

function strokesOf(region: Region): readonly Stroke[] {
  return region.shape.kind === "paint" ? region.shape.strokes : [];
}

/** Dragging lassoes; clicking sets corners until the first is clicked again, or one is clicked twice. */
class LassoTool implements Tool {
  #corners: Pair[] = [];
  #drag: Pair[] = [];

  constructor(
    private readonly state: State,
    private readonly pixel: () => number,
  ) {}

  down(at: Pair): void {
    this.#drag = [at];
  }

  move(at: Pair): void {
    const last = this.#drag.at(-1);
    if (last && distance(last, at) >= this.pixel()) this.#drag.push(at);
  }

  up(at: Pair): void {
    const drag = this.#drag;
    this.#drag = [];
    const near = (point: Pair | undefined): boolean => !!point && distance(point, at) < 8 * this.pixel();
    const clicked = drag.every(near);
    if (clicked && (near(this.#corners.at(-1)) || (this.#corners.length > 2 && near(this.#corners[0])))) {
      this.finish();
    } else if (clicked) this.#corners.push(at);
    else {
      this.#corners.push(...simplify(drag, this.pixel()));
      this.finish();
    }
  }

  cancel(): void {
    this.#corners = [];
    this.#drag = [];
  }

  finish(): void {
    const points = this.#corners;
    if (points.length < 3) return;
    this.cancel();
    addRegion(this.state, { kind: "polygon", points });
  }

  preview(): Preview | null {
    const points = [...this.#corners, ...this.#drag];
    return points.length ? { shape: { kind: "polygon", points }, open: true } : null;
  }
}
