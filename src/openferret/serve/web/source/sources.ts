/** Where pictures come from: a file, a drop, the clipboard, the camera, the examples. */

import { find, make, onClick } from "./dom";
import type { Corners, Shape, Suggestion } from "./types";

export type Take = (blob: Blob, name: string, suggestions?: readonly Suggestion[]) => void;
type Tell = (problem: string) => void;

interface Example {
  readonly file: string;
  readonly title: string;
  readonly suggestions: readonly Suggestion[];
}

const box = (...corners: Corners): Shape => ({ kind: "box", corners });

const EXAMPLES: readonly Example[] = [
  {
    file: "coffee.jpg",
    title: "A cup of espresso",
    suggestions: [
      { label: "What is this, beside the cup?", shapes: [box(324, 52, 424, 328)] },
      { label: "Find a cup, a spoon, a table, a dog", find: ["a cup", "a spoon", "a table", "a dog"] },
      {
        label: "How are these two related?",
        shapes: [box(172, 14, 412, 285), box(324, 52, 424, 328)],
        words: "How are [1] and [2] related?",
      },
    ],
  },
  {
    file: "astronaut.jpg",
    title: "An astronaut",
    suggestions: [
      { label: "Find a woman, a flag, an orange suit", find: ["a woman", "a flag", "an orange suit"] },
      { label: "What is behind her?", shapes: [box(368, 0, 448, 276)] },
    ],
  },
  {
    file: "chelsea.jpg",
    title: "Chelsea the cat",
    suggestions: [
      { label: "Find a cat, an ear, a car", find: ["a cat", "an ear", "a car"] },
      { label: "What is this?", shapes: [{ kind: "point", at: [230, 170] }] },
    ],
  },
];

export function listenToSources(take: Take, tell: Tell): void {
  const input = find<HTMLInputElement>("#file");
  for (const button of document.querySelectorAll("[data-action=open]")) {
    button.addEventListener("click", () => input.click());
  }
  input.addEventListener("change", () => {
    takeFile(input.files, take, tell);
    input.value = "";
  });
  listenToDrops(take, tell);
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file, file.name || "pasted.png");
  });
  listenToCamera(take, tell);
  for (const example of EXAMPLES) find("#examples").append(exampleButton(example, take, tell));
}

function takeFile(files: FileList | null | undefined, take: Take, tell: Tell): void {
  const list = [...(files ?? [])];
  const file = list.find((one) => one.type.startsWith("image/")) ?? list[0];
  if (file && (file.type.startsWith("image/") || !file.type)) take(file, file.name);
  else if (file) tell(`“${file.name}” is not a picture. JPEG, PNG and WebP always work.`);
}

function listenToDrops(take: Take, tell: Tell): void {
  let depth = 0;
  const files = (event: DragEvent): boolean => !!event.dataTransfer?.types.includes("Files");
  const show = (on: boolean): boolean => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragenter", (event) => files(event) && show(++depth > 0));
  document.addEventListener("dragleave", (event) => files(event) && show(--depth > 0));
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    takeFile(event.dataTransfer?.files, take, tell);
  });
}

function listenToCamera(take: Take, tell: Tell): void {
  const dialog = find<HTMLDialogElement>("#camera");
  const video = find<HTMLVideoElement>("#camera video");
  let stream: MediaStream | null = null;
  const open = async (): Promise<void> => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
    } catch {
      tell("The camera cannot be used: none was found, or the browser was not allowed to. A photo from your files works as well.");
      return;
    }
    video.srcObject = stream;
    dialog.showModal();
    await video.play();
  };
  for (const button of document.querySelectorAll("[data-action=camera]")) button.addEventListener("click", () => void open());
  onClick("#shoot", () => {
    const canvas = make("canvas", { width: String(video.videoWidth), height: String(video.videoHeight) });
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    canvas.toBlob((blob) => blob && take(blob, "camera.jpg"), "image/jpeg", 0.92);
    dialog.close();
  });
  dialog.addEventListener("close", () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = video.srcObject = null;
  });
}

function exampleButton(example: Example, take: Take, tell: Tell): HTMLElement {
  const address = `assets/examples/${example.file}`;
  const thumbnail = make("img", { src: address, alt: "", loading: "lazy" });
  const button = make("button", { type: "button", class: "example" }, thumbnail, make("span", {}, example.title));
  button.addEventListener("click", () => {
    fetch(address)
      .then(async (response) => {
        if (!response.ok) throw new Error();
        take(await response.blob(), example.file, example.suggestions);
      })
      .catch(() => tell("The example could not be fetched. Is the server still running?"));
  });
  return button;
}
