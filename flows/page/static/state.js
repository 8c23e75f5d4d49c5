// The state of the view is in the URL: a link opens the same moment.
import { EMOTIONS } from "./palette.js";

const number = (text) => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : null);

export function readState() {
  const query = new URLSearchParams(location.search);
  const pair = (text) => { const found = /^(\d{1,15})-(\d{1,15})$/.exec(text ?? ""); return found && Number(found[1]) < Number(found[2]) ? [Number(found[1]), Number(found[2])] : null; };
  const view = pair(query.get("view"));
  return {
    at: number(query.get("at")), from: view?.[0] ?? null, to: view?.[1] ?? null, mark: pair(query.get("mark")), track: number(query.get("track")),
    off: (query.get("off") ?? "").split(",").filter((name) => EMOTIONS.includes(name)), raw: query.has("raw"), usual: query.has("usual"), play: query.has("play"),
  };
}

export function writeState(app) {
  const query = new URLSearchParams();
  const { timeline, marks, meta } = app;
  if (app.date && !app.atEdge) query.set("at", String(Math.round(app.date)));
  if (timeline.to - timeline.from < (meta.until - meta.begin) * 0.98) query.set("view", `${Math.round(timeline.from)}-${Math.round(timeline.to)}`);
  if (marks.mark) query.set("mark", marks.mark.map(Math.round).join("-"));
  if (app.track !== null) query.set("track", String(app.track));
  if (timeline.off.size) query.set("off", [...timeline.off].join(","));
  if (timeline.raw) query.set("raw", "1");
  if (timeline.showUsual) query.set("usual", "1");
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}
