"""One module per door: the only place that parses arguments or prints."""
