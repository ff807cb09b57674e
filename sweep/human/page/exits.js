/* Where answers go: to the collector, to JATOS, or into a file that the observer saves. All three take the same lines. */
"use strict";

/** Milliseconds after which a request counts as lost. It is sent again; what arrived twice is stored once. */
sweep.REQUEST_MS = 8000;

sweep.header = () => ({ kind: "experiment", experiment_id: EXPERIMENT.experiment_id, version: 1 });
sweep.sessionLine = (session) => ({
  kind: "session",
  session_id: session.session_id,
  subject_id: session.subject_id,
  list: session.list,
  consented: session.consented,
  started: session.started,
});
sweep.finishLine = (session, finished) => ({ kind: "finish", session_id: session.session_id, finished });
sweep.asText = (lines) => lines.map((line) => `${JSON.stringify(line)}\n`).join("");

/** What a session is where nobody hashes: a code that was typed in names its observer; an id of a marketplace stays out. */
sweep.ownPseudonym = (session) => session.code || session.session_id;

/** A list by chance, or the one that the address names. */
sweep.ownList = (wanted) => {
  const lists = EXPERIMENT.lists.length;
  const number = Number(wanted);
  return Number.isInteger(number) && number >= 1 && number <= lists
    ? number
    : 1 + (parseInt(sweep.random(6), 16) % lists); // of 48 bits, so that no list is likelier by a visible amount
};

sweep.CollectorExit = class {
  name = "collector";

  /** Posts JSON; the answer as an object. An error is `final` where the server read the request and refused it. */
  async post(path, content) {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), sweep.REQUEST_MS);
    try {
      const response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(content),
        signal: late.signal,
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
      const answer = await response.json();
      if (response.ok) return answer;
      const refused = response.status >= 400 && response.status < 500 && ![408, 429].includes(response.status);
      throw Object.assign(new Error(answer.error), { ...answer, status: response.status, final: refused });
    } finally {
      clearTimeout(timer);
    }
  }

  async begin(session) {
    const { session_id, consented, started } = session;
    const observer = session.code ? `code:${session.code}` : session.observer;
    const experiment_id = EXPERIMENT.experiment_id;
    return this.post("api/session", { experiment_id, session_id, observer, consented, started });
  }

  async send(lines) {
    await this.post("api/responses", { responses: lines });
  }

  /** A last attempt while the page goes away. Whether it arrived cannot be seen, so the answers are kept as well. */
  beacon(lines) {
    const body = JSON.stringify({ responses: lines });
    navigator.sendBeacon?.("api/responses", new Blob([body], { type: "application/json" }));
  }

  async finish(session, finished) {
    return this.post("api/finish", { session_id: session.session_id, finished });
  }
};

sweep.JatosExit = class {
  name = "jatos";

  async begin(session) {
    const begun = { ...session, subject_id: sweep.ownPseudonym(session), list: sweep.ownList(session.wanted) };
    await jatos.appendResultData(sweep.asText([sweep.header(), sweep.sessionLine(begun)]));
    return { ...begun, answered: [] };
  }

  async send(lines) {
    await jatos.appendResultData(sweep.asText(lines));
  }

  beacon() {} // jatos.js sends from a worker and holds the page itself

  async finish(session, finished) {
    await jatos.appendResultData(sweep.asText([sweep.finishLine(session, finished)]));
    return {};
  }
};

sweep.FileExit = class {
  name = "file";

  async begin(session) {
    return {
      ...session,
      subject_id: sweep.ownPseudonym(session),
      list: sweep.ownList(session.wanted),
      answered: [],
    };
  }

  async send() {} // they stay where they are until the end

  beacon() {}

  async finish() {
    return {};
  }
};

/** Hands the observer a file. */
sweep.save = (name, text) => {
  const address = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  sweep.element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
};
