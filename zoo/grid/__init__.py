"""Many runs, each in a process of its own, whose outcomes are rows of a file: sweeps, comparisons, benchmarks."""
