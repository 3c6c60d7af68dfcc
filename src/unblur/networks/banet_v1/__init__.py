"""BA-Net v1 (Tsai et al., arXiv 2101.07518v1, 2021): the network before BANet, and its exact export form."""
