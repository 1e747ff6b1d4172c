"""Networks: the uniform view, heads, and freezing that freezes."""
