/* The trials of a session on jsPsych's timeline: loading, choices, and rests between blocks. */
"use strict";

/** Milliseconds between a choice and the next pictures. */
sweep.PAUSE_MS = 300;
/** Milliseconds after which a picture that does not come counts as missing. */
sweep.LOAD_MS = 60000;

sweep.Course = class {
  /** `experiment` has the words, the counts, and takes the answers. */
  constructor(experiment) {
    this.experiment = experiment;
    this.jsPsych = initJsPsych({
      display_element: document.getElementById("trials"),
      override_safe_mode: true, // there is neither sound nor video
      use_webaudio: false,
    });
  }

  /** Shows the trials that are `left`, block by block. */
  async run(left) {
    const numbers = [...new Set(left.map((trial) => trial.block))];
    const blocks = numbers.map((number) => left.filter((trial) => trial.block === number));
    const timeline = [{ type: sweep.ScreenPlugin, page: () => this.firstPage() }];
    blocks.forEach((block, index) => {
      if (index > 0) timeline.push({ type: sweep.ScreenPlugin, page: () => this.breakPage(numbers[index - 1]) });
      timeline.push(this.loading(block), ...block.map((trial) => this.step(trial)));
    });
    await this.jsPsych.run(timeline);
  }

  abort() {
    this.jsPsych.abortExperiment();
  }

  firstPage() {
    const { words } = this.experiment;
    const buttons = [[words.say("begin"), true]];
    const counts = this.experiment.counts();
    const what = words.say("instructions");
    if (this.experiment.resumed) {
      const paragraphs = [words.say("resume", counts), ...what];
      return { heading: words.say("resume_heading"), paragraphs, buttons: [[words.say("next"), true]] };
    }
    const paragraphs = counts.practice ? [...what, words.say("practice_note", counts)] : what;
    return { heading: words.say("instructions_heading"), paragraphs, buttons };
  }

  breakPage(before) {
    const { words } = this.experiment;
    const [heading, text] = before === 0 ? ["practice_over_heading", "practice_over"] : ["break_heading", "break"];
    const buttons = [[words.say("next"), true]];
    return { heading: words.say(heading), paragraphs: [words.say(text, this.experiment.counts())], buttons };
  }

  /** Loads the pictures of a block, and asks to try again until all are there. */
  loading(block) {
    const images = this.images(block);
    const missing = new Set();
    let complete = false;
    const preload = {
      type: jsPsychPreload,
      images,
      message: sweep.element("p", {}, this.experiment.words.say("loading")).outerHTML,
      show_progress_bar: false,
      show_detailed_errors: false,
      continue_after_error: true,
      max_load_time: sweep.LOAD_MS,
      on_start: () => {
        missing.clear();
        for (const image of images) missing.add(image);
      },
      on_success: (image) => missing.delete(image),
      on_finish: (data) => {
        complete = data.success && missing.size === 0;
        if (complete) this.fetchAhead();
      },
    };
    const failed = {
      timeline: [
        {
          type: sweep.ScreenPlugin,
          page: () => ({
            heading: this.experiment.words.say("failed_heading"),
            paragraphs: [this.experiment.words.say("failed", { failed: missing.size, all: images.length })],
            buttons: [[this.experiment.words.say("again"), true]],
          }),
        },
      ],
      conditional_function: () => !complete,
    };
    return { timeline: [preload, failed], loop_function: () => !complete };
  }

  /** Asks for the pictures of all blocks while the first is worked on, so that a server may be away at a break. */
  fetchAhead() {
    this.ahead ??= this.images(this.experiment.trials()).map((name) => Object.assign(new Image(), { src: name }));
  }

  images(trials) {
    return [...new Set(trials.flatMap((trial) => [trial.target, trial.left, trial.right]))];
  }

  step(trial) {
    return {
      type: sweep.ChoicePlugin,
      target: trial.target,
      left: trial.left,
      right: trial.right,
      words: () => this.experiment.words,
      stop: () => this.experiment.stop.signal,
      post_trial_gap: sweep.PAUSE_MS,
      on_finish: (data) => data.side && this.experiment.answer(trial, data),
    };
  }
};
