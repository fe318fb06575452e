"""What the commands of `medcore-bench` say and take, one a file; what they run is imported when they are called."""
