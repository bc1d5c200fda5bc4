"""What is wrong with features files, checkpoints and runs, by the readers that the stages use; changes nothing."""
