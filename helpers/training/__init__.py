"""Training: what it is (`config`), `pairs` from photographs, the `loop`, `checkpoint`s, the `command`."""
