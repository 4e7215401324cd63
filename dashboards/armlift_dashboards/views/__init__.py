"""The pages, one module each: `show` writes a page of a source."""
