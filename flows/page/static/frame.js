// On every page: times in the user's zone, dark or light, keys, messages.
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const clockOf = (ms) => clock.format(ms);

export function tell(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { toast.textContent = ""; }, 5000);
}

export async function ask(url, options = {}) {
  const answer = await fetch(url, { headers: { accept: "application/json", ...options.headers }, ...options });
  if (!answer.ok) {
    const error = await answer.json().catch(() => ({}));
    throw new Error(error.why || error.exception_message || `the page answered ${answer.status}`);
  }
  return answer.status === 204 ? null : answer.json();
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell("Copied");
}

export function typing(event) {
  return /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey;
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  const form = "clock" in time.dataset ? clock : "seconds" in time.dataset ? full : day;
  if (!Number.isNaN(at.getTime())) time.textContent = form.format(at);
  time.title = time.dateTime;
}

const root = document.documentElement;
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (stored) root.dataset.theme = stored;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window */ }
  document.dispatchEvent(new Event("theme"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));

const keys = document.getElementById("keys");
document.getElementById("help").addEventListener("click", () => keys.showModal());
let before = "";
document.addEventListener("keydown", (event) => {
  if (typing(event) || keys.open) return;
  if (event.key === "?") keys.showModal();
  else if (event.key === "/") { event.preventDefault(); location.href = "/search"; }
  else if (before === "g" && event.key === "s") location.href = "/";
  before = event.key;
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(document.querySelector(button.dataset.copy).textContent));
}
