"""reports/index.html: one file to look at, which needs no network."""
