// Plays the recording by dates, with hls.js, which has the dates of the fragments.
const HEVC = 'video/mp4; codecs="hvc1.1.6.L93.B0"';

export class Player {
  constructor(video, meta, { onDate, onProblem, onFine }) {
    Object.assign(this, { video, meta, id: meta.id, onDate, onProblem, onFine, hls: null, kind: null, wanted: null, date: null, frame: 0, reported: false });
    video.addEventListener("ended", () => {
      const next = /^part-/.test(this.kind) ? Number(this.kind.slice(5)) + 1 : meta.parts.length;
      if (next < meta.parts.length) this.open(`part-${next}`, meta.parts[next][0], true);
      else if (this.live) this.open("live", null, true);
    });
    if ("requestVideoFrameCallback" in video) this.#watch();
    else video.addEventListener("timeupdate", () => this.#shown(video.currentTime));
  }

  #watch() {
    this.video.requestVideoFrameCallback((_, frame) => {
      this.frame += 1;
      this.#shown(frame.mediaTime);
      this.#watch();
    });
  }

  #shown(mediaTime) {
    const date = this.dateOf(mediaTime);
    if (date === null) return;
    this.date = date;
    this.onDate(date);
  }

  get fragments() {
    return this.hls?.levels?.[0]?.details?.fragments ?? [];
  }

  #fragment(test) {
    let low = 0;
    let high = this.fragments.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const way = test(this.fragments[middle]);
      if (way === 0) return this.fragments[middle];
      if (way < 0) high = middle - 1;
      else low = middle + 1;
    }
    return null;
  }

  dateOf(time) {
    const found = this.#fragment((each) => (time < each.start - 0.001 ? -1 : time >= each.start + each.duration ? 1 : 0));
    return found?.programDateTime ? found.programDateTime + (time - found.start) * 1000 : null;
  }

  timeOf(date) {
    const found = this.#fragment((each) => (date < each.programDateTime ? -1 : date >= each.programDateTime + each.duration * 1000 ? 1 : 0));
    return found ? found.start + (date - found.programDateTime) / 1000 : null;
  }

  open(kind, date, play) {
    if (!window.Hls?.isSupported()) {
      this.onProblem("This browser can't play recordings.", date);
      return;
    }
    this.hls?.destroy();
    this.hls = null;
    const [, , form, hevc] = this.meta.parts.at(kind === "live" ? -1 : Number(kind.slice(5))) ?? [];
    // hls.js plays HEVC only from fMP4, if the browser has a decoder.
    if (hevc && (form === ".ts" || !MediaSource.isTypeSupported(HEVC))) {
      this.video.pause();
      this.video.removeAttribute("src");
      this.video.load();
      this.date = null;
      this.onProblem("The picture is HEVC, which this browser does not play.", date);
      return;
    }
    this.kind = kind;
    this.wanted = date === null ? null : { date, play };
    const hls = new window.Hls({
      enableWorker: true, workerPath: "/vendor/hls.worker.js", maxBufferLength: 20, backBufferLength: 40,
      startPosition: date === null ? -1 : this.#guess(kind, date), liveSyncDurationCount: 2, lowLatencyMode: false,
    });
    this.hls = hls;
    hls.loadSource(`/media/${this.id}/${kind}.m3u8`);
    hls.attachMedia(this.video);
    hls.on(window.Hls.Events.LEVEL_LOADED, () => {
      if (!this.wanted) { if (play) this.video.play().catch(() => {}); return; }
      const wanted = this.wanted;
      this.wanted = null;
      const time = this.timeOf(wanted.date);
      if (time !== null) this.#go(time, wanted.play);
    });
    hls.on(window.Hls.Events.FRAG_BUFFERED, () => {
      if (this.reported) this.onFine();
      this.reported = false;
    });
    hls.on(window.Hls.Events.ERROR, (_, problem) => {
      console.warn("recording:", problem.details, problem.fatal ? "(fatal)" : "", problem.reason ?? problem.error?.message ?? "");
      if (problem.details === "bufferAddCodecError" || problem.details === "manifestIncompatibleCodecsError" || problem.details === "bufferIncompatibleCodecsError") {
        this.onProblem("This browser does not play the recording's picture or sound.", this.date ?? date);
      } else if (problem.fatal && problem.type === "mediaError") hls.recoverMediaError();
      else if (problem.response?.code >= 400) this.#tell(hls, problem, kind, date);
      else if (problem.fatal) setTimeout(() => { if (this.hls === hls) this.open(kind, this.date, !this.video.paused); }, 3000);
    });
  }

  // Show the server's error for a segment that it refuses; hls.js tries again, and after its last
  // try the user can.
  async #tell(hls, problem, kind, date) {
    const answer = await fetch(problem.frag?.url ?? `/media/${this.id}/${kind}.m3u8`).catch(() => null);
    const { why = "" } = answer?.ok === false ? await answer.json().catch(() => ({})) : {};
    if (this.hls !== hls || answer?.ok) return;
    this.reported = true;
    this.onProblem(why, null);
    if (!problem.fatal) return;
    this.date ??= date;
    this.destroy();
  }

  // The position of a moment in a part before its playlist is loaded: the recorded time before it.
  #guess(kind, date) {
    const [begin, end] = this.meta.parts[Number(kind.slice(5))] ?? [0, 0];
    let time = 0;
    for (const [from, to] of this.meta.media) {
      if (to > begin && from < end) time += Math.max(0, Math.min(date, to, end) - Math.max(from, begin));
    }
    return time / 1000;
  }

  #go(time, play) {
    const go = () => {
      this.video.currentTime = time;
      if (play) this.video.play().catch(() => {});
    };
    if (this.video.readyState >= 1) go();
    else this.video.addEventListener("loadedmetadata", go, { once: true });
  }

  // Show a moment; `live`: the show is on air, and its newest segments have a playlist of their own.
  seek(date, { play = !this.video.paused, live = false } = {}) {
    const time = this.hls ? this.timeOf(date) : null;
    if (time !== null) this.#go(time, play);
    else this.open(`part-${Math.max(0, this.meta.parts.findLastIndex(([from]) => from <= date))}`, date, play);
    this.live = live;
  }

  toLive() {
    this.live = true;
    this.open("live", null, true);
  }

  destroy() {
    this.hls?.destroy();
    this.hls = null;
  }
}
