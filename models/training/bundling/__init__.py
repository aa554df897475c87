"""From trained networks to a bundle: ensemble weights, limits, card."""
