"""Speed, side by side with peers: both sides take turns in one process, on one thread."""
