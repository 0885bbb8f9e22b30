import { find, iconButton, make } from "./dom";

const STAYS = 9000;

/** Says something at the bottom of the page for a while. */
export function tell(text: string, kind: "problem" | "news" = "problem"): void {
  const toast = make("div", { class: `toast ${kind}`, role: kind === "problem" ? "alert" : "status" }, make("p", {}, text));
  toast.append(iconButton("close", "Dismiss", () => toast.remove()));
  find("#toasts").append(toast);
  setTimeout(() => toast.remove(), STAYS);
}
