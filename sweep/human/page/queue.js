/* Answers on their way. Each is kept in the browser under a key of its own from the moment it is given, and counts as stored
   only once the other side has acknowledged it. */
"use strict";

/** Answers in one request; a beacon may have 64 KiB. */
sweep.BATCH = 50;
/** Milliseconds between tries: doubling from the first to the longest, with some chance so that observers spread out. */
sweep.FIRST_WAIT = 500;
sweep.LONGEST_WAIT = 8000;

sweep.Queue = class {
  /** `changed` is called when an answer was added, stored or refused. */
  constructor(memory, exit, changed) {
    Object.assign(this, { memory, exit, changed });
    this.waiting = new Map(); // by key, in the order in which they were given
    this.refused = new Map();
    this.failures = 0;
    this.timer = null;
    this.busy = false;
    for (const key of memory.keys("answer/")) {
      const { line, stored } = memory.get(key) ?? { stored: true };
      if (!stored) this.waiting.set(key, line);
    }
    addEventListener("online", () => this.now());
    addEventListener("pagehide", () => this.beacon());
    document.addEventListener("visibilitychange", () => document.hidden && this.beacon());
    this.schedule(0);
  }

  static key(session_id, trial_id) {
    return `answer/${session_id}/${trial_id}`;
  }

  add(line) {
    const key = sweep.Queue.key(line.session_id, line.trial_id);
    if (this.memory.get(key)) return; // answered, in this tab or another
    this.memory.set(key, { line, stored: false });
    this.waiting.set(key, line);
    this.changed();
    this.schedule(0);
  }

  /** One timer: while it waits after a failure, further answers join the queue and do not hurry it. */
  schedule(wait) {
    if (this.stopped || this.timer !== null || this.busy || this.waiting.size === 0) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.send();
    }, wait);
  }

  /** Try at once, as when the network is back. */
  now() {
    clearTimeout(this.timer);
    this.timer = null;
    this.schedule(0);
  }

  async send() {
    this.busy = true;
    const batch = this.batch();
    try {
      await this.exit.send(batch.map(([, line]) => line));
      this.failures = 0;
      for (const [key, line] of batch) {
        this.memory.set(key, { line, stored: true });
        this.waiting.delete(key);
      }
    } catch (error) {
      this.failures += 1;
      if (error?.final) {
        for (const [key, line] of batch) {
          this.waiting.delete(key);
          this.refused.set(key, line);
        }
      }
    }
    this.busy = false;
    this.changed();
    const wait = Math.min(sweep.FIRST_WAIT * 2 ** (this.failures - 1), sweep.LONGEST_WAIT);
    this.schedule(this.failures ? wait * (0.75 + Math.random() / 2) : 0);
  }

  /** The first answers that wait, of one session: an earlier observer's may be among them. */
  batch() {
    const entries = [...this.waiting];
    const session = entries[0]?.[1].session_id;
    return entries.filter(([, line]) => line.session_id === session).slice(0, sweep.BATCH);
  }

  beacon() {
    if (!this.stopped && this.waiting.size > 0) this.exit.beacon(this.batch().map(([, line]) => line));
  }

  /** All answers of a session that this browser has, in order. */
  lines(session_id) {
    const kept = this.memory.keys(`answer/${session_id}/`).map((key) => this.memory.get(key)?.line);
    return kept.filter(Boolean).sort((one, other) => one.position - other.position);
  }

  /** Ids of the answered trials of a session, whether stored yet or not. */
  answered(session_id) {
    const start = `answer/${session_id}/`;
    return new Set(this.memory.keys(start).map((key) => key.slice(start.length)));
  }

  /** Notes trials that the server has answers of and this browser has not. */
  know(session_id, trial_ids) {
    for (const trial_id of trial_ids) {
      const key = sweep.Queue.key(session_id, trial_id);
      if (!this.memory.get(key)) this.memory.set(key, { line: null, stored: true });
    }
  }

  /** Sends everything of a session again: the server lacks what it had acknowledged. */
  again(session_id) {
    for (const line of this.lines(session_id)) this.waiting.set(sweep.Queue.key(session_id, line.trial_id), line);
    this.schedule(0);
  }

  forget(session_id) {
    for (const key of this.memory.keys(`answer/${session_id}/`)) this.memory.remove(key);
  }

  /** Another tab goes on; it has found the waiting answers in the browser's storage. */
  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }
};
