"""The sparse encoder on the embedded MiniLM: data, training and the card."""
