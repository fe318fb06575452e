"""What stored results are shown as: tables, figures, pages."""
