"""The dashboard and the command line: they show what `analysis` computes, and compute nothing."""
