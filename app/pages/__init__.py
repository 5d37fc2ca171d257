"""The pages: each asks one question, and shows what `analysis` answers."""
