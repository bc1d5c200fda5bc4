"""What a report draws, each figure from the files of its runs."""
