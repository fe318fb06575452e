"""What the studies that settled the defaults say and take; each imports its study when it is called."""
