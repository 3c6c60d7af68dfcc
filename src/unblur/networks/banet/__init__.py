"""BANet and BANet+ (Tsai et al., IEEE TIP 2022): the network, and its exact export form."""
