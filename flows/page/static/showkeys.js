// The keys of a show's page.
import { tell, typing } from "./frame.js";
import { EMOTIONS } from "./palette.js";

export function keys(app) {
  const { meta } = app;
  const step = (ms) => app.go(Math.min(Math.max(meta.begin, (app.date ?? meta.begin) + ms), meta.until), undefined);
  const plain = {
    " ": "play", "+": "in", "=": "in", "-": "out", 0: "all", m: "mark", k: "keep", n: "next", p: "previous", r: "raw", u: "usual", b: "boxes", l: "link",
  };
  document.addEventListener("keydown", (event) => {
    if (typing(event) || document.querySelector("dialog[open]")) return;
    if (event.key === " " && event.target.closest("button, a, media-controller")) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") step((event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10000 : 1000));
    else if (event.key === "," || event.key === ".") moment(event.key === "," ? -1 : 1);
    else if (event.key === "Home") app.go(meta.media[0]?.[0] ?? meta.begin, undefined);
    else if (event.key === "End") { if (meta.onAir) app.toLive(); else app.go(meta.until - 2000, undefined); }
    else if (/^[1-8]$/.test(event.key)) app.side.toggle(EMOTIONS[Number(event.key) - 1]);
    else if (event.key === "Escape") app.marks.clear();
    else if (plain[event.key]) app.press(plain[event.key]).catch((error) => tell(error.message));
    else return;
    event.preventDefault();
  });

  async function moment(way) {
    const at = app.date ?? meta.begin;
    const body = await app.numbers.faces(at).promise;
    const times = [...new Set(body.at)].map((each) => body.start + each);
    const next = way > 0 ? times.find((each) => each > at + 20) : times.findLast((each) => each < at - 20);
    app.video.pause();
    app.go(next ?? at + way * 200, false);
  }
}
