"""The stages of a study: what each writes, what it is made from, and what it costs."""
