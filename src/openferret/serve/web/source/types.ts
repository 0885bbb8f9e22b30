/** The nouns of the page. Lengths are pixels of the upright picture unless a name says otherwise. */

export type Pair = readonly [number, number];
export type Corners = readonly [number, number, number, number];

export interface Stroke {
  readonly points: readonly Pair[];
  readonly width: number;
  readonly erase: boolean;
}

export type Shape =
  | { readonly kind: "point"; readonly at: Pair }
  | { readonly kind: "box"; readonly corners: Corners }
  | { readonly kind: "paint"; readonly strokes: readonly Stroke[] }
  | { readonly kind: "polygon"; readonly points: readonly Pair[] };

/** What a person points at; `number` is what the page shows. */
export interface Region {
  readonly number: number;
  readonly shape: Shape;
}

export interface Picture {
  readonly name: string;
  readonly blob: Blob;
  readonly image: HTMLImageElement;
  readonly width: number;
  readonly height: number;
  readonly suggestions: readonly Suggestion[];
}

/** A question that fits an example picture: phrases to find, or regions to draw and words about them. */
export type Suggestion = { readonly label: string } & (
  | { readonly find: readonly string[] }
  /** [1] in the words stands for the first shape; without words it is asked what they are. */
  | { readonly shapes: readonly Shape[]; readonly words?: string }
);

export interface LocatedBox {
  readonly pixels: Corners;
  readonly normalized: Corners;
  readonly score: number | null;
}

export interface Mention {
  readonly phrase: string;
  readonly span: readonly [number, number];
  readonly boxes: readonly LocatedBox[];
}

/** The server's `Answer.to_dict()`. */
export interface Answer {
  readonly text: string;
  readonly image: { readonly width: number; readonly height: number };
  readonly mentions: readonly Mention[];
  readonly model: string;
  readonly warnings?: readonly string[];
}

export type Seconds = Readonly<Record<string, number>>;

/** A question is words and regions in the order in which they were written. */
export type Part = { readonly text: string } | { readonly region: Region };

export type Question =
  | { readonly verb: "ask"; readonly parts: readonly Part[] }
  | { readonly verb: "refer"; readonly regions: readonly Region[] }
  | { readonly verb: "ground"; readonly phrases: readonly string[]; readonly merge: boolean }
  /** Of several drafts the one is given that tells most of what is seen. */
  | { readonly verb: "describe"; readonly drafts: number }
  | { readonly verb: "detect" };

export type Status = "waiting" | "writing" | "done" | "failed" | "stopped";

export interface Turn {
  readonly id: number;
  readonly question: Question;
  readonly status: Status;
  /** What has arrived of an answer that is still being written. */
  readonly draft: string;
  readonly answers: readonly Answer[];
  readonly seconds: Seconds;
  readonly problem: string;
  readonly vote: -1 | 0 | 1;
}

export type ToolName = "move" | "point" | "box" | "brush" | "eraser" | "lasso";

/** Which answers' boxes are on the picture. */
export type Shown = "one" | "all" | "none";
