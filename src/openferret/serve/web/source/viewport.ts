/** Which part of the picture is seen, and how large. Screen lengths are CSS pixels. */

import { clamp } from "./geometry";
import { Signal } from "./signal";
import type { Pair } from "./types";

export interface View {
  /** Screen pixels for each pixel of the picture. */
  readonly scale: number;
  /** Where the picture's corner is on the screen. */
  readonly x: number;
  readonly y: number;
}

const CLOSEST = 40;
const MARGIN = 20;

export class Viewport {
  readonly view = new Signal<View>({ scale: 1, x: 0, y: 0 });
  #screen: Pair = [1, 1];
  /** Kept free at the left of a fitted picture. */
  #left = 0;
  #picture: Pair = [1, 1];
  #fitted = true;

  setPicture(width: number, height: number): void {
    this.#picture = [width, height];
    this.fit();
  }

  setScreen(width: number, height: number, left: number): void {
    this.#screen = [Math.max(1, width), Math.max(1, height)];
    this.#left = left;
    if (this.#fitted) this.fit();
    else this.#show(this.view.value);
  }

  /** The whole picture, in the middle. */
  fit(): void {
    this.#fitted = true;
    const scale = this.#fitScale();
    const [width, height] = [this.#picture[0] * scale, this.#picture[1] * scale];
    // In the middle of the screen where that leaves the left free.
    const x = Math.max((this.#screen[0] - width) / 2, Math.min(this.#left, this.#screen[0] - MARGIN - width));
    this.view.value = { scale, x, y: (this.#screen[1] - height) / 2 };
  }

  /** Zooms so that what is at `at` on the screen stays there. */
  zoom(factor: number, at: Pair = [this.#screen[0] / 2, this.#screen[1] / 2]): void {
    const { scale, x, y } = this.view.value;
    const least = Math.min(this.#fitScale(), 1) / 2;
    const next = clamp(scale * factor, least, CLOSEST);
    const ratio = next / scale;
    this.#fitted = false;
    this.#show({ scale: next, x: at[0] - (at[0] - x) * ratio, y: at[1] - (at[1] - y) * ratio });
  }

  pan(right: number, down: number): void {
    const { scale, x, y } = this.view.value;
    this.#fitted = false;
    this.#show({ scale, x: x + right, y: y + down });
  }

  toPicture([x, y]: Pair): Pair {
    const view = this.view.value;
    return [(x - view.x) / view.scale, (y - view.y) / view.scale];
  }

  toScreen([x, y]: Pair): Pair {
    const view = this.view.value;
    return [x * view.scale + view.x, y * view.scale + view.y];
  }

  #fitScale(): number {
    const wide = Math.max(1, this.#screen[0] - Math.max(MARGIN, this.#left) - MARGIN) / this.#picture[0];
    const high = Math.max(1, this.#screen[1] - 2 * MARGIN) / this.#picture[1];
    return Math.min(wide, high, CLOSEST);
  }

  /** Some of the picture always stays on the screen. */
  #show(view: View): void {
    const [x, y] = [view.x, view.y].map((corner, axis) => {
      const length = this.#picture[axis]! * view.scale;
      const least = Math.min(60, length);
      return clamp(corner, least - length, this.#screen[axis]! - least);
    }) as [number, number];
    this.view.value = { scale: view.scale, x, y };
  }
}
