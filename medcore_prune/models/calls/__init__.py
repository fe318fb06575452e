"""What a call does before it touches a model: no altered model, no second thread, nothing of the block around it."""
