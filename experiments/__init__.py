"""Experiments with astrom3: each is one command; results and failures are in LOG.md."""
