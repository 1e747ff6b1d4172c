"""A finished run as a file that somebody serves without backbone-zoo, and the card that says what it is."""
