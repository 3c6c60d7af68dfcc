"""SGENet: two U-Nets in a row, whose skips are guided by what they restore."""
