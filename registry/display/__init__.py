"""Records as people read them: the words and numbers of commands, web page and Python."""
