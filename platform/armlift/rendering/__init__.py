"""The report written out: for the terminal, and as HTML with a forest plot."""
