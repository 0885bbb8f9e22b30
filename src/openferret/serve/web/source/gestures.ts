/** What fingers, pens and mice do on the picture: draw, pan, zoom, point. Places are in screen pixels of it. */

import { distance } from "./geometry";
import type { Pair } from "./types";

export interface Gestures {
  /** Whether a stroke shall draw; otherwise it pans. */
  readonly draws: () => boolean;
  readonly down: (at: Pair, shift: boolean) => void;
  readonly move: (at: Pair) => void;
  readonly up: (at: Pair) => void;
  readonly cancel: () => void;
  readonly pan: (right: number, down: number) => void;
  readonly zoom: (factor: number, at: Pair) => void;
  readonly tap: (at: Pair) => void;
  /** The pointer passes over the picture, or leaves it (null). */
  readonly hover: (at: Pair | null) => void;
}

const TAP = 5;

type Mode = "idle" | "draw" | "pan" | "pinch";

export function listenToGestures(surface: HTMLElement, gestures: Gestures): void {
  const pointers = new Map<number, Pair>();
  let mode: Mode = "idle";
  let start: Pair = [0, 0];

  const place = (event: MouseEvent): Pair => {
    const corner = surface.getBoundingClientRect();
    return [event.clientX - corner.left, event.clientY - corner.top];
  };

  const pinch = (id: number, to: Pair): void => {
    const other = [...pointers].find(([key]) => key !== id)?.[1];
    const from = pointers.get(id);
    if (!other || !from) return;
    const middle: Pair = [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2];
    gestures.pan((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
    gestures.zoom(distance(to, other) / Math.max(1, distance(from, other)), middle);
  };

  const end = (event: PointerEvent): void => {
    if (!pointers.delete(event.pointerId)) return;
    const at = place(event);
    if (mode === "draw") event.type === "pointercancel" ? gestures.cancel() : gestures.up(at);
    if (mode === "pan" && distance(start, at) < TAP) gestures.tap(at);
    if (mode !== "pinch" || pointers.size === 0) mode = "idle";
  };

  surface.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    if (event.button === 1) event.preventDefault();
    const at = place(event);
    pointers.set(event.pointerId, at);
    surface.setPointerCapture(event.pointerId);
    if (pointers.size === 2) {
      if (mode === "draw") gestures.cancel();
      mode = "pinch";
    } else if (pointers.size === 1) {
      start = at;
      mode = event.button === 0 && gestures.draws() ? "draw" : "pan";
      if (mode === "draw") gestures.down(at, event.shiftKey);
    }
  });
  surface.addEventListener("pointermove", (event) => {
    const at = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") gestures.hover(at);
      return;
    }
    if (mode === "draw") {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) gestures.move(place(step));
    } else if (mode === "pan") gestures.pan(at[0] - before[0], at[1] - before[1]);
    else if (mode === "pinch") pinch(event.pointerId, at);
    pointers.set(event.pointerId, at);
  });
  surface.addEventListener("pointerup", end);
  surface.addEventListener("pointercancel", end);
  surface.addEventListener("pointerleave", () => gestures.hover(null));
  surface.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // A wheel's notch is about 100 pixels or 3 lines; a trackpad sends many small steps.
      const notches = event.deltaMode === 1 ? event.deltaY / 3 : event.deltaY / 100;
      gestures.zoom(1.25 ** -notches * (event.ctrlKey ? 1.25 ** (-3 * notches) : 1), place(event));
    },
    { passive: false },
  );
}
