"""Two codecs and their file format: `trained` once for all pictures, `fitted` to each picture."""
