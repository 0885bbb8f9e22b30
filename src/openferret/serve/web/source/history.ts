import { Signal } from "./signal";

/** A value with undo and redo. */
export class History<T> {
  readonly now: Signal<T>;
  #past: T[] = [];
  #future: T[] = [];

  constructor(value: T) {
    this.now = new Signal(value);
  }

  get canUndo(): boolean {
    return this.#past.length > 0;
  }

  get canRedo(): boolean {
    return this.#future.length > 0;
  }

  push(value: T): void {
    this.#past.push(this.now.value);
    this.#future = [];
    this.now.value = value;
  }

  undo(): void {
    this.#step(this.#past, this.#future);
  }

  redo(): void {
    this.#step(this.#future, this.#past);
  }

  /** Starts over; nothing can be undone. */
  reset(value: T): void {
    this.#past = [];
    this.#future = [];
    this.now.value = value;
  }

  #step(from: T[], to: T[]): void {
    const value = from.pop();
    if (value === undefined) return;
    to.push(this.now.value);
    this.now.value = value;
  }
}
