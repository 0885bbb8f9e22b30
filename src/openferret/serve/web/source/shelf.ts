/** The regions under the picture: each can be selected, put into the question, dragged there, or removed. */

import { find, iconButton, make, onClick } from "./dom";
import { makeChip } from "./editor";
import { regionKey } from "./marks";
import { removeRegion, type State } from "./state";
import type { Region } from "./types";

const NAMES = { point: "point", box: "box", paint: "scribble", polygon: "outline" } as const;

export function setUpShelf(state: State, insert: (region: Region) => void): void {
  const list = find("#regions");
  state.regions.now.watch((regions) => {
    list.replaceChildren(...regions.map((region) => renderRegion(region, state, insert)));
    find("#shelf-hint").hidden = regions.length > 0;
    find("#clear-regions").hidden = regions.length < 2;
    state.hovered.value = null;
    markSelected();
  });
  onClick("#clear-regions", () => {
    state.regions.push([]);
    state.selected.value = null;
  });
  function markSelected(): void {
    for (const item of list.children) {
      item.classList.toggle("selected", item.getAttribute("data-number") === String(state.selected.value));
    }
  }
  state.selected.watch(markSelected);
}

function renderRegion(region: Region, state: State, insert: (region: Region) => void): HTMLElement {
  const name = `${NAMES[region.shape.kind]} ${region.number}`;
  const chip = makeChip(region, state);
  chip.removeAttribute("contenteditable");
  chip.removeAttribute("role");
  const button = make(
    "button",
    { type: "button", class: "bare", draggable: "true", "aria-label": `Put ${name} into the question`, title: "Put into the question" },
    chip,
  );
  button.addEventListener("click", () => {
    state.selected.value = region.number;
    insert(region);
  });
  button.addEventListener("focus", () => button.matches(":focus-visible") && (state.hovered.value = regionKey(region.number)));
  button.addEventListener("blur", () => (state.hovered.value = null));
  // The question makes a chip of a typed [2], so of a dropped one too.
  button.addEventListener("dragstart", (event) => event.dataTransfer?.setData("text/plain", `[${region.number}]`));
  const remove = iconButton("close", `Remove ${name}`, () => removeRegion(state, region.number));
  return make("li", { "data-number": String(region.number) }, button, remove);
}
