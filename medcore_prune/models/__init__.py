"""SAMs and how they are run: families and their blocks, groups of units, the protocol, losses, what tells two apart."""
