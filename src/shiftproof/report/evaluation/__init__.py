"""The page of an evaluation: accuracies on test sets, and how close a training set comes to them."""
