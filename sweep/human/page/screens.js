/* Pages of text with buttons, and the words on them. All text enters the document as text, never as HTML. */
"use strict";

/** The words of one language; `{name}` in them is replaced. */
sweep.Words = class {
  constructor(language, values) {
    this.language = language;
    this.values = values;
  }

  say(key, values = {}) {
    const all = { ...this.values, ...values };
    const fill = (text) => text.replace(/\{(\w+)\}/g, (whole, name) => String(all[name] ?? whole));
    const text = TEXTS[this.language][key];
    return Array.isArray(text) ? text.map(fill) : fill(text);
  }
};

/** An element with attributes and children. */
sweep.element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

/**
 * Shows a page of text in `place` and waits for one of its buttons.
 * `paragraphs` are strings or elements; `buttons` are [label, value] pairs; `keep` buttons call a function and stay.
 */
sweep.screen = (place, { heading, paragraphs = [], buttons = [], keep = [], form = null }) =>
  new Promise((resolve) => {
    const { element } = sweep;
    const title = element("h1", { tabindex: "-1" }, heading);
    const body = paragraphs.map((part) => (part instanceof Element ? part : element("p", {}, part)));
    const row = element("div", { class: "buttons" });
    for (const [label, value] of buttons) {
      const button = element("button", { type: "button", class: row.childElementCount ? "" : "first" }, label);
      button.addEventListener("click", () => {
        if (form && !form.accept(value)) return;
        place.replaceChildren();
        resolve(value);
      });
      row.append(button);
    }
    for (const [label, call] of keep) {
      const button = element("button", { type: "button" }, label);
      button.addEventListener("click", call);
      row.append(button);
    }
    const page = element("div", { class: "text" }, title, ...body, ...(form ? [form.element] : []), row);
    place.replaceChildren(page);
    scrollTo(0, 0);
    title.focus({ preventScroll: true });
  });

/** A field for a short code, for `screen`. Enter in it presses the first button. */
sweep.codeField = (words) => {
  const { element } = sweep;
  const input = element("input", { id: "code", type: "text", autocomplete: "off", autocapitalize: "off", maxlength: "64" });
  input.spellcheck = false;
  const problem = element("p", { id: "code-problem", role: "alert" });
  input.setAttribute("aria-describedby", "code-problem");
  const field = element("div", { class: "field" }, element("label", { for: "code" }, words.say("code_label")), input, problem);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") field.parentElement.querySelector("button").click();
  });
  return {
    element: field,
    value: () => input.value.trim(),
    accept: () => {
      const right = /^[A-Za-z0-9_-]{0,64}$/.test(input.value.trim());
      problem.textContent = right ? "" : words.say("code_wrong");
      input.setAttribute("aria-invalid", String(!right));
      if (!right) input.focus();
      return right;
    },
  };
};

/** A page of text as a step of jsPsych's timeline. `page` is called when its turn comes. */
sweep.ScreenPlugin = class {
  static info = {
    name: "sweep-screen",
    version: "1",
    parameters: { page: { type: jsPsychModule.ParameterType.FUNCTION, default: undefined } },
    data: {},
  };

  constructor(jsPsych) {
    this.jsPsych = jsPsych;
  }

  async trial(place, trial) {
    await sweep.screen(place, trial.page());
    return {};
  }
};
