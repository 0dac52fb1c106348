"""The report of a comparison: tables, words, plots and the page of `eval.py checkpoint=[a,b]`."""
