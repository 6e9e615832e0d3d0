"""Plans: generators that decide which comparisons to ask for. They know no model, no prompt and no thread."""
