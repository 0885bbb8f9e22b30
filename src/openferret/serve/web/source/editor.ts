/** The question: words with numbered regions between them as chips. */

import { icon, make } from "./dom";
import { regionKey } from "./marks";
import type { State } from "./state";
import type { Part, Region } from "./types";

const TYPED = /\[(\d{1,3})\]/;
const ICONS = { point: "point", box: "box", paint: "brush", polygon: "lasso" } as const;

export class Editor {
  #caret: Range | null = null;

  constructor(
    private readonly field: HTMLElement,
    private readonly state: State,
    onEnter: () => void,
    private readonly onChange: () => void,
  ) {
    // Browsers without this mode get a plain one; what is pasted is made text either way.
    field.setAttribute("contenteditable", "plaintext-only");
    if (!field.isContentEditable) field.setAttribute("contenteditable", "true");
    document.addEventListener("selectionchange", () => this.#keepCaret());
    field.addEventListener("input", () => this.#changed());
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      onEnter();
    });
    field.addEventListener("paste", (event) => {
      if (field.getAttribute("contenteditable") !== "true") return;
      event.preventDefault();
      this.#insert(document.createTextNode(event.clipboardData?.getData("text/plain") ?? ""));
      this.#changed();
    });
  }

  /** Words and regions in order; neighbouring words are one part. */
  get parts(): Part[] {
    const parts: Part[] = [];
    const write = (text: string): void => {
      const last = parts.at(-1);
      if (last && "text" in last) parts[parts.length - 1] = { text: last.text + text };
      else parts.push({ text });
    };
    const read = (node: Node): void => {
      if (node instanceof HTMLBRElement) write("\n");
      else if (node instanceof HTMLElement && node.dataset["region"]) {
        const region = this.#region(Number(node.dataset["region"]));
        if (region) parts.push({ region });
      } else if (node instanceof HTMLElement) node.childNodes.forEach(read);
      else if (node.textContent) write(node.textContent.replace(/[\u200b\u00a0]/g, " "));
    };
    this.field.childNodes.forEach(read);
    return parts.filter((part) => "region" in part || part.text.length > 0);
  }

  get regions(): Region[] {
    return this.parts.flatMap((part) => ("region" in part ? [part.region] : []));
  }

  /** The words without the regions. */
  get words(): string {
    return this.parts.map((part) => ("text" in part ? part.text : " ")).join("").trim();
  }

  focus(): void {
    this.field.focus();
    const end = document.createRange();
    end.selectNodeContents(this.field);
    end.collapse(false);
    window.getSelection()?.removeAllRanges();
    window.getSelection()?.addRange(end);
  }

  clear(): void {
    this.field.replaceChildren();
    this.#caret = null;
    this.onChange();
  }

  write(text: string): void {
    this.field.replaceChildren(text);
    this.#changed();
  }

  /** Puts a region where the caret is, or was; at the end if it never was here. */
  insert(region: Region): void {
    const chip = makeChip(region, this.state);
    const before = this.#caret?.startContainer.textContent?.slice(0, this.#caret.startOffset) ?? this.words;
    const fragment = document.createDocumentFragment();
    if (before && !/\s$/.test(before)) fragment.append(" ");
    const after = document.createTextNode(" ");
    fragment.append(chip, after);
    this.#insert(fragment, after);
    this.onChange();
  }

  /** Takes out the chips of regions that are no more. */
  prune(): void {
    for (const chip of this.field.querySelectorAll<HTMLElement>("[data-region]")) {
      if (!this.#region(Number(chip.dataset["region"]))) chip.remove();
    }
    if (!this.field.textContent?.trim()) this.field.replaceChildren();
    this.onChange();
  }

  #region(number: number): Region | undefined {
    return this.state.regions.now.value.find((region) => region.number === number);
  }

  #insert(content: Node, last: Node = content): void {
    const caret = this.#caret ?? document.createRange();
    if (!this.#caret) {
      caret.selectNodeContents(this.field);
      caret.collapse(false);
    }
    caret.deleteContents();
    caret.insertNode(content);
    caret.setStart(last, last.textContent?.length ?? 0);
    caret.collapse(true);
    this.#caret = caret;
    if (document.activeElement === this.field) {
      window.getSelection()?.removeAllRanges();
      window.getSelection()?.addRange(caret);
    }
  }

  #keepCaret(): void {
    const selection = window.getSelection();
    if (!selection?.rangeCount) return;
    const range = selection.getRangeAt(0);
    if (this.field.contains(range.commonAncestorContainer)) this.#caret = range.cloneRange();
  }

  /** A typed or dropped [2] becomes region 2. */
  #changed(): void {
    const walker = document.createTreeWalker(this.field, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode as Text;
      const match = TYPED.exec(node.data);
      const region = match && this.#region(Number(match[1]));
      if (!match || !region || node.parentElement?.closest("[data-region]")) continue;
      const typed = document.createRange();
      typed.setStart(node, match.index);
      typed.setEnd(node, match.index + match[0].length);
      this.#caret = typed;
      const after = document.createTextNode(" ");
      const chip = document.createDocumentFragment();
      chip.append(makeChip(region, this.state), after);
      this.#insert(chip, after);
      break;
    }
    if (!this.field.textContent?.trim() && !this.field.querySelector("[data-region]")) this.field.replaceChildren();
    this.onChange();
  }
}

/** A numbered region in a line of text; it lights up its region and the other way round. */
export function makeChip(region: Region, state: State): HTMLElement {
  const chip = make(
    "span",
    { class: "chip", contenteditable: "false", role: "img", "aria-label": `region ${region.number}` },
    icon(ICONS[region.shape.kind]),
    String(region.number),
  );
  chip.dataset["region"] = String(region.number);
  chip.dataset["mark"] = regionKey(region.number);
  chip.addEventListener("pointerenter", () => (state.hovered.value = regionKey(region.number)));
  chip.addEventListener("pointerleave", () => (state.hovered.value = null));
  return chip;
}
