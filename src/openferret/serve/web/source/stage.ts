/** The picture that is drawn on: canvas, pen, keyboard pen, and what lights up under the pointer. */

import { area, bounds, clamp, contains } from "./geometry";
import { listenToGestures } from "./gestures";
import { writeLabels } from "./labels";
import { litKey, markAt, regionKey, shownMarks, toggleKept } from "./marks";
import { type Board, paintMarks, paintRegion, place } from "./paint";
import { watchAll } from "./signal";
import type { State } from "./state";
import { createTools, type Tool } from "./tools";
import type { Pair, Region, ToolName } from "./types";
import { Viewport } from "./viewport";

const EM = 12.5;

export class Stage {
  readonly viewport = new Viewport();
  readonly #tools: ReturnType<typeof createTools>;
  readonly #context: CanvasRenderingContext2D;
  #pointer: Pair | null = null;
  /** Where the keyboard's pen is, and whether it is down. */
  #keyboard: { at: Pair; down: boolean } | null = null;
  #due = false;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly tools: HTMLElement,
    private readonly state: State,
  ) {
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser cannot draw on a canvas");
    this.#context = context;
    this.#tools = createTools(state, () => 1 / this.viewport.view.value.scale);
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(canvas);
    state.picture.watch((picture) => {
      for (const tool of Object.values(this.#tools)) tool.cancel();
      if (picture) this.viewport.setPicture(picture.width, picture.height);
    });
    state.tool.watch((tool) => {
      for (const [name, one] of Object.entries(this.#tools)) if (name !== tool) one.cancel();
      canvas.dataset["tool"] = tool;
    });
    const { picture, regions, selected, tool, brush, turns, chosen, shown, threshold, hovered, kept } = state;
    const redraws = [picture, regions.now, selected, tool, brush, turns, chosen, shown, threshold, hovered, kept];
    watchAll([...redraws, this.viewport.view], () => this.redraw());
  }

  /** Ends an outline that is drawn corner by corner; whether there was one. */
  finish(): boolean {
    const drawing = this.drawing;
    this.#tool?.finish();
    this.redraw();
    return drawing;
  }

  /** Gives up what is being drawn; whether there was anything. */
  cancel(): boolean {
    const drawing = this.drawing;
    this.#tool?.cancel();
    if (this.#keyboard) this.#keyboard.down = false;
    this.redraw();
    return drawing;
  }

  get drawing(): boolean {
    return !!this.#tool?.preview();
  }

  /** Draws at the browser's next frame. */
  redraw(): void {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  get #tool(): Tool | null {
    const name: ToolName = this.state.tool.value;
    return name === "move" ? null : this.#tools[name];
  }

  #listen(): void {
    const { viewport, state } = this;
    const inside = (at: Pair): Pair => this.#inside(viewport.toPicture(at));
    listenToGestures(this.canvas, {
      draws: () => this.#tool !== null,
      down: (at, shift) => this.#pen((tool) => tool.down(inside(at), shift)),
      move: (at) => {
        this.#pointer = at;
        this.#pen((tool) => tool.move(inside(at)));
      },
      up: (at) => this.#pen((tool) => tool.up(inside(at))),
      cancel: () => this.#pen((tool) => tool.cancel()),
      pan: (right, down) => viewport.pan(right, down),
      zoom: (factor, at) => viewport.zoom(factor, at),
      tap: (at) => this.#tap(viewport.toPicture(at)),
      hover: (at) => {
        this.#pointer = at;
        state.hovered.value = at && this.#keyAt(viewport.toPicture(at));
        this.redraw();
      },
    });
    this.canvas.addEventListener("keydown", (event) => this.#press(event));
    this.canvas.addEventListener("blur", () => {
      if (this.#keyboard?.down) this.#tool?.cancel();
      this.#keyboard = null;
      this.redraw();
    });
  }

  #pen(action: (tool: Tool) => void): void {
    if (!this.state.picture.value || !this.#tool) return;
    this.#keyboard = null;
    action(this.#tool);
    this.redraw();
  }

  #inside([x, y]: Pair): Pair {
    const { width, height } = this.state.picture.value ?? { width: 1, height: 1 };
    return [clamp(x, 0, width), clamp(y, 0, height)];
  }

  #keyAt(at: Pair): string | null {
    const slack = 3 / this.viewport.view.value.scale;
    return markAt(shownMarks(this.state), at, slack)?.key ?? null;
  }

  #tap(at: Pair): void {
    const slack = 8 / this.viewport.view.value.scale;
    const regions = this.state.regions.now.value.filter((region) => contains(bounds(region.shape), at, slack));
    const smallest = (a: Region, b: Region): Region => (area(bounds(a.shape)) <= area(bounds(b.shape)) ? a : b);
    const region = regions.length ? regions.reduce(smallest) : null;
    const key = this.#keyAt(at);
    if (key) toggleKept(this.state, key);
    else this.state.kept.value = null;
    this.state.selected.value = region?.number ?? null;
  }

  /** Arrow keys move the keyboard's pen, Space puts it down and lifts it. */
  #press(event: KeyboardEvent): void {
    const picture = this.state.picture.value;
    const steps: Record<string, Pair> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!picture || event.ctrlKey || event.metaKey || (!step && event.key !== " ")) return;
    event.preventDefault();
    const pen = this.#keyboard ?? { at: [picture.width / 2, picture.height / 2] as Pair, down: false };
    this.#keyboard = pen;
    if (step) {
      const far = (event.shiftKey ? 0.002 : 0.02) * Math.max(picture.width, picture.height);
      pen.at = this.#inside([pen.at[0] + far * step[0], pen.at[1] + far * step[1]]);
      if (pen.down) this.#tool?.move(pen.at);
    } else if (!this.#tool) this.#tap(pen.at);
    else if (pen.down || this.state.tool.value === "point") {
      pen.down = false;
      this.#tool.up(pen.at);
    } else {
      pen.down = true;
      this.#tool.down(pen.at, false);
    }
    this.redraw();
  }

  #resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    const zoom = window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(clientWidth * zoom), Math.round(clientHeight * zoom)];
    this.viewport.setScreen(clientWidth, clientHeight, this.#toolsWidth());
    this.#draw();
  }

  /** How much of the canvas the tools cover at its left. */
  #toolsWidth(): number {
    const [canvas, tools] = [this.canvas.getBoundingClientRect(), this.tools.getBoundingClientRect()];
    return tools.top < canvas.bottom && tools.height > tools.width ? tools.right - canvas.left + 14 : 0;
  }

  #draw(): void {
    const context = this.#context;
    const zoom = window.devicePixelRatio || 1;
    const size: Pair = [this.canvas.clientWidth, this.canvas.clientHeight];
    context.setTransform(zoom, 0, 0, zoom, 0, 0);
    context.clearRect(0, 0, ...size);
    const { picture, regions, selected } = this.state;
    if (!picture.value) return;
    const { image, width, height } = picture.value;
    const view = this.viewport.view.value;
    // Far enlarged, a picture shows its own pixels.
    context.imageSmoothingEnabled = view.scale < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, view.x, view.y, width * view.scale, height * view.scale);
    const board: Board = { context, view, em: EM, picture: [width, height], size };
    const lit = litKey(this.state);
    const labels = paintMarks(board, shownMarks(this.state), lit);
    const preview = this.#tool?.preview();
    for (const { number, shape } of regions.now.value) {
      if (number === preview?.replaces) continue;
      const shines = lit === regionKey(number) || (lit === null && selected.value === number);
      labels.push(paintRegion(board, shape, String(number), shines));
    }
    if (preview) labels.push(paintRegion(board, preview.shape, "", true, preview.open));
    writeLabels(context, labels, EM, size);
    this.#drawPen(board);
  }

  /** The brush's ring at the pointer, and the keyboard's crosshair. */
  #drawPen(board: Board): void {
    const { context } = board;
    const painting = ["brush", "eraser"].includes(this.state.tool.value);
    const radius = (this.state.brush.value / 2) * board.view.scale;
    const at = this.#keyboard ? place(board, this.#keyboard.at) : painting ? this.#pointer : null;
    if (!at) return;
    context.beginPath();
    if (painting) context.arc(...at, radius, 0, 2 * Math.PI);
    if (this.#keyboard) {
      context.moveTo(at[0] - 12, at[1]);
      context.lineTo(at[0] + 12, at[1]);
      context.moveTo(at[0], at[1] - 12);
      context.lineTo(at[0], at[1] + 12);
    }
    for (const [width, colour] of [[3, "rgb(0 0 0 / 60%)"], [1.5, "#fff"]] as const) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}
