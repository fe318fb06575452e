"""What the commands do when they run, one a file by the same name, and what they share."""
