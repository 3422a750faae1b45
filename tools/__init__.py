"""Short programs that look after the book: each does one job."""
