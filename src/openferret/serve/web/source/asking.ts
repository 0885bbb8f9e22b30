/** Sends a question and follows its answer as it is written. */

import { ApiError, type ImageInfo, postForEvents, postJson, readError, uploadPicture } from "./api";
import { type Request, type Setting, writeRequest } from "./requests";
import type { ServerEvent } from "./sse";
import { changeTurn, type State } from "./state";
import type { Answer, Picture, Question, Seconds, Turn } from "./types";

interface Reply {
  readonly answer?: Answer;
  readonly answers?: readonly Answer[];
  readonly timings?: Seconds;
}

/** Chat replies carry the same under OpenAI's names. */
interface Chunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly grounding?: Answer;
  readonly timings?: Seconds;
  readonly error?: unknown;
}

/** Least score that "unlikely finds too" asks for. */
const UNLIKELY = 0.1;

export class Asking {
  readonly #uploads = new WeakMap<Picture, Promise<ImageInfo>>();
  #running: AbortController | null = null;
  model = "openferret";

  constructor(private readonly state: State) {}

  get busy(): boolean {
    return this.#running !== null;
  }

  /** The least score that is asked for; null for the model's own. */
  get least(): number | null {
    return this.state.unlikely.value ? UNLIKELY : null;
  }

  /** Sends the picture ahead of the first question; a failure is told when something is asked. */
  prepare(picture: Picture): void {
    this.#upload(picture).catch(() => undefined);
  }

  stop(): void {
    this.#running?.abort();
  }

  /** Asks, or asks again in the place of turn `id`. */
  async ask(question: Question, again?: number): Promise<void> {
    const picture = this.state.picture.value;
    if (!picture || this.#running) return;
    const running = new AbortController();
    this.#running = running;
    const turns = this.state.turns.value;
    const id = again ?? Math.max(0, ...turns.map((turn) => turn.id)) + 1;
    const fresh = { question, status: "waiting", draft: "", answers: [], seconds: {}, problem: "", vote: 0 } as const;
    if (again === undefined) this.state.turns.value = [...turns, { id, ...fresh }];
    else changeTurn(this.state, id, fresh);
    this.state.chosen.value = id;
    this.state.kept.value = null;
    try {
      await this.#run(id, question, picture, running.signal);
    } catch (problem) {
      if (running.signal.aborted) changeTurn(this.state, id, { status: "stopped" });
      else changeTurn(this.state, id, { status: "failed", problem: explain(problem) });
    } finally {
      this.#running = null;
      // Watchers of the turns also show whether a question is being answered.
      this.state.turns.value = [...this.state.turns.value];
    }
  }

  /** The request that a turn made, for those who want to make it themselves. */
  async requestOf(turn: Turn, picture: Picture): Promise<Request> {
    return writeRequest(turn.question, this.#setting(turn.id, picture, await this.#upload(picture)));
  }

  async #run(id: number, question: Question, picture: Picture, signal: AbortSignal): Promise<void> {
    for (const lastTry of [false, true]) {
      const image = await raceAbort(this.#upload(picture), signal);
      try {
        return await this.#follow(id, writeRequest(question, this.#setting(id, picture, image)), signal);
      } catch (problem) {
        // The server keeps pictures for a while only.
        const forgotten = problem instanceof ApiError && problem.status === 404;
        if (!forgotten || lastTry) throw problem;
        this.#uploads.delete(picture);
      }
    }
  }

  async #follow(id: number, request: Request, signal: AbortSignal): Promise<void> {
    if (!request.streams) return this.#finish(id, await postJson<Reply>(request.path, request.body, signal));
    let draft = "";
    let finished = false;
    for await (const event of postForEvents(request.path, request.body, signal)) {
      if (event.data === "[DONE]") break;
      const { text, reply } = readEvent(event);
      if (text) {
        draft += text;
        changeTurn(this.state, id, { status: "writing", draft });
      }
      if (reply) this.#finish(id, reply);
      finished ||= !!reply;
    }
    if (!finished) throw new ApiError(0, "cut_off", "The answer broke off. Try again.");
  }

  #finish(id: number, reply: Reply): void {
    const answers = reply.answers ?? (reply.answer ? [reply.answer] : []);
    changeTurn(this.state, id, { status: "done", answers, seconds: reply.timings ?? {} });
  }

  #upload(picture: Picture): Promise<ImageInfo> {
    const known = this.#uploads.get(picture);
    if (known) return known;
    const upload = uploadPicture(picture.blob);
    this.#uploads.set(picture, upload);
    upload.catch(() => this.#uploads.delete(picture));
    return upload;
  }

  #setting(id: number, picture: Picture, image: ImageInfo): Setting {
    const { longest, turns } = this.state;
    return {
      imageId: image.id,
      width: picture.width,
      height: picture.height,
      model: this.model,
      longest: longest.value,
      least: this.least,
      before: turns.value.filter((turn) => turn.id < id),
    };
  }
}

function readEvent(event: ServerEvent): { text?: string; reply?: Reply } {
  const data = JSON.parse(event.data) as Chunk & Reply & { text?: string };
  if (event.event === "error" || data.error) throw readError(data, 0);
  if (event.event === "token") return { text: data.text ?? "" };
  if (event.event === "answer") return { reply: data };
  const text = data.choices?.[0]?.delta?.content ?? "";
  return data.grounding ? { text, reply: { answer: data.grounding, timings: data.timings ?? {} } } : { text };
}

function explain(problem: unknown): string {
  if (problem instanceof ApiError) return problem.message;
  return "The answer could not be read. Try again.";
}

function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    promise.then(resolve, reject);
  });
}
