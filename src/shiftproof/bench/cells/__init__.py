"""From a dataset to the records of a cell: views, streams, batches, episodes, sharing."""
