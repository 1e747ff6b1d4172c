"""The engine: strategies merged, optimiser, loop."""
