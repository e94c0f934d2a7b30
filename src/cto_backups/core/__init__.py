"""Pure nouns and verdicts: no input, no output, and `now` is always an argument."""
