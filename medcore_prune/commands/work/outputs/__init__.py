"""What commands write: what is there already, and what is told of it."""
