/* The course of a session: whose it is, consent, practice, blocks, and the end. */
"use strict";

/** Seconds that a choice takes, for the estimate on the first page. */
sweep.CHOICE_S = 4;
sweep.sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Ids in the address, which is then stripped of them, so that they reach no history and no referrer. */
sweep.takeParameters = () => {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(window.jatos?.urlQueryParameters ?? {})) given.set(name, value);
  const id = (kind, name) => (given.get(name) ? `${kind}:${given.get(name)}`.slice(0, 200) : null);
  try {
    history.replaceState(null, "", location.pathname);
  } catch {
    // a sandboxed frame, or a file
  }
  const code = given.get("observer") ?? "";
  return {
    observer: id("prolific", "PROLIFIC_PID") ?? id("mturk", "workerId"),
    code: /^[A-Za-z0-9_-]{1,64}$/.test(code) ? code : null,
    wanted: given.get("list"),
    language: given.get("lang"),
    preview: given.get("assignmentId") === "ASSIGNMENT_ID_NOT_AVAILABLE",
  };
};

sweep.Experiment = class {
  constructor(exit) {
    this.exit = exit;
    this.given = sweep.takeParameters();
    this.memory = new sweep.Memory(`sweep-human/${EXPERIMENT.experiment_id}`);
    this.tab = new sweep.Tab(this.memory, () => this.lost());
    this.stop = new AbortController();
    this.place = document.getElementById("screen");
    this.speak(this.given.language ?? navigator.language);
  }

  // Words ----------------------------------------------------------------------------------------------------------

  speak(wanted) {
    const languages = Object.keys(TEXTS);
    const language = languages.find((name) => name === String(wanted).slice(0, 2)) ?? languages[0];
    const trials = EXPERIMENT.lists[0].length;
    const minutes = Math.ceil((trials * sweep.CHOICE_S) / 60);
    this.words = new sweep.Words(language, { contact: EXPERIMENT.contact, trials, minutes });
    document.documentElement.lang = language;
    document.title = this.words.say("title");
  }

  screen(heading, paragraphs = [], more = {}) {
    const text = paragraphs.map((part) => (typeof part === "string" ? this.words.say(part, this.counts()) : part));
    return sweep.screen(this.place, { heading: this.words.say(heading), paragraphs: text.flat(), ...more });
  }

  counts() {
    if (!this.session?.list) return {};
    const trials = this.trials();
    const practice = trials.filter((trial) => trial.block === 0).length;
    return { all: trials.length, done: this.queue.answered(this.session.session_id).size, practice };
  }

  // The session ----------------------------------------------------------------------------------------------------

  async run() {
    if (this.given.preview) return this.screen("preview_heading", ["preview"]);
    if (!(await this.tab.claim())) {
      await this.screen("taken_heading", ["taken"], { buttons: [[this.words.say("take"), true]] });
      this.tab.take();
    }
    this.queue = new sweep.Queue(this.memory, this.exit, () => this.report());
    const ended = this.endedHere();
    if (ended) return this.thank(ended);
    if (!(await this.resume())) {
      if (!(await this.consent())) return this.screen("declined_heading", ["declined"]);
    }
    if (!this.session.begun && !(await this.begin())) return undefined;
    this.showProgress();
    await this.work();
    return this.stop.signal.aborted ? undefined : this.end();
  }

  /** Takes up the session that this browser has, if it is this observer's. */
  async resume() {
    const kept = this.memory.get("session");
    if (!kept) return false;
    const named = this.given.observer ?? this.given.code;
    const same = named ? named === (kept.observer ?? kept.code) : this.ofThisTab() === kept.session_id;
    if (named && !same) return false;
    this.session = kept;
    this.speak(this.given.language ?? kept.language);
    if (!same) {
      const buttons = [[this.words.say("open_mine"), true], [this.words.say("open_new"), false]];
      if (!(await this.screen("open_heading", ["open"], { buttons }))) {
        // Without a server nobody else has these answers.
        if (this.exit.name === "file") this.saveFile();
        this.session = null;
        return false;
      }
    }
    this.markTab();
    this.resumed = Boolean(kept.begun);
    return true;
  }

  async consent() {
    for (;;) {
      const { words } = this;
      const others = Object.keys(TEXTS).filter((name) => name !== words.language);
      const languages = others.map((name) => {
        const button = sweep.element("button", { type: "button", lang: name, class: "language" }, TEXTS[name].language);
        button.addEventListener("click", () => (this.speak(name), chosen()));
        return button;
      });
      let chosen;
      const changed = new Promise((resolve) => (chosen = () => resolve("language")));
      const row = sweep.element("div", { class: "languages" }, ...languages);
      const buttons = [[words.say("agree"), "yes"], [words.say("decline"), "no"]];
      const question = sweep.element("p", { class: "question" }, words.say("consent_question"));
      const page = this.screen("consent_heading", [row, "consent", question], { buttons });
      const said = await Promise.race([page, changed]);
      if (said === "language") continue;
      if (said === "no") return false;
      break;
    }
    const consented = new Date().toISOString();
    let { observer, code } = this.given;
    if (!observer && !code && this.exit.name !== "jatos") {
      const form = sweep.codeField(this.words);
      await this.screen("code_heading", ["code_text"], { form, buttons: [[this.words.say("next"), true]] });
      code = form.value() || null;
    }
    const { wanted } = this.given;
    const language = this.words.language;
    const started = new Date().toISOString();
    this.session = { session_id: sweep.random(16), observer, code, wanted, language, consented, started };
    this.keep();
    return true;
  }

  /** Announces the session to the other side. It may know this observer already, and then goes on with that session. */
  async begin() {
    for (let wait = sweep.FIRST_WAIT; !this.stop.signal.aborted; wait = Math.min(2 * wait, sweep.LONGEST_WAIT)) {
      try {
        const begun = await this.exit.begin(this.session);
        if (begun.finished) {
          this.clear();
          this.thank(this.noteEnd(this.ended(begun.session_id, begun.code)));
          return false;
        }
        const { session_id, subject_id, list, started, answered } = begun;
        this.queue.know(session_id, answered);
        this.resumed ||= answered.length > 0;
        this.session = { ...this.session, session_id, subject_id, list, started, begun: true };
        this.keep();
        this.status("");
        return true;
      } catch (error) {
        if (error.final) {
          this.screen("changed_heading", ["changed"]);
          return false;
        }
        this.status(this.words.say("connecting"));
        await sweep.sleep(wait);
      }
    }
    return false;
  }

  keep() {
    this.memory.set("session", this.session);
    this.markTab();
  }

  markTab() {
    this.tabStore("session", this.session.session_id);
  }

  ofThisTab() {
    return this.tabStore("session");
  }

  /** What only this tab remembers, and only until it is closed. */
  tabStore(key, value) {
    const name = `${this.memory.prefix}${key}`;
    try {
      if (value === null) sessionStorage.removeItem(name);
      else if (value !== undefined) sessionStorage.setItem(name, JSON.stringify(value));
      return JSON.parse(sessionStorage.getItem(name));
    } catch {
      return null;
    }
  }

  // Trials ---------------------------------------------------------------------------------------------------------

  trials() {
    return EXPERIMENT.lists[this.session.list - 1];
  }

  async work() {
    const answered = this.queue.answered(this.session.session_id);
    const left = this.trials().filter((trial) => !answered.has(trial.trial_id));
    if (left.length === 0) return;
    this.course = new sweep.Course(this);
    await this.course.run(left);
  }

  /** Keeps an answer, which is sent by and by. */
  answer(trial, data) {
    const other = { a: "b", b: "a" };
    const start = Date.parse(this.session.started);
    this.queue.add({
      kind: "response",
      session_id: this.session.session_id,
      trial_id: trial.trial_id,
      position: trial.position,
      onset: Math.max(0, Math.round(data.onset - start) / 1000),
      response_time_ms: data.response_time_ms,
      side: data.side,
      choice: data.side === "left" ? trial.left_is : other[trial.left_is],
      source: data.source,
      hidden: data.hidden,
      resumed: Boolean(this.resumed),
      image_px: data.image_px,
    });
    this.showProgress();
  }

  showProgress() {
    const { done, all } = this.counts();
    const text = this.words.say("progress", { done, all });
    const bar = document.getElementById("bar");
    document.getElementById("progress").hidden = false;
    document.getElementById("count").textContent = text;
    document.getElementById("done").style.width = `${(100 * done) / all}%`;
    for (const [name, value] of [["valuemax", all], ["valuenow", done], ["label", text]]) {
      bar.setAttribute(`aria-${name}`, value);
    }
  }

  /** Says below the pictures that answers wait, once a try has failed. */
  report() {
    const count = this.queue.waiting.size;
    if (this.sending) this.sending.textContent = this.words.say("sending", { count });
    else this.status(count > 0 && this.queue.failures > 0 ? this.words.say("unsent", { count }) : "");
    this.wake?.();
  }

  status(text) {
    const line = document.getElementById("status");
    if (line.textContent !== text) line.textContent = text;
  }

  // The end --------------------------------------------------------------------------------------------------------

  async end() {
    const { session } = this;
    this.status("");
    this.sending = sweep.element("p", { role: "status" });
    this.screen("sending_heading", [this.sending, "rescue"], { keep: [[this.words.say("save"), () => this.saveFile()]] });
    const finished = new Date().toISOString();
    for (let failures = 0; ; failures += 1) {
      while (this.queue.waiting.size > 0) {
        this.report();
        await new Promise((resolve) => (this.wake = resolve));
      }
      if (this.queue.refused.size > 0) return this.refuse();
      try {
        const done = await this.exit.finish(session, finished);
        if (this.stop.signal.aborted) return undefined;
        const ended = this.ended(session.session_id, done.code);
        if (this.exit.name === "file") return this.thank({ ...ended, file: this.fileText(finished) });
        this.clear();
        return this.thank(this.noteEnd(ended));
      } catch (error) {
        if (error.missing && failures < 3) this.queue.again(session.session_id);
        else if (error.final) return this.refuse();
        else await sweep.sleep(Math.min(sweep.FIRST_WAIT * 2 ** failures, sweep.LONGEST_WAIT));
      }
    }
  }

  refuse() {
    return this.screen("refused_heading", ["refused"], { keep: [[this.words.say("save"), () => this.saveFile()]] });
  }

  /** A fault of this page. What was answered is kept, and a reload goes on from there. */
  broken(error) {
    console.error(error);
    document.getElementById("trials").replaceChildren();
    const keep = [[this.words.say("again"), () => location.reload()]];
    if (this.session?.list) keep.push([this.words.say("save"), () => this.saveFile()]);
    return this.screen("broken_heading", ["broken"], { keep });
  }

  thank(ended) {
    const { words } = this;
    const { element } = sweep;
    document.getElementById("progress").hidden = true;
    this.status("");
    this.tab.state = "idle";
    const shown = (label, text) => element("p", { class: "number" }, `${words.say(label)}: `, element("strong", {}, text));
    const paragraphs = [this.exit.name === "file" ? "end_file" : "end"];
    if (ended.code) paragraphs.push(shown("code", ended.code));
    paragraphs.push(shown("session", ended.session_id), "session_text");
    const keep = [];
    const save = () => ((this.saved = true), sweep.save(this.fileName(ended.session_id), ended.file));
    if (ended.file) keep.push([words.say("save"), save]);
    if (this.exit.name === "jatos") keep.push([words.say("finish"), () => jatos.endStudy()]);
    else if (ended.shared) keep.push([words.say("another"), () => this.next(save)]);
    return this.screen("end_heading", paragraphs, { keep });
  }

  /** What the last page shows. A browser without ids in the address may be one that several observers share. */
  ended(session_id, code) {
    return { session_id, code, shared: !(this.given.observer || this.given.code) };
  }

  /** The end stays on the screen of this tab through a reload, for the code; nothing else of the session is kept. */
  noteEnd(ended) {
    this.tabStore("end", ended);
    return ended;
  }

  /** The end of this tab's session where the page was loaded again, and not opened by somebody else. */
  endedHere() {
    const [navigation] = performance.getEntriesByType("navigation");
    return navigation?.type === "navigate" ? null : this.tabStore("end");
  }

  /** Makes room for the next observer. Answers that are on this device only are saved first. */
  async next(save) {
    if (this.exit.name === "file") {
      if (!this.saved) save();
      await sweep.sleep(500); // the browser has to begin the download
      this.clear();
    }
    this.tabStore("end", null);
    location.reload();
  }

  clear() {
    this.queue.forget(this.session.session_id);
    this.memory.remove("session");
    this.tabStore("session", null);
  }

  fileName(session_id) {
    return `${EXPERIMENT.experiment_id}-${session_id}.jsonl`;
  }

  fileText(finished) {
    const { session } = this;
    const lines = [sweep.header(), sweep.sessionLine(session), ...this.queue.lines(session.session_id)];
    return sweep.asText(finished ? [...lines, sweep.finishLine(session, finished)] : lines);
  }

  saveFile() {
    sweep.save(this.fileName(this.session.session_id), this.fileText(null));
  }

  /** Another tab has taken the study over. */
  lost() {
    this.stop.abort();
    this.queue?.stop();
    this.course?.abort();
    document.getElementById("progress").hidden = true;
    document.getElementById("trials").replaceChildren();
    this.status("");
    this.screen("lost_heading", ["lost"], { keep: [[this.words.say("take"), () => location.reload()]] });
  }
};

sweep.start = (exit) => {
  const experiment = new sweep.Experiment(exit);
  experiment.run().catch((error) => experiment.broken(error));
};

if (window.jatos) jatos.onLoad(() => sweep.start(new sweep.JatosExit()));
else sweep.start(window.EXIT === "collector" ? new sweep.CollectorExit() : new sweep.FileExit());
