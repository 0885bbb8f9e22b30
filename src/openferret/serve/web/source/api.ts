/** The server, over HTTP. Addresses are relative, so that the page also works behind a prefix. */

import { type ServerEvent, readEvents } from "./sse";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export interface ImageInfo {
  readonly id: string;
  readonly width: number;
  readonly height: number;
}

const KINDLY: Readonly<Record<number, string>> = {
  401: "This server asks for a key. Reload the page and sign in with the key as the password.",
  413: "That is too large for this server. A smaller picture will do.",
  429: "The server is busy. Try again in a moment.",
  500: "The server stumbled over this question. Try again, or ask differently.",
  503: "The server is not ready yet. Try again in a moment.",
  504: "The server took too long and gave up. Try again, or ask for less.",
};

async function send(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new ApiError(0, "unreachable", "The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const body: unknown = await response.json().catch(() => null);
  throw readError(body, response.status);
}

/** The error in a reply, as a sentence for people. */
export function readError(body: unknown, status: number): ApiError {
  const error = (body as { error?: { code?: unknown; message?: unknown } } | null)?.error;
  const message = typeof error?.message === "string" ? sentence(error.message) : "";
  const code = typeof error?.code === "string" ? error.code : "";
  const kind = KINDLY[status] ?? `The server refused this question (${status}).`;
  return new ApiError(status, code, status === 401 || status === 500 ? kind : message || kind);
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

export async function getJson<T>(path: string): Promise<T> {
  return (await send(path, {})).json() as Promise<T>;
}

export async function uploadPicture(picture: Blob, signal?: AbortSignal): Promise<ImageInfo> {
  const headers = { "Content-Type": picture.type || "application/octet-stream" };
  const response = await send("v1/images", { method: "POST", body: picture, headers, signal: signal ?? null });
  return response.json() as Promise<ImageInfo>;
}

export async function postJson<T>(path: string, body: unknown, signal: AbortSignal): Promise<T> {
  return (await post(path, body, signal)).json() as Promise<T>;
}

export async function* postForEvents(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  const response = await post(path, body, signal);
  if (response.body) yield* readEvents(response.body);
}

function post(path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", body: JSON.stringify(body), headers, signal });
}
