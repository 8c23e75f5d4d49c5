// A show's numbers: each chunk is fetched once, and kept.
import { ask } from "./frame.js";
import { EMOTIONS } from "./palette.js";

const SPANS_S = { 60: 86400, 10: 3600, 1: 300 };
const FACES_MS = 30000;

export class Numbers {
  constructor(id) {
    this.id = id;
    this.chunks = new Map();
    this.until = Infinity;
    this.fresh = { at: [], faces: [], share: Object.fromEntries(EMOTIONS.map((name) => [name, []])), raw: Object.fromEntries(EMOTIONS.map((name) => [name, []])) };
  }

  #get(key, url) {
    const known = this.chunks.get(key);
    if (known && known.body) return known;
    if (known) return known;
    const entry = { body: null, promise: null };
    entry.promise = ask(url).then((body) => { entry.body = body; return body; }, (error) => { this.chunks.delete(key); throw error; });
    this.chunks.set(key, entry);
    return entry;
  }

  forget(since) {
    for (const key of this.chunks.keys()) {
      const [step, index] = key.split("/").map(Number);
      const span = Number.isNaN(step) ? FACES_MS : SPANS_S[step] * 1000;
      if ((index + 1) * span > since) this.chunks.delete(key);
    }
  }

  static step(spanMs) {
    return spanMs > 6 * 3600e3 ? 60 : spanMs > 12 * 60e3 ? 10 : 1;
  }

  async load(step, from, to) {
    const span = SPANS_S[step] * 1000;
    const wanted = [];
    for (let index = Math.floor(from / span); index * span < to; index += 1) {
      wanted.push(this.#get(`${step}/${index}`, `/data/show/${this.id}/${step}/${index}`));
    }
    await Promise.all(wanted.map((entry) => entry.promise));
  }

  has(step, from, to) {
    const span = SPANS_S[step] * 1000;
    for (let index = Math.floor(from / span); index * span < to; index += 1) {
      if (!this.chunks.get(`${step}/${index}`)?.body) return false;
    }
    return true;
  }

  // Times (ms), faces and shares (0 to 1) in [from, to), in order; null at a break.
  columns(step, from, to, kind = "share") {
    const span = SPANS_S[step] * 1000;
    const out = { at: [], faces: [], share: EMOTIONS.map(() => []) };
    const half = step * 500;
    let last = -Infinity;
    const add = (at, faces, shares) => {
      if (at < from - span || at > to + span || at <= last) return;
      if (at - last > step * 2500 && last > 0) {
        out.at.push(last + half * 2);
        out.faces.push(null);
        out.share.forEach((column) => column.push(null));
      }
      out.at.push(at);
      out.faces.push(faces);
      shares.forEach((value, place) => out.share[place].push(value === null || value === undefined ? null : value / 1000));
      last = at;
    };
    for (let index = Math.floor(from / span); index * span < to; index += 1) {
      const body = this.chunks.get(`${step}/${index}`)?.body;
      if (!body) continue;
      body.at.forEach((at, place) => add(body.start + at + half, body.faces[place], EMOTIONS.map((name) => body[kind][name][place])));
    }
    if (step === 1) {
      this.fresh.at.forEach((at, place) => add(at + half, this.fresh.faces[place], EMOTIONS.map((name) => this.fresh[kind][name][place])));
    }
    return out;
  }

  append(seconds) {
    const known = this.fresh;
    const newest = known.at.length ? known.at[known.at.length - 1] : -Infinity;
    seconds.at.forEach((at, place) => {
      if (seconds.start + at <= newest) return;
      known.at.push(seconds.start + at);
      known.faces.push(seconds.faces[place]);
      for (const kind of ["share", "raw"]) EMOTIONS.forEach((name) => known[kind][name].push(seconds[kind][name][place]));
    });
  }

  faces(at) {
    const index = Math.floor(at / FACES_MS);
    const key = `faces/${index}`;
    const known = this.chunks.get(key);
    // On air a chunk grows: it is fetched again when there is more.
    if (known?.body && known.until < (index + 1) * FACES_MS && at > known.until - 500 && this.until > known.until + 500) {
      known.until = this.until;
      ask(`/data/show/${this.id}/faces/${index}`).then((body) => { known.body = body; }, () => {});
    }
    const entry = this.#get(key, `/data/show/${this.id}/faces/${index}`);
    entry.until ??= this.until;
    return entry;
  }

  async facesBetween(from, to) {
    const wanted = [];
    for (let at = from; at < to + FACES_MS; at += FACES_MS) wanted.push(this.faces(at).promise);
    return Promise.all(wanted);
  }
}
