"""The promises of the book, one file a module, and what they share."""
