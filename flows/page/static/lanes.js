// Below the curves, on the same time axis: what is on disk, and a bar for each face.
import { colours, hatch, token } from "./palette.js";

const STRIP = 18;
const ROW = 17;
const MOST_ROWS = 8;

export class Lanes {
  constructor(canvas, meta) {
    Object.assign(this, { canvas, meta, tracks: null, rows: [], track: null, hits: [] });
  }

  setTracks(tracks) {
    this.tracks = tracks.track.map((track, place) => ({ track, first: tracks.first[place], last: tracks.last[place], emotion: tracks.emotion[place] }));
    this.cuts = tracks.cuts;
    const ends = [];
    for (const each of this.tracks) {
      let row = ends.findIndex((end) => end < each.first - 200);
      if (row < 0) { row = ends.length; ends.push(0); }
      ends[row] = each.last;
      each.row = row;
    }
    this.nRows = Math.min(MOST_ROWS, ends.length);
  }

  // left, width: of the curves' area, in CSS pixels.
  draw(from, to, left, width) {
    const { canvas, meta } = this;
    const ratio = window.devicePixelRatio;
    const high = STRIP + (this.nRows ?? 2) * ROW + 6;
    canvas.style.height = `${high}px`;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(high * ratio);
    const pen = canvas.getContext("2d");
    const x = (at) => left + ((at - from) / (to - from)) * width;
    pen.scale(ratio, ratio);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width, high);
    pen.clip();
    pen.fillStyle = hatch(pen, token("quiet"));
    pen.globalAlpha = 0.45;
    pen.fillRect(x(meta.begin), 3, x(meta.until) - x(meta.begin), 8);
    pen.globalAlpha = 1;
    for (const [begin, end] of meta.media) {
      pen.fillStyle = token("card");
      pen.fillRect(x(begin), 3, Math.max(1, x(end) - x(begin)), 8);
      pen.fillStyle = token("accent");
      pen.globalAlpha = 0.75;
      pen.fillRect(x(begin), 4, Math.max(1, x(end) - x(begin)), 6);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = token("happiness");
    for (const [, begin, end] of meta.kept) pen.fillRect(x(begin), 12, Math.max(2, x(end) - x(begin)), 3);
    pen.fillStyle = token("quiet");
    const close = (this.cuts ?? []).filter((at) => at >= from && at <= to);
    if (close.length < width / 4) for (const at of close) pen.fillRect(x(at), 0, 1, 14);
    const palette = colours();
    this.hits = [];
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const each of this.tracks ?? []) {
      if (each.row >= MOST_ROWS || each.last < from || each.first > to) continue;
      const begin = x(each.first);
      const wide = Math.max(2, x(each.last) - begin);
      const top = STRIP + each.row * ROW;
      pen.globalAlpha = this.track !== null && this.track !== each.track ? 0.3 : 1;
      pen.fillStyle = palette[each.emotion] ?? token("line");
      pen.beginPath();
      pen.roundRect(begin, top, wide, ROW - 4, 3);
      pen.fill();
      if (wide > 22) {
        pen.fillStyle = token("card");
        pen.fillText(String(each.track), Math.max(begin, left) + 5, top + (ROW - 4) / 2 + 0.5);
      }
      this.hits.push({ ...each, left: begin, right: begin + wide, top, bottom: top + ROW - 2 });
    }
    pen.restore();
  }

  hit(x, y) {
    return this.hits.find((each) => x >= each.left - 2 && x <= each.right + 2 && y >= each.top && y <= each.bottom) ?? null;
  }
}
