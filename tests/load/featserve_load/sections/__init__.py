"""The sections of RESULTS.md, one module each: a function of the options gives the lines."""
