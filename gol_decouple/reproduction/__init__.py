"""Published tables, made again: what is run for them, how, and the papers' figures beside what came out."""
