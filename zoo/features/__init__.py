"""From images to features: the frozen prefix made fast, and the cache of what it computes."""
