/* One observer, one tab. Tabs speak through a key of localStorage: a change of it reaches every other tab at once, also
   where the page was opened as a file or is served without TLS. */
"use strict";

sweep.Tab = class {
  /** `lost` is called when another tab takes the study over. */
  constructor(memory, lost) {
    this.memory = memory;
    this.lost = lost;
    this.id = sweep.random(8);
    this.state = "idle";
    addEventListener("storage", (event) => {
      if (event.key === `${memory.prefix}tab` && event.newValue) this.hear(JSON.parse(event.newValue));
    });
    // A page that comes back by the back button may find that another tab has the study by now.
    addEventListener("pageshow", (event) => {
      if (event.persisted && this.state === "active") this.claim().then((free) => free || this.lose());
    });
  }

  say(kind) {
    // The number makes every message a change, and so an event.
    this.memory.set("tab", { kind, from: this.id, number: sweep.random(4) });
  }

  hear({ kind, from }) {
    if (from === this.id) return;
    if (kind === "ask" && (this.state === "active" || (this.state === "asking" && this.id < from))) {
      this.say("taken");
    } else if (kind === "taken" && this.state === "asking") {
      this.state = "refused";
    } else if (kind === "take" && this.state !== "idle") {
      this.lose();
    }
  }

  lose() {
    if (this.state === "lost") return;
    this.state = "lost";
    this.lost();
  }

  /** Whether no other tab has the study; then it is ours. */
  async claim() {
    this.state = "asking";
    this.say("ask");
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (this.state === "asking") this.state = "active";
    return this.state === "active";
  }

  /** Take the study from whichever tab has it. */
  take() {
    this.state = "active";
    this.say("take");
  }
};
