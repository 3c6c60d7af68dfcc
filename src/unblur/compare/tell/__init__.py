"""Table, sentences, page and files of a report."""
