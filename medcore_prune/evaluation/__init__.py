"""How good masks and contours are, what it costs, and how sure that is."""
