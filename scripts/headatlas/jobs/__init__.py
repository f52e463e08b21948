"""Turns a function into a job: command line, atomic files, progress, forks. Knows nothing about what a job computes."""
