/** Files of people -> pictures that the server takes. */

import type { Picture, Suggestion } from "./types";

const TAKEN = new Set(["image/jpeg", "image/png", "image/webp"]);
const MOST_BYTES = 15_000_000;
const MOST_PIXELS = 40_000_000;

export interface Loaded {
  readonly picture: Picture;
  /** What was changed on the way, for the person. */
  readonly note: string;
}

/** Reads a picture; a format or size that the server would refuse is written anew as JPEG. */
export async function loadPicture(blob: Blob, name: string, suggestions: readonly Suggestion[] = []): Promise<Loaded> {
  const image = await decode(blob, name);
  const { naturalWidth: width, naturalHeight: height } = image;
  if (TAKEN.has(blob.type) && blob.size <= MOST_BYTES && width * height <= MOST_PIXELS) {
    return { picture: { name, blob, image, width, height, suggestions }, note: "" };
  }
  const scale = Math.min(1, Math.sqrt((0.9 * MOST_PIXELS) / (width * height)));
  const smaller = await rewrite(image, Math.floor(width * scale), Math.floor(height * scale));
  if (smaller.size > MOST_BYTES) throw new Error("This picture is too large. Save it smaller and try again.");
  const jpeg = `${name.replace(/\.[^.]*$/, "")}.jpg`;
  const rewritten = await decode(smaller, jpeg);
  const [w, h] = [rewritten.naturalWidth, rewritten.naturalHeight];
  const note = scale < 1 ? `Made smaller to fit: ${w} × ${h} pixels.` : "Saved as JPEG for the server.";
  return { picture: { name: jpeg, blob: smaller, image: rewritten, width: w, height: h, suggestions }, note };
}

async function decode(blob: Blob, name: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } catch {
    throw new Error(`“${name}” is not a picture that this browser can open. JPEG, PNG and WebP always work.`);
  } finally {
    URL.revokeObjectURL(image.src);
  }
  if (!image.naturalWidth || !image.naturalHeight) throw new Error(`“${name}” has no size of its own. Save it as PNG or JPEG.`);
  return image;
}

function rewrite(image: HTMLImageElement, width: number, height: number): Promise<Blob> {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  if (context) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(image, 0, 0, width, height);
  }
  return new Promise((resolve, reject) => {
    const done = (blob: Blob | null): void => (blob ? resolve(blob) : reject(new Error("This picture could not be saved as JPEG.")));
    canvas.toBlob(done, "image/jpeg", 0.92);
  });
}
