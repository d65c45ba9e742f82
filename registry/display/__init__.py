"""Records formatted for people: shared by the commands, the web page and the Python interface."""
