"""Floor 1: decisions, prices and estimates. Pure: plain values in, plain values out."""
