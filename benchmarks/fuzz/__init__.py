"""Fuzzers: inputs made of a corpus, each with a limit of time and memory: slow is a finding, too."""
