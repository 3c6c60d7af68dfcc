"""SAPHN (Suin et al., CVPR 2020): the network, and its exact export form."""
