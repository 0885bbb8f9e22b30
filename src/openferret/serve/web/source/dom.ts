/** Making and finding elements. Text is only ever set as text. */

type Child = Node | string | null | false;
type Attributes = Readonly<Record<string, string | boolean>>;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** An icon of the sprite in index.html; it says nothing to screen readers. */
export function icon(name: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon, and words for those who do not see it. */
export function iconButton(name: string, label: string, action: () => void): HTMLButtonElement {
  const button = make("button", { type: "button", class: "quiet round", "aria-label": label, title: label });
  button.append(icon(name));
  button.addEventListener("click", action);
  return button;
}

/** The element that index.html promises. */
export function find<T extends Element = HTMLElement>(selector: string): T {
  const element = document.querySelector<T>(selector);
  if (!element) throw new Error(`the page has no ${selector}`);
  return element;
}

export function onClick(selector: string, action: () => void): void {
  find(selector).addEventListener("click", action);
}

/** Gives a file to the person; nothing leaves the machine. */
export function download(name: string, content: Blob): void {
  const link = make("a", { download: name, href: URL.createObjectURL(content) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
