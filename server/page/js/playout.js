/** When to show what arrives: one clock for sound and picture, and each track's groups in their order. */

const FIRST_DELAY_MS = 60;
const SHORTEST_DELAY_MS = 30;
const LONGEST_DELAY_MS = 1000; // who is later than that is skipped rather than waited for
const MARGIN_MS = 15; // decoding, and a turn of the page's event loop
const JOINING_MS = 1000; // what was kept for who joins comes first, and is old: it says nothing of the way here
const WINDOW_MS = 5000; // for so long an arrival counts
const SETTLE_MS = 100; // between two looks at all that count
const IN_TIME = 0.98; // of all that arrives: waiting for the slowest of all would have everyone wait for one stall
const ASTRAY_MS = 10_000; // a publisher's clock that jumped further was set anew
const MAX_GROUPS = 24; // that wait; the server has as many under way

/**
 * Maps a publisher's timestamps to this device's `performance.now()`, all in ms. The fastest arrivals of the last
 * seconds say how the two clocks stand; how far the others were behind them says how long to wait for the slow ones.
 */
export class PlayoutClock {
  /** @type {{at: number, lag: number}[]} */ #arrivals = [];
  #fastest = Infinity;
  #settledAt = -Infinity;
  #joinedAt = -Infinity;
  delay = FIRST_DELAY_MS;

  /** A track begins. */
  joins(now = performance.now()) {
    this.#joinedAt = now;
  }

  /** Learn from what has arrived whole. */
  arrived(timestamp, now = performance.now()) {
    const lag = now - timestamp;
    if (Math.abs(lag - this.#fastest) > ASTRAY_MS) {
      this.#arrivals = [];
      this.#fastest = lag;
      this.#settledAt = -Infinity;
    }
    this.#fastest = Math.min(this.#fastest, lag);
    if (now - this.#joinedAt < JOINING_MS) return;
    this.#arrivals.push({ at: now, lag });
    if (now - this.#settledAt >= SETTLE_MS) this.#settle(now);
  }

  /** When to show it. */
  due(timestamp) {
    return this.#fastest === Infinity ? performance.now() : timestamp + this.#fastest + this.delay;
  }

  #settle(now) {
    this.#settledAt = now;
    this.#arrivals = this.#arrivals.filter(({ at }) => now - at <= WINDOW_MS);
    const lags = this.#arrivals.map(({ lag }) => lag).sort((one, other) => one - other);
    this.#fastest = lags[0];
    const spread = lags[Math.floor(lags.length * IN_TIME)] - lags[0];
    this.delay = Math.min(LONGEST_DELAY_MS, Math.max(SHORTEST_DELAY_MS, spread + MARGIN_MS));
  }
}

/**
 * Passes a track's frames on in the order of its groups. A group that is overtaken is waited for until the next one is
 * due, then given up: what was lost on the way costs a stutter, never the rest.
 */
export class GroupOrder {
  /** @type {{sequence: number, frames: Uint8Array[], isOver: boolean, isFirst: boolean, source: AsyncGenerator<Uint8Array>}[]} */
  #groups = [];
  #next = -1;
  skipped = 0;

  /**
   * @param {(frame: Uint8Array, isFirst: boolean) => void} take `isFirst` of its group
   * @param {(frame: Uint8Array) => boolean} isDue
   */
  constructor(take, isDue) {
    this.take = take;
    this.isDue = isDue;
  }

  /** @param {number} sequence @param {AsyncGenerator<Uint8Array>} source @param {(frame: Uint8Array) => void} arrived */
  async add(sequence, source, arrived) {
    if (sequence < this.#next) return void source.return(undefined).catch(() => {});
    const group = { sequence, frames: [], isOver: false, isFirst: true, source };
    this.#groups = [...this.#groups, group].sort((one, other) => one.sequence - other.sequence);
    if (this.#groups.length > MAX_GROUPS) this.#giveUp();
    try {
      for await (const frame of source) {
        arrived(frame);
        group.frames.push(frame);
        this.#passOn();
      }
    } catch {
      // Reset, or the session has ended: what came of it is shown.
    }
    group.isOver = true;
    this.#passOn();
  }

  /** Pass nothing on any more. */
  end() {
    this.#next = Infinity;
    for (const group of this.#groups.splice(0)) group.source.return(undefined).catch(() => {});
  }

  #passOn() {
    while (this.#groups.length) {
      const [group, later] = this.#groups;
      const isExpected = this.#next === -1 || group.sequence === this.#next;
      if (group.frames.length && (isExpected || this.isDue(group.frames[0]))) {
        this.#next = group.sequence;
        this.take(group.frames.shift(), group.isFirst);
        group.isFirst = false;
      } else if (isExpected && group.isOver) {
        this.#groups.shift();
        this.#next = group.sequence + 1;
      } else if (later?.frames.length && this.isDue(later.frames[0])) this.#giveUp();
      else return;
    }
  }

  #giveUp() {
    const group = this.#groups.shift();
    if (!group.isOver) this.skipped++;
    this.#next = group.sequence + 1;
    group.source.return(undefined).catch(() => {});
  }
}
