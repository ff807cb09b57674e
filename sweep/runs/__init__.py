"""One run of a study: the loop over its stages, who holds it, how it ends, what failed, what is damaged."""
