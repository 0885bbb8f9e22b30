/** A value that others can watch. */
export class Signal<T> {
  readonly #watchers = new Set<(value: T) => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const watcher of this.#watchers) watcher(value);
  }

  /** Calls `watcher` now and after each change. */
  watch(watcher: (value: T) => void): void {
    this.#watchers.add(watcher);
    watcher(this.#value);
  }
}

/** Calls `watcher` once now, and after a change of any of the signals. */
export function watchAll(signals: readonly Signal<never>[] | readonly Signal<any>[], watcher: () => void): void {
  let ready = false;
  for (const signal of signals) signal.watch(() => ready && watcher());
  ready = true;
  watcher();
}
