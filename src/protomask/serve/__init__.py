"""An HTTP server over the predictors: a queue per model, worker processes, and the answers in several formats."""
