"""`guestsim show --html`: a trace as one page that needs nothing else, to be looked at in a browser."""
