"""Boundary leverage (Table 4): the sweep, its summary, tables and figures."""
