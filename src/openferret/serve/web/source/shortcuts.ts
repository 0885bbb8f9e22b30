/** One table of keys: what they do, and what the help says about them. */

import { find, make } from "./dom";

export interface Shortcut {
  /** As `KeyboardEvent.key` says it, lower case. */
  readonly keys: readonly string[];
  readonly label: string;
  readonly help: string;
  readonly action: () => void;
  /** With Control or Command held. */
  readonly control?: boolean;
  readonly shift?: boolean;
}

export interface Help {
  readonly title: string;
  readonly shortcuts: readonly Shortcut[];
}

/** Keys of words belong to fields while one is written in, Enter and Space to the button that has the focus. */
export function listenToKeys(groups: readonly Help[], number: (digit: number) => void): void {
  const shortcuts = groups.flatMap((group) => group.shortcuts);
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && target.matches("input, [contenteditable]")) target.blur();
    if (target.matches("input:not([type=range]):not([type=checkbox]), select, textarea, [contenteditable]")) return;
    if (event.key === "Enter" && target.matches("button, a, summary, [role=button]")) return;
    const control = event.ctrlKey || event.metaKey;
    if (!control && /^[1-9]$/.test(event.key)) return number(Number(event.key));
    const found = shortcuts.find(
      (one) => one.keys.includes(event.key.toLowerCase()) && !!one.control === control && (!control || !!one.shift === event.shiftKey),
    );
    if (!found) return;
    event.preventDefault();
    found.action();
  });
}

export function renderHelp(groups: readonly Help[]): void {
  find("#shortcuts").replaceChildren(
    ...groups.map((group) => {
      const rows = group.shortcuts.map((one) => {
        const keys = one.label.split(" ").map((key) => make("kbd", {}, key));
        return make("div", {}, make("dt", {}, ...keys), make("dd", {}, one.help));
      });
      return make("section", {}, make("h3", {}, group.title), make("dl", {}, ...rows));
    }),
  );
}
