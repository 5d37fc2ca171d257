"""A report: what the pages show first, of any runs, as tables, figures and one index.

Each module of chapters says what one page shows; `chapters.py` lists them.
"""
