// Beside the picture: what one second shows, which emotions are drawn, and the tracks to choose.
import { DASHES, EMOTIONS } from "./palette.js";
import { clockOf } from "./frame.js";

const byId = (id) => document.getElementById(id);

export class Side {
  constructor(app) { this.app = app; }

  build() {
    const { timeline } = this.app;
    byId("shares").replaceChildren(...EMOTIONS.map((name) => {
      const button = document.createElement("button");
      button.className = `e-${name}`;
      button.dataset.emotion = name;
      button.setAttribute("aria-pressed", String(!timeline.off.has(name)));
      button.innerHTML = `<svg viewBox="0 0 26 10" aria-hidden="true"><path d="M0 5H26" stroke-dasharray="${DASHES[name].join(" ")}"/></svg><span>${name}</span><span class="bar"><i></i></span><span class="value num">–</span>`;
      button.addEventListener("click", () => this.toggle(name));
      return button;
    }));
  }

  toggle(name) {
    const { timeline } = this.app;
    timeline.toggle(name);
    document.querySelector(`[data-emotion="${name}"]`).setAttribute("aria-pressed", String(!timeline.off.has(name)));
    this.app.writeSoon();
  }

  moment(date) {
    if (this.hovering) return;
    byId("clock").textContent = clockOf(date);
    byId("timeline").setAttribute("aria-valuenow", String(Math.round(date / 1000)));
    byId("timeline").setAttribute("aria-valuetext", clockOf(date));
    const faces = this.app.boxes.on && this.app.player.date === date ? this.app.boxes.drawn.length : null;
    const place = this.app.timeline.near(date);
    this.#show(place, faces);
  }

  hover(place) {
    this.hovering = place !== null;
    const { columns } = this.app.timeline;
    if (place === null || !columns?.at.length) {
      if (this.app.date) this.moment(this.app.date);
      return;
    }
    byId("clock").textContent = clockOf(columns.at[place]);
    this.#show(place, null);
    const gap = this.app.meta.gaps.find(([from, to]) => columns.at[place] >= from && columns.at[place] < to);
    if (gap) byId("faces").textContent = gap[2];
  }

  #show(place, faces) {
    const { columns } = this.app.timeline;
    const many = faces ?? (place === null ? null : columns.faces[place]);
    byId("faces").textContent = many === null || many === undefined ? "" : `${many} face${many === 1 ? "" : "s"}`;
    EMOTIONS.forEach((name, index) => {
      const value = place === null ? null : columns.share[index][place];
      const button = document.querySelector(`[data-emotion="${name}"]`);
      button.querySelector(".value").textContent = value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`;
      button.querySelector("i").style.width = `${Math.round((value ?? 0) * 100)}%`;
    });
  }

  setTracks(tracks) {
    this.app.lanes.setTracks(tracks);
    const options = tracks.track.map((track, place) => new Option(`${track} · ${tracks.emotion[place] ?? "?"} · ${clockOf(tracks.first[place])}`, String(track)));
    byId("track").replaceChildren(new Option("all faces", ""), ...options);
  }

  // The chosen track's own curve, if the visible range is short enough to load every face.
  async trackCurve() {
    const { app } = this;
    const { timeline, lanes, track } = app;
    const known = lanes.tracks?.find((each) => each.track === track);
    if (!known) {
      timeline.override = null;
      timeline.refresh();
      return;
    }
    const from = Math.max(known.first, timeline.from - 60000);
    const to = Math.min(known.last, timeline.to + 60000);
    if (to - from > 600000 || to <= from) {
      timeline.refresh();
      return;
    }
    const chunks = await app.numbers.facesBetween(from, to);
    if (app.track !== track) return;
    const out = { at: [], faces: [], share: EMOTIONS.map(() => []) };
    for (const body of chunks) {
      body.track.forEach((each, place) => {
        const at = body.start + body.at[place];
        if (each !== track || at < from || at > to) return;
        out.at.push(at);
        out.faces.push(1);
        EMOTIONS.forEach((name, index) => out.share[index].push(body.share[name][place] === null ? null : body.share[name][place] / 1000));
      });
    }
    timeline.override = out;
    timeline.refresh();
  }
}
