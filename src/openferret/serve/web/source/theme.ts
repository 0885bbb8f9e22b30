/** Light or dark: as the system has it, until the person says otherwise. */

import { find, onClick } from "./dom";

const KEPT = "openferret-theme";
type Theme = "light" | "dark";

export function setUpTheme(): { toggle: () => void } {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = readKept();
  if (kept) show(kept);
  const now = (): Theme => (document.documentElement.dataset["theme"] as Theme) ?? (system.matches ? "dark" : "light");
  const name = (): void => {
    const other = now() === "dark" ? "light" : "dark";
    find("#theme").setAttribute("aria-label", `Switch to ${other} colours`);
    find("#theme").title = `Switch to ${other} colours (T)`;
    find("#theme use").setAttribute("href", `#icon-${now() === "dark" ? "sun" : "moon"}`);
  };
  const toggle = (): void => {
    const other: Theme = now() === "dark" ? "light" : "dark";
    show(other);
    keep(other);
    name();
  };
  system.addEventListener("change", name);
  onClick("#theme", toggle);
  name();
  return { toggle };
}

function show(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
}

/** Storage may be forbidden; the page then forgets the choice. */
function readKept(): Theme | null {
  try {
    const kept = localStorage.getItem(KEPT);
    return kept === "light" || kept === "dark" ? kept : null;
  } catch {
    return null;
  }
}

function keep(theme: Theme): void {
  try {
    localStorage.setItem(KEPT, theme);
  } catch {
    return;
  }
}
