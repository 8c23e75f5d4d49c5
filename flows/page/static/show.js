// A show's page: video, boxes, timeline and marks; its state is in the URL.
import { ask, clockOf, copy, tell } from "./frame.js";
import { Boxes } from "./boxes.js";
import { Numbers } from "./data.js";
import { listen } from "./live.js";
import { Lanes } from "./lanes.js";
import { Marks } from "./marks.js";
import { Player } from "./player.js";
import { Side } from "./side.js";
import { Timeline } from "./timeline.js";
import { readState, writeState } from "./state.js";
import { keys } from "./showkeys.js";
import { EMOTIONS } from "./palette.js";

const byId = (id) => document.getElementById(id);
const id = Number(byId("stage").dataset.show);
const video = byId("video");

// media-chrome's label for it lacks the rate that is shown.
const rate = document.querySelector("media-playback-rate-button");
const nameRate = () => rate.setAttribute("aria-label", `Playback rate ${rate.getAttribute("mediaplaybackrate") ?? 1}x`);
new MutationObserver(nameRate).observe(rate, { attributeFilter: ["mediaplaybackrate"] });
nameRate();

async function begin() {
  const state = readState();
  const meta = await ask(`/data/show/${id}`);
  const numbers = new Numbers(id);
  if (meta.onAir) numbers.until = meta.until;
  const lanes = new Lanes(byId("lanes"), meta);
  const app = { id, meta, numbers, lanes, video, track: null, atEdge: false };
  window.showmood = app;

  app.side = new Side(app);
  app.boxes = new Boxes(byId("boxes"), video, numbers, meta.size);
  app.boxes.onDrawn = (date) => { if (date !== null) app.side.moment(date); };
  app.player = new Player(video, meta, {
    onDate: (date) => { app.boxes.draw(date); playhead(); writeSoon(); },
    onProblem: (text, at) => {
      if (at === null) { missing(text || whyMissing(app.date ?? meta.begin)); return; }
      app.shown = at ?? meta.media.at(-1)?.[0] ?? meta.begin;
      missing(text, app.shown);
      app.boxes.draw(null);
      app.side.moment(app.shown);
      playhead();
    },
    onFine: () => missing(""),
  });
  app.timeline = new Timeline({
    plot: byId("plot"), meta, numbers, lanes,
    onPick: (at) => app.go(at, true),
    onMark: (from, to) => app.marks.set(from, to),
    onHover: (place) => app.side.hover(place),
    onView: () => { playhead(); writeSoon(); },
  });
  app.timeline.onProblem = tell;
  app.marks = new Marks(app);

  function playhead() {
    const head = byId("playhead");
    const x = app.timeline?.position(app.date ?? null) ?? null;
    head.hidden = x === null;
    if (x !== null) head.style.left = `${x}px`;
  }
  function writeSoon() {
    clearTimeout(app.writing);
    app.writing = setTimeout(() => writeState(app), 300);
  }
  app.writeSoon = writeSoon;
  // clipAt: a moment whose minute is offered as a file.
  function missing(text, clipAt = null) {
    const place = byId("missing");
    place.hidden = !text;
    place.replaceChildren(text);
    if (clipAt === null) return;
    const [from, to] = [clipAt, Math.min(clipAt + 60000, meta.until)].map(Math.round);
    place.append(Object.assign(document.createElement("a"), { className: "button main", href: `/take/${id}/stretch.mp4?from=${from}&to=${to}`, textContent: `Take ${Math.round((to - from) / 1000)} s as MP4` }));
  }
  function whyMissing(at) {
    const gap = meta.gaps.find(([from, to]) => at >= from && at < to);
    if (gap) return `Not recorded: ${gap[2]}`;
    if (meta.elsewhere) return `This show was recorded ${meta.elsewhere}. Its rows are here; run showmood page there to see it.`;
    return "The recording of this moment is no longer here; its rows are kept.";
  }

  Object.defineProperty(app, "date", { get: () => app.shown ?? app.player.date, set: (at) => { app.shown = at; } });
  app.go = (at, play) => {
    const there = meta.media.some(([from, to]) => at >= from - 50 && at < to + 50);
    // Segments newer than the last update are at the live edge.
    if (!there && meta.onAir && at > (meta.media.at(-1)?.[1] ?? Infinity)) return app.toLive();
    // A link begins a little before its moment, where nothing may be recorded yet.
    const next = there ? undefined : meta.media.find(([from]) => from > at && from - at <= 3000);
    if (next && !meta.gaps.some(([from, to]) => at >= from && at < to)) return app.go(next[0], play);
    const span = app.timeline.to - app.timeline.from;
    if (at < app.timeline.from || at > app.timeline.to) app.timeline.view(at - span / 2, at + span / 2);
    app.atEdge = false;
    byId("to-live").hidden = !meta.onAir;
    if (there) {
      missing("");
      app.shown = null;
      app.player.seek(at, { play, live: meta.onAir });
    } else {
      video.pause();
      app.shown = at;
      missing(whyMissing(at));
      app.boxes.draw(null);
      app.side.moment(at);
      playhead();
    }
    return undefined;
  };
  app.toLive = () => {
    app.shown = null;
    missing("");
    app.atEdge = true;
    byId("to-live").hidden = true;
    app.player.toLive();
    return undefined;
  };
  app.setTrack = (track, zoom) => {
    const known = lanes.tracks?.find((each) => each.track === track);
    app.track = known ? track : null;
    lanes.track = app.boxes.track = app.track;
    byId("track").value = known ? String(track) : "";
    byId("appearances").hidden = !known;
    app.timeline.override = null;
    if (known && zoom) app.timeline.view(known.first - (known.last - known.first) * 0.1 - 1000, known.last + (known.last - known.first) * 0.1 + 1000);
    app.side.trackCurve();
    writeSoon();
  };
  // A face that is lost and found again gets a new track, often the next one.
  app.appearance = (way) => {
    const tracks = lanes.tracks ?? [];
    const place = tracks.findIndex((each) => each.track === app.track);
    const next = tracks[place + way];
    if (next) { app.setTrack(next.track, true); app.go(next.first, !video.paused); }
  };
  app.do = {
    in: () => app.timeline.zoom(0.5, app.date ?? undefined), out: () => app.timeline.zoom(2, app.date ?? undefined), all: () => app.timeline.all(),
    raw: () => { app.timeline.raw = !app.timeline.raw; app.timeline.refresh(); },
    usual: async () => {
      app.timeline.showUsual = !app.timeline.showUsual;
      app.timeline.usual ??= await ask(`/data/show/${id}/usual`);
      app.timeline.applyShown();
      app.timeline.refresh();
    },
    boxes: () => { app.boxes.on = !app.boxes.on; app.boxes.draw(app.player.date); },
    mark: () => app.marks.here(app.date ?? meta.begin), unmark: () => app.marks.clear(), keep: () => app.marks.keep(),
    "zoom-mark": () => app.marks.zoom(), link: () => { writeState(app); copy(location.href); }, live: app.toLive,
    next: () => app.appearance(1), previous: () => app.appearance(-1), play: () => (video.paused ? video.play().catch(() => {}) : video.pause()),
  };
  app.press = async (name) => {
    await app.do[name]?.();
    const pressed = { raw: app.timeline.raw, usual: app.timeline.showUsual, boxes: app.boxes.on };
    for (const [each, on] of Object.entries(pressed)) document.querySelector(`[data-do="${each}"]`).setAttribute("aria-pressed", String(on));
    writeSoon();
  };
  document.addEventListener("click", (event) => { const button = event.target.closest("[data-do]"); if (button) app.press(button.dataset.do).catch((error) => tell(error.message)); });
  byId("track").addEventListener("change", (event) => app.setTrack(event.target.value ? Number(event.target.value) : null, true));
  byId("lanes").addEventListener("click", (event) => {
    const hit = lanes.hit(event.offsetX, event.offsetY);
    if (hit) { app.setTrack(hit.track, false); app.timeline.refresh(); }
    app.go(app.timeline.from + ((event.offsetX - app.timeline.left) / app.timeline.width) * (app.timeline.to - app.timeline.from), true);
  });
  keys(app);

  for (const name of EMOTIONS) if (state.off.includes(name)) app.timeline.off.add(name);
  app.timeline.applyShown();
  app.timeline.raw = state.raw;
  app.side.build();
  if (state.mark) app.marks.set(...state.mark);
  if (state.from) app.timeline.view(state.from, state.to);
  else app.timeline.all();
  if (state.usual) app.press("usual");
  if (meta.onAir) listen(app);
  byId("on-air").hidden = !meta.onAir;
  if (state.at) app.go(state.at, state.play);
  else if (meta.onAir) app.toLive();
  else if (meta.media.length) app.go(meta.media[0][0], false);
  else app.go(meta.begin, false);
  const tracks = await ask(`/data/show/${id}/tracks`);
  app.side.setTracks(tracks);
  if (state.track) app.setTrack(state.track, false);
  app.timeline.u.redraw(false);
  document.body.dataset.ready = "1";
}

begin().catch((error) => tell(error.message));
