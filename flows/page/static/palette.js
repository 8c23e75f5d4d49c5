// Emotions: their order, colours (from tokens.css) and dashes.
export const EMOTIONS = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"];
export const DASHES = {
  neutral: [2, 3], happiness: [], surprise: [8, 3], sadness: [4, 2], anger: [], disgust: [10, 3, 2, 3], fear: [6, 2, 2, 2], contempt: [3, 3],
};
export const SHOW_DASHES = [[], [8, 3], [3, 3], [10, 3, 2, 3], [2, 2]];

export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function colours() {
  return Object.fromEntries(EMOTIONS.map((name) => [name, token(name)]));
}

export function hatch(context, colour) {
  const tile = document.createElement("canvas");
  const size = 8 * devicePixelRatio;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 1.4 * devicePixelRatio;
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}
