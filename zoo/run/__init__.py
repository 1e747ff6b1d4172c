"""The run folder: a versioned artifact, and the one inference pipeline that reads it."""
