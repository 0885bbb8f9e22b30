/** Tools, brush size, undo and redo, zoom. */

import { find, onClick } from "./dom";
import { watchAll } from "./signal";
import type { Stage } from "./stage";
import { removeRegion, type State } from "./state";
import type { ToolName } from "./types";

export function setUpToolbar(state: State, stage: Stage): void {
  const tools = [...document.querySelectorAll<HTMLButtonElement>("[data-tool-name]")];
  for (const button of tools) {
    button.addEventListener("click", () => (state.tool.value = button.dataset["toolName"] as ToolName));
  }
  state.tool.watch((tool) => {
    for (const button of tools) button.setAttribute("aria-pressed", String(button.dataset["toolName"] === tool));
    find("#brush").hidden = tool !== "brush" && tool !== "eraser";
  });

  const size = find<HTMLInputElement>("#brush-size");
  size.addEventListener("input", () => (state.brush.value = Number(size.value)));
  state.brush.watch((brush) => {
    size.value = String(brush);
    find("#brush-value").textContent = `${brush} px`;
  });
  state.picture.watch((picture) => {
    if (!picture) return;
    const shorter = Math.min(picture.width, picture.height);
    size.max = String(Math.max(16, Math.round(shorter / 3)));
    state.brush.value = Math.max(4, Math.round(shorter / 14));
  });

  onClick("#undo", () => state.regions.undo());
  onClick("#redo", () => state.regions.redo());
  state.regions.now.watch(() => {
    find<HTMLButtonElement>("#undo").disabled = !state.regions.canUndo;
    find<HTMLButtonElement>("#redo").disabled = !state.regions.canRedo;
  });

  onClick("#zoom-in", () => stage.viewport.zoom(1.4));
  onClick("#zoom-out", () => stage.viewport.zoom(1 / 1.4));
  onClick("#zoom-fit", () => stage.viewport.fit());
  watchAll([stage.viewport.view], () => {
    find("#zoom-fit").textContent = `${Math.round(100 * stage.viewport.view.value.scale)} %`;
  });
}

/** One step of the brush size, larger (1) or smaller (-1). */
export function stepBrush(state: State, direction: 1 | -1): void {
  const most = Number(find<HTMLInputElement>("#brush-size").max);
  const next = Math.round(state.brush.value * (direction > 0 ? 1.25 : 0.8)) + direction;
  state.brush.value = Math.min(most, Math.max(2, next));
}

export function removeSelected(state: State): void {
  if (state.selected.value !== null) removeRegion(state, state.selected.value);
}
