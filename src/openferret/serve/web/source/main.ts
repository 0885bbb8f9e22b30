/** Puts the page together. */

import { getJson } from "./api";
import { Asking } from "./asking";
import { setUpCodeDialog } from "./code-dialog";
import { Composer } from "./composer";
import { Conversation } from "./conversation";
import { find, onClick } from "./dom";
import { setUpExports, setUpSettings, setUpView } from "./menus";
import { tell } from "./notices";
import { loadPicture } from "./pictures";
import { type Help, listenToKeys, renderHelp } from "./shortcuts";
import { setUpShelf } from "./shelf";
import { watchAll } from "./signal";
import { listenToSources, type Take } from "./sources";
import { Stage } from "./stage";
import { clearTurns, createState, type State } from "./state";
import { setUpTheme } from "./theme";
import { removeSelected, setUpToolbar, stepBrush } from "./toolbar";
import type { ToolName } from "./types";

function start(): void {
  const theme = setUpTheme();
  const state = createState();
  const asking = new Asking(state);
  const stage = new Stage(find<HTMLCanvasElement>("#canvas"), find("#tools"), state);
  const composer = new Composer(state, asking);
  const showCode = setUpCodeDialog(state, asking);
  new Conversation(find("#log"), state, asking, showCode);
  setUpToolbar(state, stage);
  setUpShelf(state, (region) => composer.insert(region));
  setUpView(state);
  setUpSettings(state);
  setUpExports(state);
  showPanels(state);
  setUpDialogs();

  listenToSources(takePictures(state, asking), tell);
  for (const button of document.querySelectorAll("[data-action=clear]")) {
    button.addEventListener("click", () => {
      asking.stop();
      clearTurns(state);
    });
  }
  const help = describeKeys(state, stage, composer, theme.toggle);
  renderHelp(help);
  listenToKeys(help, (number) => {
    const region = state.regions.now.value.find((one) => one.number === number);
    if (region) composer.insert(region);
  });
  void showModel(asking);
}

function takePictures(state: State, asking: Asking): Take {
  let last = 0;
  return (blob, name, suggestions) => {
    const mine = ++last;
    loadPicture(blob, name, suggestions).then(
      ({ picture, note }) => {
        // Of several that were chosen in a row, the last is meant.
        if (mine !== last) return;
        asking.stop();
        clearTurns(state);
        state.selected.value = null;
        state.regions.reset([]);
        state.picture.value = picture;
        asking.prepare(picture);
        if (note) tell(note, "news");
      },
      (problem: unknown) => tell(problem instanceof Error ? problem.message : "This picture cannot be opened."),
    );
  };
}

/** What there is to see without a picture, with one, and once something was asked. */
function showPanels(state: State): void {
  state.picture.watch((picture) => {
    document.body.classList.toggle("empty", !picture);
    find("#welcome").hidden = !!picture;
    find("#workspace").hidden = !picture;
    find("#canvas").setAttribute(
      "aria-label",
      `${picture?.name ?? "No picture"}. Arrow keys move the pen, Space puts it down and lifts it.`,
    );
    find("#picture-name").textContent = picture ? picture.name : "";
    find("#picture-size").textContent = picture ? `${picture.width} × ${picture.height}` : "";
  });
  watchAll([state.turns], () => {
    find("#start").hidden = state.turns.value.length > 0;
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-action=clear]")) {
      button.disabled = state.turns.value.length === 0;
    }
  });
}

function setUpDialogs(): void {
  onClick("#help-open", () => find<HTMLDialogElement>("#help").showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close")?.addEventListener("click", () => dialog.close());
    // A click beside a dialog closes it.
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
}

async function showModel(asking: Asking): Promise<void> {
  try {
    const models = await getJson<{ data: readonly { id: string }[] }>("v1/models");
    asking.model = models.data[0]?.id ?? asking.model;
    find("#model").textContent = asking.model;
  } catch (problem) {
    tell(problem instanceof Error ? problem.message : "The server cannot be reached.");
  }
}

function describeKeys(state: State, stage: Stage, composer: Composer, toggleTheme: () => void): Help[] {
  const tool = (key: string, name: ToolName, help: string): Help["shortcuts"][number] => ({
    keys: [key],
    label: key.toUpperCase(),
    help,
    action: () => (state.tool.value = name),
  });
  const undo = (): void => void (stage.cancel() || state.regions.undo());
  const release = (): void => {
    if (!stage.cancel()) [state.kept.value, state.selected.value] = [null, null];
  };
  return [
    {
      title: "Draw",
      shortcuts: [
        tool("p", "point", "Point"),
        tool("b", "box", "Box"),
        tool("s", "brush", "Scribble with a brush; Shift goes on with the selected one"),
        tool("e", "eraser", "Erase from a scribble"),
        tool("l", "lasso", "Lasso: drag, or click corner by corner and Enter"),
        tool("v", "move", "Move the picture, click boxes"),
        { keys: ["["], label: "[", help: "Smaller brush", action: () => stepBrush(state, -1) },
        { keys: ["]"], label: "]", help: "Larger brush", action: () => stepBrush(state, 1) },
      ],
    },
    {
      title: "Change",
      shortcuts: [
        { keys: ["z"], label: "Ctrl Z", help: "Undo", control: true, action: undo },
        { keys: ["y"], label: "Ctrl Y", help: "Redo", control: true, action: () => state.regions.redo() },
        { keys: ["z"], label: "Ctrl Shift Z", help: "Redo", control: true, shift: true, action: () => state.regions.redo() },
        { keys: ["delete", "backspace"], label: "Delete", help: "Remove the selected region", action: () => removeSelected(state) },
        { keys: ["escape"], label: "Esc", help: "Give up a stroke; let go of what is kept", action: release },
        { keys: ["+", "="], label: "+", help: "Zoom in (or turn the wheel, or pinch)", action: () => stage.viewport.zoom(1.25) },
        { keys: ["-"], label: "-", help: "Zoom out", action: () => stage.viewport.zoom(0.8) },
        { keys: ["0"], label: "0", help: "See the whole picture", action: () => stage.viewport.fit() },
      ],
    },
    {
      title: "Ask",
      shortcuts: [
        { keys: ["/"], label: "/", help: "Write a question; 1 to 9 put regions into it", action: () => focus(composer, "ask") },
        { keys: ["f"], label: "F", help: "Find phrases", action: () => focus(composer, "find") },
        { keys: ["enter"], label: "Enter", help: "Ask", action: () => void (stage.finish() || composer.send()) },
        { keys: ["d"], label: "D", help: "Describe the picture", action: () => composer.describe() },
        { keys: ["a"], label: "A", help: "Locate everything", action: () => composer.ask({ verb: "detect" }) },
        { keys: ["o"], label: "O", help: "Open a picture", action: () => find("#file").click() },
        { keys: ["t"], label: "T", help: "Light or dark", action: toggleTheme },
        { keys: ["?"], label: "?", help: "This list", action: () => find<HTMLDialogElement>("#help").showModal() },
      ],
    },
  ];
}

function focus(composer: Composer, mode: "ask" | "find"): void {
  composer.setMode(mode);
  composer.focus();
}

start();
