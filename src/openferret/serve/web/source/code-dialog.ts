/** A turn as code, to be copied. */

import type { Asking } from "./asking";
import { find, icon, onClick } from "./dom";
import { tell } from "./notices";
import { curlFor, pythonFor } from "./snippets";
import type { State } from "./state";
import type { Turn } from "./types";

export function setUpCodeDialog(state: State, asking: Asking): (turn: Turn) => void {
  const dialog = find<HTMLDialogElement>("#code");
  const output = find("#code pre");
  const snippets = { python: "", curl: "" };
  const show = (name: keyof typeof snippets): void => {
    for (const one of ["python", "curl"]) find(`#code-${one}`).setAttribute("aria-pressed", String(one === name));
    output.textContent = snippets[name];
  };
  onClick("#code-python", () => show("python"));
  onClick("#code-curl", () => show("curl"));
  onClick("#code-copy", () => {
    const button = find("#code-copy");
    const done = (): void => button.replaceChildren(icon("check"), "Copied");
    const failed = (): void => tell("The browser does not let the page copy; select the text instead.");
    void (navigator.clipboard?.writeText(output.textContent ?? "").then(done, failed) ?? failed());
  });
  return (turn) => {
    const picture = state.picture.value;
    if (!picture) return;
    const before = state.turns.value.filter((one) => one.id < turn.id);
    snippets.python = pythonFor(turn, before, picture, asking.least);
    const origin = new URL(".", document.baseURI).href;
    find("#code-copy").replaceChildren(icon("copy"), "Copy");
    asking.requestOf(turn, picture).then(
      (request) => {
        snippets.curl = curlFor(turn, request, picture, origin);
        show("python");
        dialog.showModal();
      },
      () => tell("The server cannot be reached. Is it still running?"),
    );
  };
}
