"""Which convolutions go to 8 bits: groups, the search, its ledger and its page."""
