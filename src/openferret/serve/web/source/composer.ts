/** Where questions are written: ask with regions, find phrases, describe, locate everything. */

import type { Asking } from "./asking";
import { find, icon, make, onClick } from "./dom";
import { Editor } from "./editor";
import { tell } from "./notices";
import { addRegion, type State } from "./state";
import type { Part, Question, Region, Shape, Suggestion } from "./types";

export type Mode = "ask" | "find";

/** Descriptions that a thorough one is chosen from. */
const DRAFTS = 9;

export class Composer {
  readonly editor: Editor;
  #mode: Mode = "ask";

  constructor(
    private readonly state: State,
    private readonly asking: Asking,
  ) {
    this.editor = new Editor(find("#question"), state, () => this.send(), () => this.#refresh());
    onClick("#mode-ask", () => this.setMode("ask"));
    onClick("#mode-find", () => this.setMode("find"));
    onClick("#send", () => (asking.busy ? asking.stop() : this.send()));
    onClick("#describe", () => this.describe());
    onClick("#detect", () => this.ask({ verb: "detect" }));
    find("#phrases").addEventListener("input", () => this.#refresh());
    find("#phrases").addEventListener("keydown", (event) => {
      if ((event as KeyboardEvent).key === "Enter") this.send();
    });
    this.#watchRegions();
    state.turns.watch(() => this.#refresh());
    state.picture.watch((picture) => {
      this.editor.clear();
      find<HTMLInputElement>("#phrases").value = "";
      find("#suggestions").replaceChildren(...(picture?.suggestions ?? []).map((one) => this.#suggestion(one)));
      this.#refresh();
    });
  }

  setMode(mode: Mode): void {
    this.#mode = mode;
    for (const name of ["ask", "find"]) {
      find(`#mode-${name}`).setAttribute("aria-pressed", String(name === mode));
      find(`#${name}-fields`).hidden = name !== mode;
    }
    this.#refresh();
  }

  focus(): void {
    if (this.#mode === "ask") this.editor.focus();
    else find("#phrases").focus();
  }

  insert(region: Region): void {
    this.setMode("ask");
    this.editor.insert(region);
  }

  send(): void {
    const question = this.#question();
    if (question) this.ask(question);
  }

  describe(): void {
    this.ask({ verb: "describe", drafts: this.state.thorough.value ? DRAFTS : 1 });
  }

  /** Asks, and makes room for the next question. */
  ask(question: Question): void {
    if (this.asking.busy) return;
    if (!this.state.picture.value) {
      tell("Choose a picture first.", "news");
      return;
    }
    void this.asking.ask(question);
    if (question.verb === "ask" || question.verb === "refer") this.editor.clear();
    if (question.verb === "ground") find<HTMLInputElement>("#phrases").value = "";
    this.#refresh();
  }

  /** Drawing a region puts it into the question. */
  #watchRegions(): void {
    let known = new Set<number>();
    this.state.regions.now.watch((regions) => {
      const fresh = regions.filter((region) => !known.has(region.number));
      known = new Set(regions.map((region) => region.number));
      this.editor.prune();
      if (this.#mode === "ask") fresh.forEach((region) => this.editor.insert(region));
    });
  }

  #question(): Question | null {
    if (this.#mode === "find") {
      const phrases = find<HTMLInputElement>("#phrases").value.split(/[,;\n]/).map((one) => one.trim()).filter(Boolean);
      return phrases.length ? { verb: "ground", phrases, merge: find<HTMLInputElement>("#merge").checked } : null;
    }
    const { parts, regions, words } = this.editor;
    if (words) return { verb: "ask", parts: trim(parts) };
    return regions.length ? { verb: "refer", regions: [...new Set(regions)] } : null;
  }

  #suggestion(suggestion: Suggestion): HTMLElement {
    const button = make("button", { type: "button", class: "suggestion" }, suggestion.label);
    button.addEventListener("click", () => {
      if (this.asking.busy) return;
      if ("find" in suggestion) this.ask({ verb: "ground", phrases: suggestion.find, merge: false });
      else this.#draw(suggestion.shapes, suggestion.words);
    });
    return button;
  }

  #draw(shapes: readonly Shape[], words?: string): void {
    const regions = shapes.map((shape) => addRegion(this.state, shape));
    if (!words) return this.ask({ verb: "refer", regions });
    // Every second piece is the number of a shape.
    const parts = words.split(/\[(\d)\]/).flatMap((piece, index): Part[] => {
      const region = index % 2 ? regions[Number(piece) - 1] : undefined;
      return region ? [{ region }] : piece ? [{ text: piece }] : [];
    });
    this.ask({ verb: "ask", parts });
  }

  #refresh(): void {
    const busy = this.asking.busy;
    const question = this.#question();
    const label = this.#mode === "find" ? "Find" : question?.verb === "refer" ? "What is this?" : "Ask";
    const send = find<HTMLButtonElement>("#send");
    send.replaceChildren(busy ? "Stop" : label, icon(busy ? "stop" : "send"));
    send.disabled = !busy && !question;
    for (const selector of ["#describe", "#detect"]) find<HTMLButtonElement>(selector).disabled = busy;
  }
}

/** Without blanks at either end. */
function trim(parts: readonly Part[]): Part[] {
  const last = parts.length - 1;
  return parts
    .map((part, index) => {
      if (!("text" in part)) return part;
      const start = index === 0 ? part.text.trimStart() : part.text;
      return { text: index === last ? start.trimEnd() : start };
    })
    .filter((part) => "region" in part || part.text);
}
