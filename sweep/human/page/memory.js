/* What the page keeps in the browser, so that a reload loses nothing: localStorage, or mere memory where it is forbidden
   (a sandboxed frame, some private windows). Each thing has a key of its own, so that two tabs cannot overwrite each other. */
"use strict";

window.sweep = {};

sweep.Memory = class {
  constructor(prefix) {
    this.prefix = `${prefix}/`;
    try {
      localStorage.setItem(`${this.prefix}probe`, "1");
      localStorage.removeItem(`${this.prefix}probe`);
      this.lasting = true;
    } catch {
      this.lasting = false;
    }
    this.inMemory = new Map();
  }

  /** The value under `key`, or null. */
  get(key) {
    const text = this.inMemory.get(key) ?? (this.lasting ? localStorage.getItem(this.prefix + key) : null);
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  set(key, value) {
    const text = JSON.stringify(value);
    try {
      if (!this.lasting) throw new Error("no storage");
      localStorage.setItem(this.prefix + key, text);
      this.inMemory.delete(key);
    } catch {
      this.inMemory.set(key, text); // forbidden, or full
    }
  }

  remove(key) {
    this.inMemory.delete(key);
    if (this.lasting) localStorage.removeItem(this.prefix + key);
  }

  /** Keys that begin with `start`. */
  keys(start) {
    const stored = this.lasting ? Object.keys(localStorage) : [];
    const own = stored.filter((key) => key.startsWith(this.prefix)).map((key) => key.slice(this.prefix.length));
    return [...new Set([...own, ...this.inMemory.keys()])].filter((key) => key.startsWith(start));
  }
};

/** Hexadecimal digits of `bytes` random bytes. crypto.randomUUID does not exist on a page served without TLS. */
sweep.random = (bytes) =>
  [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
