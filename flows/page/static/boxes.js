// Boxes over the picture: those of the frame that is shown, moved between two analysed moments.
import { DASHES, EMOTIONS, colours } from "./palette.js";

const REACH_MS = 400;

export class Boxes {
  constructor(canvas, video, numbers, size) {
    Object.assign(this, { canvas, video, numbers, size, on: true, track: null, drawn: [] });
    this.palette = colours();
    document.addEventListener("theme", () => { this.palette = colours(); });
  }

  // The faces at a moment: of the analysed moment before it, on their way to the one after.
  at(date) {
    const entry = this.numbers.faces(date);
    this.numbers.faces(date + 15000).promise.catch(() => {});
    const body = entry.body;
    if (!body) {
      // A paused picture is not drawn again by itself.
      entry.promise.then(() => { if (this.date === date) this.draw(date); }, () => {});
      return [];
    }
    const offset = date - body.start;
    const { at } = body;
    let low = 0;
    let high = at.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (at[middle] <= offset + 1) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return [];
    const moment = at[low - 1];
    if (offset - moment > REACH_MS) return [];
    let first = low - 1;
    while (first > 0 && at[first - 1] === moment) first -= 1;
    const following = new Map();
    for (let next = low; next < at.length && at[next] === at[low]; next += 1) following.set(body.track[next], next);
    const found = [];
    for (let place = first; place < low; place += 1) {
      let box = body.box[place];
      const next = following.get(body.track[place]);
      if (next !== undefined && at[next] - moment <= REACH_MS) {
        const part = (offset - moment) / (at[next] - moment);
        box = box.map((value, side) => value + (body.box[next][side] - value) * part);
      }
      let best = 0;
      EMOTIONS.forEach((name, index) => { if ((body.share[name][place] ?? -1) > (body.share[EMOTIONS[best]][place] ?? -1)) best = index; });
      found.push({ track: body.track[place], box, emotion: EMOTIONS[best], share: (body.share[EMOTIONS[best]][place] ?? 0) / 1000, at: body.start + moment });
    }
    return found;
  }

  draw(date) {
    this.date = date;
    const { canvas, video } = this;
    const ratio = window.devicePixelRatio;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(wide * ratio)) canvas.width = Math.round(wide * ratio);
    if (canvas.height !== Math.round(high * ratio)) canvas.height = Math.round(high * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, wide, high);
    this.drawn = this.on && date !== null ? this.at(date) : [];
    this.onDrawn?.(date);
    if (!this.drawn.length || !video.videoWidth) return;
    const source = this.size ?? [video.videoWidth, video.videoHeight];
    const scale = Math.min(wide / source[0], high / source[1]);
    const [left, top] = [(wide - source[0] * scale) / 2, (high - source[1] * scale) / 2];
    pen.font = "600 12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const face of this.drawn) {
      const [x, y, w, h] = face.box.map((value) => value * scale);
      const colour = this.palette[face.emotion];
      pen.globalAlpha = this.track !== null && face.track !== this.track ? 0.35 : 1;
      pen.lineWidth = 4;
      pen.setLineDash([]);
      pen.strokeStyle = "#000a";
      pen.strokeRect(left + x, top + y, w, h);
      pen.lineWidth = 2;
      pen.setLineDash(DASHES[face.emotion]);
      pen.strokeStyle = colour;
      pen.strokeRect(left + x, top + y, w, h);
      pen.setLineDash([]);
      const label = `${face.track}  ${face.emotion} ${Math.round(face.share * 100)} %`;
      const width = pen.measureText(label).width + 12;
      const above = top + y > 20 ? top + y - 19 : top + y + h + 1;
      const from = Math.min(Math.max(0, left + x - 1), wide - width);
      pen.fillStyle = "#10141ae0";
      pen.fillRect(from, above, width, 18);
      pen.fillStyle = colour;
      pen.fillRect(from, above, 3, 18);
      pen.fillStyle = "#fff";
      pen.fillText(label, from + 8, above + 9.5);
    }
    pen.globalAlpha = 1;
  }
}
