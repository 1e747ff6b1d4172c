"""The table of samples: roles, files, holes, splits, decoding and the stores of decoded images."""
