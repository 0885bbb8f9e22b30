/** The settings of the answers, and the export menu. */

import { download, find, onClick } from "./dom";
import { toCoco, toJson, toPng } from "./exporting";
import { shownTurns } from "./marks";
import { tell } from "./notices";
import { type Signal, watchAll } from "./signal";
import type { State } from "./state";
import type { Picture, Shown } from "./types";

export function setUpView(state: State): void {
  const slider = bindSlider("#threshold", state.threshold, (value) => value.toFixed(2), 100);
  watchAll([state.turns], () => {
    const boxes = state.turns.value.flatMap((turn) => turn.answers).some((one) => one.mentions.some((m) => m.boxes.length));
    find("#view").hidden = !boxes;
    slider.disabled = !boxes;
  });
  const choices = [...document.querySelectorAll<HTMLButtonElement>("[data-shown]")];
  for (const button of choices) button.addEventListener("click", () => (state.shown.value = button.dataset["shown"] as Shown));
  state.shown.watch((shown) => {
    for (const button of choices) button.setAttribute("aria-pressed", String(button.dataset["shown"] === shown));
  });
}

export function setUpSettings(state: State): void {
  bindSlider("#longest", state.longest, (value) => `${value} tokens`);
  bindCheck("#unlikely", state.unlikely);
  bindCheck("#thorough", state.thorough);
}

function bindCheck(selector: string, signal: Signal<boolean>): void {
  const box = find<HTMLInputElement>(selector);
  box.addEventListener("change", () => (signal.value = box.checked));
}

/** A slider of whole steps; `steps` of them are 1. */
function bindSlider(selector: string, signal: Signal<number>, write: (value: number) => string, steps = 1): HTMLInputElement {
  const slider = find<HTMLInputElement>(selector);
  slider.addEventListener("input", () => (signal.value = Number(slider.value) / steps));
  signal.watch((value) => {
    slider.value = String(value * steps);
    find(`${selector}-value`).textContent = write(value);
    slider.setAttribute("aria-valuetext", write(value));
  });
  return slider;
}

export function setUpExports(state: State): void {
  const menu = find("#export-menu");
  const withPicture = (action: (picture: Picture) => void) => (): void => {
    menu.hidePopover();
    if (state.picture.value) action(state.picture.value);
  };
  const name = (picture: Picture, ending: string): string => picture.name.replace(/\.[^.]*$/, "") + ending;
  const json = (content: unknown): Blob => new Blob([JSON.stringify(content, null, 2)], { type: "application/json" });
  onClick("#export-json", withPicture((picture) => download(name(picture, ".json"), json(toJson(picture, state.turns.value)))));
  onClick(
    "#export-coco",
    withPicture((picture) => {
      const coco = toCoco(picture, shownTurns(state), state.threshold.value);
      download(name(picture, ".coco.json"), json(coco));
    }),
  );
  onClick(
    "#export-png",
    withPicture((picture) => {
      toPng(picture, shownTurns(state), state.regions.now.value, state.threshold.value).then(
        (png) => download(name(picture, ".answer.png"), png),
        () => tell("The picture is too large for this browser to draw on."),
      );
    }),
  );
  watchAll([state.picture, state.turns], () => {
    find<HTMLButtonElement>("#export").disabled = !state.picture.value;
  });
}
