"""Finding a server or starting one, and talking to it: what the notebook and the terminal share."""
