/* A trial: one picture above, two below, and the one below that looks more like it is chosen. */
"use strict";

/** Milliseconds after the pictures appear in which nothing counts: the second half of a double click, a held key. */
sweep.DEAF_MS = 200;

/** Physical keys by their code, so that they work on every layout; the characters stand in where a code is missing. */
sweep.sideOfKey = (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return null;
  const codes = { KeyF: "left", ArrowLeft: "left", KeyJ: "right", ArrowRight: "right" };
  const characters = { f: "left", ArrowLeft: "left", j: "right", ArrowRight: "right" };
  return (event.code ? codes[event.code] : characters[event.key]) ?? null;
};

/** The next frame, by the time at which it began. */
sweep.frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

sweep.ChoicePlugin = class {
  static info = {
    name: "sweep-choice",
    version: "1",
    parameters: {
      target: { type: jsPsychModule.ParameterType.IMAGE, default: undefined },
      left: { type: jsPsychModule.ParameterType.IMAGE, default: undefined },
      right: { type: jsPsychModule.ParameterType.IMAGE, default: undefined },
      words: { type: jsPsychModule.ParameterType.FUNCTION, default: undefined },
      stop: { type: jsPsychModule.ParameterType.FUNCTION, default: undefined },
    },
    data: {
      side: { type: jsPsychModule.ParameterType.STRING },
      source: { type: jsPsychModule.ParameterType.STRING },
      onset: { type: jsPsychModule.ParameterType.FLOAT },
      response_time_ms: { type: jsPsychModule.ParameterType.FLOAT },
      hidden: { type: jsPsychModule.ParameterType.BOOL },
      image_px: { type: jsPsychModule.ParameterType.FLOAT },
    },
  };

  constructor(jsPsych) {
    this.jsPsych = jsPsych;
  }

  /** Shows the pictures once all are decoded; ends with what was chosen, or with nothing where the study was stopped. */
  async trial(place, trial) {
    const over = new AbortController();
    const [signal, stopped, words] = [over.signal, trial.stop(), trial.words()];
    const view = this.draw(words, trial);
    place.replaceChildren(view.question, view.note, view.pictures);

    let hidden = document.hidden;
    document.addEventListener("visibilitychange", () => (hidden ||= document.hidden), { signal });
    const focus = () => (view.note.hidden = document.hasFocus());
    for (const name of ["focus", "blur"]) addEventListener(name, focus, { signal });
    focus();

    const answered = new Promise((resolve) => {
      let onset = Infinity;
      const answer = (side, source, event) => {
        const time = Math.min(event.timeStamp, performance.now()) - onset;
        if (signal.aborted || !(time >= sweep.DEAF_MS)) return;
        const width = view.pictures.querySelector(".option img").getBoundingClientRect().width;
        over.abort();
        resolve({
          side,
          source,
          onset: performance.timeOrigin + onset,
          response_time_ms: Math.round(time * 10) / 10,
          hidden,
          image_px: Math.round(width * 10) / 10,
        });
      };
      this.listen(view.pictures, answer, signal);
      stopped.addEventListener("abort", () => (over.abort(), resolve({})), { signal });
      this.show(view.pictures).then((time) => (onset = time));
    });
    const result = await answered;
    place.replaceChildren();
    return result;
  }

  draw(words, trial) {
    const { element } = sweep;
    const option = (side, key) =>
      element(
        "button",
        { type: jsPsychModule.ParameterType.button, class: "option", "data-side": side },
        element("img", { src: trial[side], alt: words.say(side), draggable: "false" }),
        element("span", { class: "key", "aria-hidden": "true" }, key),
      );
    return {
      question: element("h1", { id: "question" }, words.say("question")),
      note: element("p", { class: "note" }, words.say("focus")),
      pictures: element(
        "div",
        { class: "pictures unseen" },
        element("img", { class: "target", src: trial.target, alt: words.say("target"), draggable: "false" }),
        element(
          "div",
          { class: "options", role: "group", "aria-labelledby": "question" },
          option("left", "F"),
          option("right", "J"),
        ),
      ),
    };
  }

  /** Shows the pictures in one frame; resolves with the time of the first frame after it, when they are on the screen. */
  async show(pictures) {
    const images = [...pictures.querySelectorAll("img")];
    // A picture that cannot be decoded was loaded all the same; it must not hold the observer up for ever.
    await Promise.all(images.map((image) => image.decode().catch(() => {})));
    await sweep.frame();
    pictures.classList.remove("unseen");
    return sweep.frame();
  }

  /** Keys on the whole document, wherever the focus is; the mouse, a finger or a pen on the pictures. */
  listen(pictures, answer, signal) {
    document.addEventListener(
      "keydown",
      (event) => {
        const side = sweep.sideOfKey(event);
        if (!side) return;
        event.preventDefault();
        answer(side, "key", event);
      },
      { signal },
    );
    let pointer = "mouse"; // older browsers tell the kind of pointer only when it goes down
    pictures.addEventListener("pointerdown", (event) => (pointer = event.pointerType || pointer), { signal });
    for (const option of pictures.querySelectorAll(".option")) {
      option.addEventListener(
        "click",
        (event) => {
          // Enter and the space bar press a button as a click without count.
          const source = event.detail === 0 ? "key" : event.pointerType || pointer;
          answer(option.dataset.side, source, event);
        },
        { signal },
      );
    }
  }
};
