"""Heads on cached features, fitted in other ways than by the loop alone: L-BFGS, ridge, and sweeps of a grid."""
