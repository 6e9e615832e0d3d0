"""The context pruner: labelled data, training, the sentence head and the retrieval gate."""
