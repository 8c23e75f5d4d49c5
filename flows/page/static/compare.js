// Shows of a channel in one chart, each from its beginning.
import { ask, tell } from "./frame.js";
import { SHOW_DASHES, token } from "./palette.js";

const place = document.getElementById("chart");
const COLOURS = ["accent", "anger", "disgust", "fear", "happiness"];
const day = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const zone = document.querySelector('[name="zone"]');
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (own && !new URLSearchParams(location.search).get("zone") && zone.value !== own) {
  const query = new URLSearchParams(location.search);
  query.set("zone", own);
  location.replace(`?${query}`);
}

for (const box of document.querySelectorAll('[name="show"]')) {
  box.addEventListener("change", () => {
    const many = document.querySelectorAll('[name="show"]:checked').length;
    if (many > 5) { box.checked = false; tell("Five shows at most"); }
  });
}
document.querySelector('[name="channel"]').addEventListener("change", () => {
  for (const box of document.querySelectorAll('[name="show"]')) box.checked = false;
});

async function draw() {
  const numbers = place.dataset.shows.split(",").filter(Boolean);
  if (!numbers.length || !window.uPlot) return;
  const shows = await ask(`/data/compare?emotion=${place.dataset.emotion}&${numbers.map((each) => `show=${each}`).join("&")}`);
  const last = Math.max(0, ...shows.flatMap((show) => show.minute));
  const minutes = Array.from({ length: last + 1 }, (_, minute) => minute);
  const columns = shows.map((show) => {
    const values = new Map(show.minute.map((minute, index) => [minute, show.share[index]]));
    return minutes.map((minute) => (values.has(minute) && values.get(minute) !== null ? values.get(minute) / 1000 : null));
  });
  let chart = null;
  const make = () => {
    chart?.destroy();
    const axis = { stroke: token("quiet"), grid: { stroke: token("line"), width: 1 }, ticks: { stroke: token("line"), width: 1, size: 5 }, font: "12px system-ui, sans-serif" };
    chart = new window.uPlot({
      width: place.clientWidth, height: 300, legend: { live: true },
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.min(1, Math.max(0.1, high * 1.1))] } },
      axes: [{ ...axis, size: 34, incrs: [1, 2, 5, 10, 15, 30, 60], values: (_, ticks) => ticks.map((tick) => `${tick} min`) }, { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`) }],
      series: [{ label: "minute" }, ...shows.map((show, index) => ({ label: day.format(show.began), stroke: token(COLOURS[index]), width: 2, dash: SHOW_DASHES[index], points: { show: last < 2 }, value: (_, value) => (value === null ? "–" : `${Math.round(value * 100)} %`) }))],
      cursor: { drag: { x: true, y: false } },
    }, [minutes, ...columns], place);
    chart.ctx.canvas.setAttribute("aria-hidden", "true");
  };
  make();
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 300 })).observe(place);
  document.addEventListener("theme", make);
}
draw().catch((error) => tell(error.message));
