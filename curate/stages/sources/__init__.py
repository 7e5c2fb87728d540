"""Sources, and the partitioner that cuts their records into batches."""
