/** The conversation: questions, answers as they arrive, and what can be done with each. */

import { renderAnswer, renderSeconds, renderWarnings } from "./answer-view";
import type { Asking } from "./asking";
import { icon, iconButton, make } from "./dom";
import { makeChip } from "./editor";
import { assignColours, currentTurn, litKey } from "./marks";
import { watchAll } from "./signal";
import { changeTurn, type State } from "./state";
import type { Part, Question, Region, Turn } from "./types";

interface Card {
  readonly element: HTMLElement;
  turn: Turn | null;
}

export class Conversation {
  readonly #cards = new Map<number, Card>();

  constructor(
    private readonly log: HTMLElement,
    private readonly state: State,
    private readonly asking: Asking,
    private readonly showCode: (turn: Turn) => void,
  ) {
    state.turns.watch(() => this.#render());
    watchAll([state.hovered, state.kept, state.turns, state.regions.now], () => this.#light());
    watchAll([state.chosen, state.shown, state.turns], () => this.#markCurrent());
  }

  #render(): void {
    const turns = this.state.turns.value;
    for (const [id, card] of this.#cards) {
      if (turns.some((turn) => turn.id === id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    turns.forEach((turn, index) => this.#update(turn, index === turns.length - 1));
    if (atEnd || turns.at(-1)?.status === "waiting") this.log.scrollTop = this.log.scrollHeight;
    this.log.setAttribute("aria-busy", String(turns.some((turn) => turn.status === "writing")));
  }

  #update(turn: Turn, last: boolean): void {
    let card = this.#cards.get(turn.id);
    if (!card) {
      card = { element: make("article", { class: "turn" }), turn: null };
      this.#cards.set(turn.id, card);
      this.log.append(card.element);
      card.element.addEventListener("click", () => (this.state.chosen.value = turn.id));
    }
    card.element.classList.toggle("last", last);
    if (card.turn === turn) return;
    const draft = card.element.querySelector(".draft-text");
    if (draft && card.turn?.status === "writing" && turn.status === "writing") draft.textContent = turn.draft;
    else card.element.replaceChildren(this.#question(turn.question), ...this.#body(turn));
    card.turn = turn;
  }

  #question(question: Question): HTMLElement {
    const line = make("p", { class: "question", dir: "auto" });
    for (const part of spokenParts(question)) {
      line.append("text" in part ? part.text : makeChip(part.region, this.state));
    }
    return line;
  }

  #body(turn: Turn): HTMLElement[] {
    switch (turn.status) {
      case "waiting":
        return [make("p", { class: "draft" }, make("span", { class: "dots", role: "status" }, "looking"))];
      case "writing":
        return [make("p", { class: "draft", dir: "auto" }, make("span", { class: "draft-text" }, turn.draft))];
      case "done":
        return [...this.#answers(turn), this.#actions(turn)];
      case "stopped":
        return [
          ...(turn.draft ? [make("p", { class: "answer", dir: "auto" }, turn.draft)] : []),
          this.#notice(turn, "Stopped.", "Ask again"),
        ];
      case "failed":
        return [this.#notice(turn, turn.problem, "Try again")];
    }
  }

  #notice(turn: Turn, text: string, label: string): HTMLElement {
    const again = make("button", { type: "button", class: "quiet" }, label);
    again.addEventListener("click", () => void this.asking.ask(turn.question, turn.id));
    const role = turn.status === "failed" ? "alert" : "status";
    return make("div", { class: `notice ${turn.status}`, role }, make("p", {}, text), again);
  }

  #answers(turn: Turn): HTMLElement[] {
    const colours = assignColours(turn.answers);
    const regions = regionsOf(turn.question);
    return turn.answers.flatMap((answer, index) => {
      const line = renderAnswer(turn, index, colours, this.state);
      const region = turn.answers.length > 1 ? regions[index] : undefined;
      if (region) line.prepend(makeChip(region, this.state), " ");
      return [line, ...renderWarnings(answer, turn.answers.length > 1 ? regions.slice(index, index + 1) : regions)];
    });
  }

  #actions(turn: Turn): HTMLElement {
    const vote = (value: 1 | -1, name: string, label: string): HTMLElement => {
      const button = iconButton(name, label, () => {
        changeTurn(this.state, turn.id, { vote: turn.vote === value ? 0 : value });
      });
      button.setAttribute("aria-pressed", String(turn.vote === value));
      return button;
    };
    const copy = iconButton("copy", "Copy the answer", () => {
      const text = turn.answers.map((answer) => answer.text).join("\n");
      void navigator.clipboard?.writeText(text).then(() => copy.replaceChildren(icon("check")));
    });
    const bar = make(
      "div",
      { class: "actions", role: "group", "aria-label": "With this answer" },
      vote(1, "up", "Good answer"),
      vote(-1, "down", "Bad answer"),
      iconButton("again", "Ask again", () => void this.asking.ask(turn.question, turn.id)),
      copy,
      iconButton("code", "The same in Python and curl", () => this.showCode(turn)),
    );
    const seconds = renderSeconds(turn.seconds);
    if (seconds) bar.append(seconds);
    return bar;
  }

  /** Words and chips light up with what they stand for. */
  #light(): void {
    const lit = litKey(this.state);
    for (const element of document.querySelectorAll<HTMLElement>("[data-mark]")) {
      const key = element.dataset["mark"];
      element.classList.toggle("lit", key === lit);
      if (element.hasAttribute("aria-pressed")) {
        element.setAttribute("aria-pressed", String(key === this.state.kept.value));
      }
    }
  }

  #markCurrent(): void {
    const current = this.state.shown.value === "one" ? currentTurn(this.state)?.id : undefined;
    const several = this.state.turns.value.length > 1;
    for (const [id, card] of this.#cards) card.element.classList.toggle("current", several && id === current);
  }
}

export function regionsOf(question: Question): readonly Region[] {
  if (question.verb === "refer") return question.regions;
  if (question.verb !== "ask") return [];
  return question.parts.flatMap((part) => ("region" in part ? [part.region] : []));
}

function spokenParts(question: Question): readonly Part[] {
  switch (question.verb) {
    case "ask":
      return question.parts;
    case "refer": {
      const between = (index: number): Part[] => (index ? [{ text: " " }] : []);
      const regions = question.regions.flatMap((region, index): Part[] => [...between(index), { region }]);
      return [{ text: question.regions.length > 1 ? "What are " : "What is " }, ...regions, { text: " ?" }];
    }
    case "ground":
      return [{ text: `Find ${question.phrases.join(", ")}${question.merge ? " (one box each)" : ""}` }];
    case "describe":
      return [{ text: "Describe the picture" }];
    case "detect":
      return [{ text: "Locate everything" }];
  }
}
